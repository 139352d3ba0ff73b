// The whole state as one plain value and back: snapshots of formats 1 and 2, and a copy. The form is canonical: equal states
// have equal values, regardless of their history. It holds the owners instead of bit vectors. Restoring takes the same steps as
// applying commands, so an inconsistent state cannot be restored.

import { UNGATED_RULES } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { raiseRules } from './cluster-rules.ts'
import { digestOf } from './digest.ts'
import { firstDigestOf } from './first-digest.ts'
import { endpointsFrom, type NetworkTable } from './network-table.ts'
import { parseNamespaceRow, parsePolicyRow, parseServiceRow } from './parse-row.ts'
import {
  capturedSession,
  indexOf,
  plainEndpoint,
  plainHost,
  plainNetwork,
  plainSession,
  restoreEndpoint,
  restoreHost,
  restoreNetwork,
  restoreRules,
  restoreSession
} from './plain-rows.ts'
import { byNetworkAndName, SNAPSHOT_FORMAT, type PlainState } from './plain-state.ts'
import { Sessions } from './sessions.ts'
import { ClusterState } from './state-machine.ts'
import { Tables } from './tables.ts'

/** By the formats that this version reads. */
const DIGESTS: ReadonlyMap<number, (state: ClusterState) => string> = new Map([
  [1, firstDigestOf],
  [SNAPSHOT_FORMAT, digestOf]
])

/** The plain value; shares immutable values with the state. O(state) */
export function encodeState(state: ClusterState): PlainState {
  const { tables, sessions, appliedIndex } = state
  const hosts = [...tables.hosts.values()].sort((a, b) => (a.peerId < b.peerId ? -1 : 1))
  const services = [...state.services()].sort(byNetworkAndName)
  const policies = [...state.policies()].sort(byNetworkAndName)
  const positions = new Map(hosts.map((host, at) => [host.peerId, at]))
  return {
    format: SNAPSHOT_FORMAT,
    digest: digestOf(state),
    appliedIndex,
    vniCursor: tables.vnis.cursor,
    ...(tables.rules === UNGATED_RULES ? {} : { rules: tables.rules }),
    hosts: hosts.map(plainHost),
    networks: networksByVni(tables).map(table => {
      const endpoints = [...endpointsFrom(table, null)].map(row => plainEndpoint(row, positions))
      return { ...plainNetwork(table.network, table.pool.cursor), endpoints }
    }),
    ...(services.length === 0 ? {} : { services }),
    ...(policies.length === 0 ? {} : { policies }),
    namespaces: [...tables.namespaces.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    sessions: [...sessions.entries()].map(([id, session]) => plainSession(capturedSession(id, session)))
  }
}

/**
 * Restores what encodeState returned, also after a trip through JSON or msgpack. The state behaves exactly as the encoded
 * one. @throws ERR_STORAGE when the value has another format, is malformed or inconsistent
 */
export function decodeState(value: unknown): ClusterState {
  try {
    return restore(value as PlainState)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'it is malformed'
    throw new VxmeshError('ERR_STORAGE', `the snapshot cannot be used: ${why}`, { cause })
  }
}

/** The parsers and tables check everything that the cast in decodeState claims. */
function restore(plain: PlainState): ClusterState {
  const digest = DIGESTS.get(plain.format)
  if (digest === undefined) throw new Error(`format ${String(plain.format)} is not known`)
  const tables = new Tables()
  tables.rules = restoreRules(plain.rules)
  const hosts = plain.hosts.map(restoreHost)
  for (const host of hosts) tables.putHost(host)
  if (tables.hosts.size !== hosts.length) throw new Error('it holds a host twice')
  for (const network of plain.networks) {
    const table = tables.addNetwork(restoreNetwork(network), 'explicit')
    const { endpoints } = network
    for (const row of endpoints) tables.addEndpoint(restoreEndpoint(row, table.network, hosts), 'explicit')
    tables.restoreCursor(table, network.cursor)
  }
  for (const service of plain.services ?? []) tables.addService(parseServiceRow(service), 'explicit')
  for (const policy of plain.policies ?? []) tables.addPolicy(parsePolicyRow(policy))
  for (const namespace of plain.namespaces) tables.putNamespace(parseNamespaceRow(namespace))
  if (tables.namespaces.size !== plain.namespaces.length) throw new Error('it holds a namespace twice')
  tables.restoreVniCursor(plain.vniCursor)
  const sessions = new Sessions()
  for (const session of plain.sessions) restoreSession(sessions, session, plain.appliedIndex)
  const state = new ClusterState({ tables, sessions, appliedIndex: indexOf(plain.appliedIndex) })
  // A consistent state may still not be the one that was written.
  if (digest(state) !== plain.digest) throw new Error('its digest does not match its contents')
  raiseRules(tables)
  return state
}

/** In the pool's order, which is ascending: nothing has to be sorted. */
function networksByVni({ vnis, networkByVni }: Tables): NetworkTable[] {
  return [...vnis.values()].flatMap(vni => networkByVni.get(vni as Vni) ?? [])
}
