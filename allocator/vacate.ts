// Prepares the state of a restored backup for new hosts: networks and allocations stay, and each host becomes a vacant
// record that only holds its endpoints (model/host.ts). Deterministic: equal states give equal results.

import { VACANT_VTEP } from '#model/host.ts'
import { decodeState, encodeState } from './snapshot.ts'
import type { ClusterState } from './state-machine.ts'

/** A new state; the given one is unchanged. They share sessions, so neither must be changed afterwards. O(state). */
export function vacated(state: ClusterState): ClusterState {
  const { tables } = decodeState(encodeState(state))
  for (const host of [...tables.hosts.values()]) {
    if ((tables.byHost.get(host.peerId)?.size ?? 0) === 0) tables.removeHost(host)
    else tables.putHost({ ...host, vtep: VACANT_VTEP })
  }
  return state.withTables(tables)
}
