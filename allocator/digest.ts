// A digest of the whole state, 16 hex digits, by which hosts at the same index are compared. All of its parts are kept up to
// date as the state changes (row-hash.ts), so that it costs the same whatever the state holds. It is the second version: hosts
// compare digests of one version only, which is why its version is in the names of their RPC methods.

import { UNGATED_RULES } from '#model/command.ts'
import {
  hashAnswer,
  hashCursor,
  hashEndpoint,
  Hasher,
  hashHost,
  hashNamespace,
  hashNetwork,
  hashPolicy,
  hashService,
  hashSession,
  SetHash,
  type Hash
} from './row-hash.ts'
import type { Sessions } from './sessions.ts'
import type { ClusterState } from './state-machine.ts'
import { VNIS, type Tables } from './tables.ts'

/**
 * Equal states have equal digests, regardless of their history. Cursors, sessions and the applied index count, and the rules
 * of the cluster once they were raised: versions that do not know them compute the same as this one until then. O(1)
 */
export function digestOf(state: ClusterState): string {
  const { tables, sessions } = state
  const all = new Hasher().number(state.appliedIndex)
  all.hash(tables.hash.value).hash(tables.cursors.value).hash(sessions.hash)
  return hexOf((tables.rules === UNGATED_RULES ? all : all.number(tables.rules)).finish())
}

export function hexOf({ a, b }: Hash): string {
  return [a, b].map(word => (word >>> 0).toString(16).padStart(8, '0')).join('')
}

/** Recomputes `tables.hash` from the rows. O(rows). */
export function hashRows(tables: Tables): Hash {
  const rows = new SetHash()
  for (const { network, byAddress, services } of tables.networks.values()) {
    rows.add(hashNetwork(network))
    for (const service of services?.byName.values() ?? []) rows.add(hashService(service))
    for (const endpoint of byAddress.values()) rows.add(hashEndpoint(endpoint))
  }
  for (const policy of tables.policies.all()) rows.add(hashPolicy(policy))
  for (const host of tables.hosts.values()) rows.add(hashHost(host))
  for (const namespace of tables.namespaces.values()) rows.add(hashNamespace(namespace))
  return rows.value
}

/** Recomputes `tables.cursors`. O(networks). */
export function hashCursors({ vnis, networks }: Tables): Hash {
  const cursors = new SetHash()
  cursors.add(hashCursor(VNIS, vnis.cursor))
  for (const { network, pool } of networks.values()) cursors.add(hashCursor(network.vni, pool.cursor))
  return cursors.value
}

/** Recomputes `sessions.hash`. O(answers). */
export function hashSessions(sessions: Sessions): Hash {
  const all = new SetHash()
  for (const [, session] of sessions.entries()) {
    const answersHash = new SetHash()
    for (const [seq, { outcome }] of session.answers) answersHash.add(hashAnswer(seq, outcome))
    all.add(hashSession({ ...session, answersHash }))
  }
  return all.value
}
