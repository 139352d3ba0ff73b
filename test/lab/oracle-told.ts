// The oracle's rules for what a MAC tells (docs/datapath.md): an endpoint that asked for none has one that its address follows from.

import type { EndpointView, NetworkView } from '#model/views.ts'
import { parseIp } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { numberOfIpv6, parseIpv6 } from '#model/ipv6.ts'
import { lowBitsOf, macOf } from '#model/mac.ts'
import { parseVni } from '#model/ids.ts'

/** An IPv6 address has the number of the address that it mirrors; in a network of IPv6 alone those of the pool have their own. */
type Told = { readonly base: string; readonly first: number; readonly count: number }

function toldOf({ subnets }: NetworkView): Told | null {
  const [[first, bits] = ['', 0] as const, second] = subnets.map(subnet => {
    const [base = '', length] = subnet.split('/')
    return [base, (base.includes(':') ? 128 : 32) - Number(length)] as const
  })
  const base = second?.[0] ?? first
  if (!base.includes(':')) return null
  return { base, first: lowBitsOf(parseIp(first)), count: 2 ** (second === undefined ? Math.min(bits, 24) : bits) }
}

export function isTold(network: NetworkView, { mac }: EndpointView, address: string): boolean {
  const number = numberOf(network, address)
  return number !== null && mac === macOf(parseVni(network.vni), number as Ipv4)
}

function numberOf(network: NetworkView, address: string): number | null {
  if (!address.includes(':')) return lowBitsOf(parseIp(address))
  const told = toldOf(network)
  if (told === null) return null
  const at = numberOfIpv6(parseIpv6(address)) - numberOfIpv6(parseIpv6(told.base))
  return at < 0n || at >= told.count ? null : told.first + Number(at)
}

/** Of a network's entry. */
export function toldText(network: NetworkView): string {
  const { count, base, first } = toldOf(network) ?? { count: 0, base: '::', first: 0 }
  return `told: ${count} from ${base} as ${first}`
}
