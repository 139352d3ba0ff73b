// The answers about a network's own names: NAME.NETWORK.ZONE, and the addresses of its subnets. The whole zone is answered here and
// nothing of it is ever forwarded, so that a name of another network does not exist. Pure.

import type { Answer } from 'dns-packet'
import { FULL_NAME_MAX } from '#model/dns-name.ts'
import type { NetworkName } from '#model/ids.ts'
import { formatIp, isIpv4, parseIp, subnetContains, type Ip, type Subnet } from '#model/ip.ts'
import type { Query } from './query.ts'
import type { Reply } from './reply.ts'
import { RCODES } from './wire.ts'

/** What a name of the network stands for. */
export type Named = {
  /** Without duplicates. */
  readonly addresses: readonly Ip[]
}

/** What the names of networks stand for now. Names are in lower case and relative to the network. */
export type NamesView = {
  /** Null: there is no such name. */
  readonly lookup: (network: NetworkName, name: string) => Named | null
  /** The name of an address; null: there is none. */
  readonly nameOf: (network: NetworkName, address: Ip) => string | null
}

export type OwnNames = {
  readonly network: NetworkName
  readonly subnets: readonly Subnet[]
  readonly zone: string
  readonly view: NamesView
}

/** Answers come from this host's memory at any time, so a copy that a client keeps could only be out of date. */
const TTL_S = 0

/** Null: the name is none of ours. */
export function answerOwn(own: OwnNames, query: Query): Reply | null {
  const { name, isInternet } = query
  if (name === null) return isBelow(query, own.zone) ? negative(own, RCODES.noName) : null
  if (!isInternet) return isIn(own.zone, name) ? { rcode: RCODES.refused } : null
  const address = addressIn(name)
  if (address !== null)
    return own.subnets.some(one => subnetContains(one, address)) ? answerAddress(own, query, address) : null
  if (!isIn(own.zone, name)) return isShort(query) ? { rcode: RCODES.noName } : null
  const domain = `${own.network}.${own.zone}`
  if (name === own.zone || name === domain) return answerApex(own, query)
  if (!isIn(domain, name)) return negative(own, RCODES.noName)
  const found = own.view.lookup(own.network, name.slice(0, -domain.length - 1))
  if (found === null) return negative(own, RCODES.noName)
  const addresses = found.addresses.filter(one => isAsked(query, isIpv4(one) ? 'A' : 'AAAA'))
  if (addresses.length === 0) return negative(own, RCODES.ok)
  // The order differs from query to query, so that clients that take the first one do not all take the same.
  const first = query.id % addresses.length
  const turned = [...addresses.slice(first), ...addresses.slice(0, first)]
  return positive(turned.map(one => ({ type: isIpv4(one) ? 'A' : 'AAAA', name, ttl: TTL_S, data: formatIp(one) })))
}

function answerAddress(own: OwnNames, query: Query, address: Ip): Reply {
  const found = own.view.nameOf(own.network, address)
  const target = `${found}.${own.network}.${own.zone}`
  if (found === null || target.length > FULL_NAME_MAX) return negative(own, RCODES.noName)
  if (!isAsked(query, 'PTR')) return negative(own, RCODES.ok)
  return positive([{ type: 'PTR', name: query.name ?? '', ttl: TTL_S, data: target }])
}

function answerApex(own: OwnNames, query: Query): Reply {
  return query.type === 'SOA' && query.name === own.zone ? positive([soa(own)]) : negative(own, RCODES.ok)
}

function isAsked({ type }: Query, one: 'A' | 'AAAA' | 'PTR'): boolean {
  return type === one || type === 'ANY'
}

function positive(answers: readonly Answer[]): Reply {
  return { rcode: RCODES.ok, isAuthoritative: true, answers }
}

/** With the zone's SOA, whose minimum says how long that may be remembered (RFC 2308 section 3). */
function negative(own: OwnNames, rcode: typeof RCODES.ok | typeof RCODES.noName): Reply {
  return { rcode, isAuthoritative: true, authorities: [soa(own)] }
}

function soa({ zone }: OwnNames): Answer {
  const times = { serial: 1, refresh: 3_600, retry: 600, expire: 86_400, minimum: TTL_S }
  return {
    type: 'SOA',
    name: zone,
    ttl: TTL_S,
    data: { mname: `resolver.${zone}`, rname: `hostmaster.${zone}`, ...times }
  }
}

function isIn(domain: string, name: string): boolean {
  return name === domain || name.endsWith(`.${domain}`)
}

/**
 * A short name for which no search domain was right. It has no address anywhere (RFC 7085), but C libraries ask for it last, and
 * would have to wait for an upstream resolver to say so.
 */
function isShort({ name, type }: Query): boolean {
  return name !== null && name !== '' && !name.includes('.') && (type === 'A' || type === 'AAAA')
}

/** The same of a name that is no text: compares bytes. */
function isBelow({ question }: Query, zone: string): boolean {
  const tail = zone.split('.').flatMap(label => [label.length, ...Buffer.from(label)])
  const lower = [...question.subarray(0, -5)].map(byte => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte))
  return lower.length > tail.length && tail.every((byte, at) => lower[lower.length - tail.length + at] === byte)
}

/** The address that a whole name of in-addr.arpa or ip6.arpa stands for; null for any other name. */
function addressIn(name: string): Ip | null {
  const parts = name.split('.').reverse()
  if (parts[0] !== 'arpa') return null
  const digits = parts.slice(2)
  const isV4 = parts[1] === 'in-addr' && digits.length === 4
  const isV6 = parts[1] === 'ip6' && digits.length === 32 && digits.every(digit => /^[0-9a-f]$/.test(digit))
  if (!isV4 && !isV6) return null
  try {
    return parseIp(isV4 ? digits.join('.') : (digits.join('').match(/.{4}/g) ?? []).join(':'))
  } catch {
    return null
  }
}
