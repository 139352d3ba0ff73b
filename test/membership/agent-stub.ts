// An agent's membership in a process of its own, for a test that kills it: prints Serf's pid once it is there.

import { Membership } from '#membership/serf/membership.ts'
import { optionsOf } from './options.ts'

const membership = new Membership(optionsOf(Number(process.argv[2]), process.argv[3] ?? ''))
await membership.start()
console.log(membership.serfPid)
