// What others do while one container floods: another tenant and the host, to the outside and across hosts.

import { countReplies } from '../lab/ping.ts'
import { attacker } from './python.ts'
import { IPV4, type Side } from './side.ts'
import { ECHO, type World } from './world.ts'

/** Of each kind. */
export const PROBES = 10

export type Probe = { readonly what: string; readonly answered: number }

/** What others do while a container floods: each probe by TCP, UDP or ping. */
export async function probe(world: World, side: Side = IPV4): Promise<readonly Probe[]> {
  const tenant = world.container(side.tenant)
  const count = async (what: string, from: { readonly namespace: string }, to: string): Promise<Probe[]> => [
    { what: `${what} TCP`, answered: await attacker<number>(from, 'connect', to, ECHO, PROBES) },
    { what: `${what} UDP`, answered: await attacker<number>(from, 'datagrams', to, ECHO, PROBES) },
    { what: `${what} ping`, answered: await countReplies(from, to, { count: PROBES }) }
  ]
  const all = await Promise.all([
    count('another tenant to the outside', tenant, side.server),
    count('another tenant across hosts', tenant, side.address(world, side.farTenant)),
    count('the host to the outside', world.host(1), side.server)
  ])
  return all.flat()
}

/** The probes that were not all answered. */
export function lost(all: readonly Probe[]): Probe[] {
  return all.filter(({ answered }) => answered < PROBES)
}

export function describe(some: readonly Probe[]): string {
  if (some.length === 0) return `all probes ${PROBES} of ${PROBES}`
  return some.map(({ what, answered }) => `${what} ${answered} of ${PROBES}`).join(', ')
}
