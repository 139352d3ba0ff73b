// Limits of what Serf's port accepts, as sets and chains in nft(8) syntax. Serf deciphers each packet before it knows whether
// the sender holds the key, so packets beyond a limit are dropped before they reach it. Pure.

import { familyOf, isIpv4, type Family, type Ip } from '#model/ip.ts'

export type SerfPort = { readonly bind: Ip; readonly port: number }

/** Of whom packets are counted when they are dropped: the names of the counters. */
export const SENDERS = ['stranger', 'member'] as const
export type Sender = (typeof SENDERS)[number]

/** A token bucket, refilled each second. Bytes are of IP packets, in MiB. */
type Limit = { readonly perSecond: number; readonly burst: number }
type Limits = { readonly datagrams: Limit; readonly connections: Limit; readonly mebibytes: Limit }

/**
 * A host that joins is a stranger until Serf knows it, and so is every member to a host that has just started. A joining
 * host needs one connection, a few datagrams, and the list of members, 400 B each.
 */
const STRANGER: Limits = {
  datagrams: { perSecond: 100, burst: 400 },
  connections: { perSecond: 16, burst: 128 },
  mebibytes: { perSecond: 4, burst: 16 }
}
/** All strangers together, since a datagram's source can be forged. Gossip to one host does not grow with the cluster. */
const ALL_STRANGERS: Limits = {
  datagrams: { perSecond: 1_000, burst: 4_000 },
  connections: { perSecond: 128, burst: 1_024 },
  mebibytes: { perSecond: 16, burst: 64 }
}
/** A member gossips 5 times and probes once a second: some 20 datagrams with those on behalf of others. */
const MEMBER: Limits = {
  datagrams: { perSecond: 5_000, burst: 20_000 },
  connections: { perSecond: 256, burst: 1_024 },
  mebibytes: { perSecond: 64, burst: 128 }
}

/** Of strangers with IPv6 addresses a /64 is one source, for who has one address of it can have them all. */
const STRANGER_SOURCE: Readonly<Record<Family, string>> = {
  ipv4: 'ip saddr',
  ipv6: 'ip6 saddr & ffff:ffff:ffff:ffff::'
}

/** Sources with a bucket of their own. Beyond them only the limit of all strangers holds. */
const SOURCES_MAX = 4_096
/** A bucket is forgotten when its source has been silent for so long. */
const FORGET_SECONDS = 60

/** How nft(8) names the protocol of an address. */
export function protocolOf(address: Ip): 'ip' | 'ip6' {
  return isIpv4(address) ? 'ip' : 'ip6'
}

/** Chain `serf`, which takes the packets to Serf's port, with all that it needs except set `members`. */
export function serfLimits({ bind }: Pick<SerfPort, 'bind'>): string {
  const family = familyOf(bind)
  const source = `${protocolOf(bind)} saddr`
  const ofStrangers = perSource('stranger', STRANGER, STRANGER_SOURCE[family])
  return `${SENDERS.map(sender => buckets(sender, family)).join('')}
  chain serf {
    ${source} @members goto member
    goto stranger
  }
  chain stranger {
    ${[...ofStrangers, ...inTotal('stranger', ALL_STRANGERS)].join('\n    ')}
  }
  chain member {
    ${perSource('member', MEMBER, source).join('\n    ')}
  }`
}

const MEASURES = {
  datagrams: { match: 'meta l4proto udp', unit: ['', 'packets'] },
  connections: { match: 'tcp flags & (syn | ack) == syn', unit: ['', 'packets'] },
  mebibytes: { match: '', unit: ['mbytes', 'mbytes'] }
} as const
const KINDS = ['datagrams', 'connections', 'mebibytes'] as const
type Kind = (typeof KINDS)[number]

function buckets(sender: Sender, family: Family): string {
  const sets = KINDS.map(
    kind => `
  set ${sender}_${kind} { type ${family}_addr; size ${SOURCES_MAX}; flags dynamic,timeout; timeout ${FORGET_SECONDS}s; }`
  )
  return `${sets.join('')}
  counter ${sender} { }`
}

function perSource(sender: Sender, limits: Limits, source: string): readonly string[] {
  return KINDS.map(kind => {
    const bucket = `update @${sender}_${kind} { ${source} ${over(kind, limits[kind])} }`
    return `${MEASURES[kind].match} ${bucket} counter name ${sender} drop`.trim()
  })
}

function inTotal(sender: Sender, limits: Limits): readonly string[] {
  return KINDS.map(kind => `${MEASURES[kind].match} ${over(kind, limits[kind])} counter name ${sender} drop`.trim())
}

function over(kind: Kind, { perSecond, burst }: Limit): string {
  const [rate, size] = MEASURES[kind].unit
  return `limit rate over ${`${perSecond} ${rate}`.trim()}/second burst ${burst} ${size}`
}
