// Addresses of containers and hosts, as those who forge packets need them.

import { parseIpv4 } from '#model/ipv4.ts'
import { parseMac, type Mac } from '#model/mac.ts'
import { json } from '../lab/kernel.ts'
import type { Party } from '../lab/packets/attacks.ts'
import type { Name, World } from './world.ts'

export type Link = { readonly ifindex: number; readonly mac: Mac }

export async function linkOf({ namespace }: { readonly namespace: string }, ifname = 'eth0'): Promise<Link> {
  const [row] = await json<{ ifindex: number; address: string }>('ip', namespace, `link show dev ${ifname}`)
  if (row === undefined) throw new Error(`no ${ifname} in ${namespace}`)
  return { ifindex: row.ifindex, mac: parseMac(row.address) }
}

/** An attached container's MAC and address. */
export function partyOf(world: World, name: Name): Party {
  return { mac: parseMac(world.endpoint(name).mac), address: parseIpv4(world.address(name)) }
}
