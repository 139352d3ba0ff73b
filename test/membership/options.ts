// Hosts h1, h2, ... on loopback addresses of one namespace.

import type { MembershipOptions } from '#membership/serf/membership.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { systemRandom } from '#platform/random.ts'
import { tags } from './fixtures.ts'

export function optionsOf(n: number, dataDir: string): MembershipOptions {
  return {
    name: `h${n}`,
    bind: parseIpv4(`127.0.0.${n}`),
    port: 7_946,
    rpcPort: 7_372 + n,
    encryptKey: Buffer.alloc(32, 7),
    rpcAuth: null,
    tags: tags(n),
    join: [],
    binary: 'serf',
    dataDir,
    clock: systemClock,
    random: systemRandom,
    logger: createLogger('silent')
  }
}
