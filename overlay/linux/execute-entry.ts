// The netlink messages of one entry op.

import type { Message } from '../netlink/bytes.ts'
import {
  addFloodEntry,
  deleteEntry,
  deleteNeighbour,
  FLOOD_MAC,
  setNeighbour,
  setPortEntry,
  setTunnelEntry
} from '../netlink/neighbour.ts'
import type { EntryOp } from '../plan/network/op.ts'

export function entryMessages(op: EntryOp, ifindex: number): readonly Message[] {
  switch (op.kind) {
    case 'flood-add':
      return [addFloodEntry(ifindex, op.vtep)]
    case 'flood-delete':
      return [deleteEntry({ ifindex, mac: FLOOD_MAC, table: 'self', vtep: op.vtep })]
    case 'flood-clear':
      return [deleteEntry({ ifindex, mac: FLOOD_MAC, table: 'self' })]
    case 'fdb-set':
      return [setTunnelEntry(ifindex, { mac: op.mac, vtep: op.vtep })]
    case 'fdb-delete': {
      // Two messages: in one, a missing entry of the bridge would keep the device's own from being deleted.
      const tables = [...(op.bridged ? (['master'] as const) : []), ...(op.self ? (['self'] as const) : [])]
      return tables.map(table => deleteEntry({ ifindex, mac: op.mac, table }))
    }
    case 'port-mac-set':
      return [setPortEntry(ifindex, op.mac)]
    case 'port-mac-delete':
      return [deleteEntry({ ifindex, mac: op.mac, table: 'master' })]
    case 'neighbour-set':
      return [setNeighbour(ifindex, { address: op.address, mac: op.mac })]
    case 'neighbour-delete':
      return [deleteNeighbour(ifindex, op.address)]
  }
}
