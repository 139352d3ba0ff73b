// The part of the model for addresses that nobody noted: that of a station's MAC. The programs go from the address that is asked
// for to the MAC; here each station says which addresses it has. Pure.

import type { Tables } from './model.ts'

type Hex = string

/** Addresses in a row, from `base` on; MACs have the numbers from `first` on for them. */
export type ToldAddresses = { readonly base: Hex; readonly first: number; readonly count: number }

/** The MAC of the station of this network that says it has this address. */
export function tellerOfIpv4(tables: Tables, network: number, asked: number): Hex | undefined {
  return tellerOf(tables, network, 'ipv4', number => number === asked)
}

/** The same for 32 digits. */
export function tellerOfIpv6(tables: Tables, network: number, asked: Hex): Hex | undefined {
  const told = tables.networks.get(network)?.told
  if (told === undefined) return undefined
  return tellerOf(tables, network, 'ipv6', number => {
    const at = number - told.first
    return at >= 0 && at < told.count && ipv6At(told.base, at) === asked
  })
}

/** So many addresses after this one. */
export function ipv6At(base: Hex, at: number): Hex {
  return BigInt.asUintN(128, BigInt(`0x${base}`) + BigInt(at))
    .toString(16)
    .padStart(32, '0')
}

/** The number in a MAC, which the network's last octet precedes: null in one of another kind. */
export function numberIn(mac: Hex, network: number): number | null {
  const head = `02${(network % 256).toString(16).padStart(2, '0')}`
  return mac.startsWith(head) ? Number.parseInt(mac.slice(4), 16) : null
}

function tellerOf(
  { stations }: Tables,
  network: number,
  family: 'ipv4' | 'ipv6',
  isAsked: (number: number) => boolean
): Hex | undefined {
  for (const [key, { tells = [] }] of stations) {
    const [of, mac = ''] = key.split(' ')
    const number = numberIn(mac, network)
    if (Number(of) === network && tells.includes(family) && number !== null && isAsked(number)) return mac
  }
  return undefined
}
