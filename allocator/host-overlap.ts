// A host has one route to an address. If two networks with hostAccess, or with IPv6 that is routed, had the same address on one
// host, a kubelet's probes and other traffic for a tenant would reach another tenant (docs/adr/0037, 0055). So their subnets
// must not overlap; where they do already, a host gets no address that another of them has there.

import { hostRoutedSubnets, subnetsOf } from '#model/addresses.ts'
import type { Refusal } from '#model/command.ts'
import type { NetworkName, PeerId } from '#model/ids.ts'
import { formatIp, formatSubnet, type Ip } from '#model/ip.ts'
import type { Network } from '#model/network.ts'
import { ownerOf, type NetworkTable } from './network-table.ts'
import { refuse } from './refuse.ts'
import type { Tables } from './tables.ts'

type Claim = Pick<Network, 'name' | 'subnet' | 'subnet6' | 'egress' | 'egressV6' | 'hostAccess'>

/** Other networks that the host reaches by addresses of this one's subnets. */
export function rivalsOf(tables: Tables, claim: Claim): readonly NetworkTable[] {
  const overlapping = new Set(hostRoutedSubnets(claim).flatMap(subnet => tables.hostRouted.overlapping(subnet)))
  overlapping.delete(claim.name)
  const rivals = [...overlapping]
  return rivals.map(rival => tables.networks.get(rival)).filter(table => table !== undefined)
}

/** Why the network must not come into being, or be changed to this; null if it may. */
export function refuseOverlap(tables: Tables, network: Claim, field = 'subnet'): Refusal | null {
  const [rival] = rivalsOf(tables, network)
  return rival === undefined
    ? null
    : refuse('ERR_ADDRESS_IN_USE', `${field}: ${overlap(network, rival.network)}`, field)
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

/** The network that already has one of the addresses on the host; undefined if none does. */
export function holderOnHost(
  rivals: readonly NetworkTable[],
  { host, addresses }: { readonly host: PeerId; readonly addresses: readonly Ip[] }
): Network | undefined {
  return rivals.find(rival => addresses.some(address => ownerOf(rival, address)?.host === host))?.network
}

export function refuseHeld(address: Ip, holder: Network): Refusal {
  const too = holder.hostAccess ? 'which has hostAccess, too' : 'whose IPv6 is routed'
  const what = `${formatIp(address)} is reached from this host in network ${holder.name}, ${too}`
  return refuse('ERR_ADDRESS_IN_USE', `address: ${what}`, 'address')
}

function overlap(one: Claim, other: Claim): string {
  const text = (claim: Claim): string => subnetsOf(claim).map(formatSubnet).join(' and ')
  const why =
    one.hostAccess && other.hostAccess ? 'both have hostAccess' : 'their hosts have routes to the containers of both'
  return `${text(one)}, overlaps ${text(other)} of network ${other.name}: ${why}`
}
