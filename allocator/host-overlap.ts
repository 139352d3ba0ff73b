// A host has one route to an address. If two networks with hostAccess had the same address on one host, a kubelet's probes
// and other traffic of the host for a tenant would reach another tenant (docs/adr/0037). So their subnets must not overlap;
// where they do already, a host gets no address that another of them has there.

import type { Refusal } from '#model/command.ts'
import type { NetworkName, PeerId } from '#model/ids.ts'
import { formatIp, formatSubnet, type Ip } from '#model/ip.ts'
import type { Network } from '#model/network.ts'
import { refuse } from './refuse.ts'
import type { NetworkTable, Tables } from './tables.ts'

type Claim = Pick<Network, 'name' | 'subnet' | 'hostAccess'>

/** Other networks that the host reaches by addresses of this one's subnet. */
export function rivalsOf(tables: Tables, { name, subnet, hostAccess }: Claim): readonly NetworkTable[] {
  if (!hostAccess) return []
  const rivals = tables.hostAccess.overlapping(subnet).filter(rival => rival !== name)
  return rivals.map(rival => tables.networks.get(rival)).filter(table => table !== undefined)
}

/** Why the network must not come into being; null if it may. */
export function refuseOverlap(tables: Tables, network: Claim): Refusal | null {
  const [rival] = rivalsOf(tables, network)
  return rival === undefined
    ? null
    : refuse('ERR_ADDRESS_IN_USE', `subnet: ${overlap(network, rival.network)}`, 'subnet')
}

/** Why a namespace must not get one of these networks; null if it may. */
export function refuseOverlappingGrant(tables: Tables, names: readonly NetworkName[]): Refusal | null {
  for (const name of names) {
    const network = tables.networks.get(name)?.network
    const [rival] = network === undefined ? [] : rivalsOf(tables, network)
    if (network === undefined || rival === undefined) continue
    const what = `the subnet of network ${name}, ${overlap(network, rival.network)}`
    return refuse('ERR_ADDRESS_IN_USE', `network: ${what}`, 'network')
  }
  return null
}

/** The network that already has the address on the host; undefined if none does. */
export function holderOnHost(
  rivals: readonly NetworkTable[],
  p: { readonly host: PeerId; readonly address: Ip }
): Network | undefined {
  return rivals.find(({ byAddress }) => byAddress.get(p.address)?.host === p.host)?.network
}

export function refuseHeld(address: Ip, holder: Network): Refusal {
  const what = `${formatIp(address)} is reached from this host in network ${holder.name}, which has hostAccess, too`
  return refuse('ERR_ADDRESS_IN_USE', `address: ${what}`, 'address')
}

function overlap(one: Claim, other: Claim): string {
  return `${formatSubnet(one.subnet)}, overlaps ${formatSubnet(other.subnet)} of network ${other.name}: both have hostAccess`
}
