// A state for other hosts than those that made it, as a restored backup needs it: networks and allocations stay, and each
// host becomes a vacant record that only holds its endpoints (model/host.ts). Equal states become equal ones.

import { VACANT_VTEP } from '#model/host.ts'
import { decodeState, encodeState } from './snapshot.ts'
import type { ClusterState } from './state-machine.ts'

/** The state as a new one; the old one stays as it is, and neither must be changed afterwards. O(state). */
export function vacated(state: ClusterState): ClusterState {
  const { tables } = decodeState(encodeState(state))
  for (const host of [...tables.hosts.values()]) {
    if ((tables.byHost.get(host.peerId)?.size ?? 0) === 0) tables.removeHost(host)
    else tables.putHost({ ...host, vtep: VACANT_VTEP })
  }
  return state.withTables(tables)
}
