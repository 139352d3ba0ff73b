// A membership in a process of its own, for tests that kill it. Prints Serf's pid once started.

import { Membership } from '#membership/serf/membership.ts'
import { optionsOf } from './options.ts'

const membership = new Membership(optionsOf(Number(process.argv[2]), process.argv[3] ?? ''))
await membership.start()
console.log(membership.serfPid)
