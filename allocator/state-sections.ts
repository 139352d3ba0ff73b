// The form of a state in a snapshot, formats 3 and 4: a head and then rows in sections, so that neither side ever handles the
// whole in one go. Canonical: equal states give equal sections, regardless of their history. Pure.

import type { Namespace } from '#model/namespace.ts'
import type { Policy } from '#model/policy.ts'
import type { Service } from '#model/service.ts'
import type { PlainEndpoint, PlainHost, PlainNetwork, PlainSession } from './plain-state.ts'

/**
 * Incremented when the form changes; StateBuilder refuses formats that it does not know. Format 4 has the rules of the
 * cluster, once they were raised. They say what else is in it: both families, labels, services, policies.
 */
export const UNGATED_FORMAT = 3
export const SECTION_FORMAT = 4

/** Rows after which a section ends: about 2 ms of work. The answers of one session are never divided. */
export const SECTION_ROWS = 1_024

export type SectionHead = {
  readonly format: number
  /** Of the whole state (digest.ts); the restored state must have the same. */
  readonly digest: string
  readonly appliedIndex: number
  readonly vniCursor: number
  /** Of the cluster; absent in format 3. */
  readonly rules?: number
}

export type NetworkFacts = Omit<PlainNetwork, 'endpoints'>

/** Consecutive endpoints of a network; the first part has its facts, the others its VNI. */
export type NetworkPart = readonly [of: NetworkFacts | number, endpoints: readonly PlainEndpoint[]]

/** The head comes first, hosts before networks, networks before services, policies and namespaces, and the end last. */
export type StateSection =
  | readonly [kind: 'head', head: SectionHead]
  /** By peer id, ascending. */
  | readonly [kind: 'hosts', rows: readonly PlainHost[]]
  /** By VNI and address, ascending. */
  | readonly [kind: 'networks', parts: readonly NetworkPart[]]
  /** By network and name, ascending. */
  | readonly [kind: 'services', rows: readonly Service[]]
  /** By network and name, ascending. */
  | readonly [kind: 'policies', rows: readonly Policy[]]
  /** By name, ascending. */
  | readonly [kind: 'namespaces', rows: readonly Namespace[]]
  /** Least recently used first. */
  | readonly [kind: 'sessions', rows: readonly PlainSession[]]
  /** Without it a snapshot is truncated. */
  | readonly [kind: 'end']
