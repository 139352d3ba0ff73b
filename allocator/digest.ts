// A digest of the whole state, 16 hex digits, by which hosts at the same index are compared. The sum over the rows is
// kept up to date as they change (row-hash.ts), so that a digest costs O(networks + sessions).

import { Hasher, SetHash, hashEndpoint, hashHost, hashNamespace, hashNetwork, type Hash } from './row-hash.ts'
import type { ClusterState } from './state-machine.ts'
import type { Tables } from './tables.ts'

/** Equal states have equal digests, regardless of their history. Cursors, sessions and the applied index count. */
export function digestOf(state: ClusterState): string {
  const { tables, sessions } = state
  const all = new Hasher().number(state.appliedIndex)
  for (const { a, b } of [tables.hash.value, hashCursors(tables), sessions.hash]) all.number(a).number(b)
  const { a, b } = all.finish()
  return hex(a) + hex(b)
}

/** Recomputes `tables.hash` from the rows. O(rows). */
export function hashRows(tables: Tables): Hash {
  const rows = new SetHash()
  for (const { network, byAddress } of tables.networks.values()) {
    rows.add(hashNetwork(network))
    for (const endpoint of byAddress.values()) rows.add(hashEndpoint(endpoint))
  }
  for (const host of tables.hosts.values()) rows.add(hashHost(host))
  for (const namespace of tables.namespaces.values()) rows.add(hashNamespace(namespace))
  return rows.value
}

function hashCursors({ vnis, networks }: Tables): Hash {
  const cursors = new SetHash()
  cursors.add(new Hasher().number(0).number(vnis.cursor).finish())
  for (const { network, pool } of networks.values()) {
    cursors.add(new Hasher().number(network.vni).number(pool.cursor).finish())
  }
  return cursors.value
}

function hex(word: number): string {
  return word.toString(16).padStart(8, '0')
}
