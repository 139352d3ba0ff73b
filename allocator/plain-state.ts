// The format of a snapshot: the whole state as plain arrays, objects, numbers, strings and nulls.

import type { Outcome } from '#model/command.ts'
import type { Labels } from '#model/labels.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Policy } from '#model/policy.ts'
import type { Service } from '#model/service.ts'
import type { NetworkSettings } from '#model/settings.ts'

/**
 * Incremented when the format changes; decodeState refuses formats that it does not know. Format 1 differs in the digest
 * (first-digest.ts).
 */
export const SNAPSHOT_FORMAT = 2

/** An IPv4 address as a number, an IPv6 one as text. */
export type PlainIp = number | string

export type PlainHost = readonly [
  name: string,
  peerId: string,
  vtep: PlainIp,
  role: string,
  bootId: string,
  version: string
]

export type PlainEndpoint = readonly [
  address: PlainIp,
  /** null: the MAC derived from VNI and address. */
  mac: string | null,
  containerId: string,
  ifname: string,
  name: string,
  /** Position in `hosts`. */
  host: number,
  ingressRate: number,
  egressRate: number,
  delayUs: number,
  requestId: string | null,
  /** null: none, before labels. */
  address6?: string | null,
  labels?: Labels
]

export type PlainNetwork = NetworkSettings & {
  readonly name: string
  readonly vni: number
  readonly subnet: readonly [base: PlainIp, prefixLength: number]
  readonly subnet6?: readonly [base: PlainIp, prefixLength: number]
  readonly gateway: PlainIp
  readonly wasIpv6?: true
  readonly requestId: string | null
  readonly cursor: number
  /** By address, ascending. */
  readonly endpoints: readonly PlainEndpoint[]
}

export type PlainSession = readonly [
  id: string,
  lastUsed: number,
  settledBelow: number,
  /** By seq, ascending. */
  answers: readonly (readonly [seq: number, outcome: Outcome])[]
]

export type PlainState = {
  readonly format: number
  /** Of the whole state (digest.ts); the restored state must have the same. */
  readonly digest: string
  readonly appliedIndex: number
  readonly vniCursor: number
  /** Of the cluster, once they were raised. */
  readonly rules?: number
  /** By peer id, ascending. */
  readonly hosts: readonly PlainHost[]
  /** By VNI, ascending. */
  readonly networks: readonly PlainNetwork[]
  /** By network and name, ascending; absent when there are none. */
  readonly services?: readonly Service[]
  /** The same. */
  readonly policies?: readonly Policy[]
  /** By name, ascending. */
  readonly namespaces: readonly Namespace[]
  /** Least recently used first. */
  readonly sessions: readonly PlainSession[]
}

/** The order of services, and of policies. */
export function byNetworkAndName<Row extends Pick<Service | Policy, 'network' | 'name'>>(a: Row, b: Row): number {
  if (a.network !== b.network) return a.network < b.network ? -1 : 1
  return a.name < b.name ? -1 : 1
}
