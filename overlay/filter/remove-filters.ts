// Deletes the tables of a guard that is switched off, or is another one now.

import { VxmeshError } from '#model/errors.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { Netns } from '../kernel/nft.ts'
import { beginBatch, deleteTable, endBatch, NFNETLINK } from '../netlink/nftables.ts'
import { FILTER_TABLES, PORTS } from '../plan/filter/ruleset.ts'

/** No such table; no such family or no nf_tables at all. */
const ABSENT: readonly string[] = ['ENOENT', 'EAFNOSUPPORT', 'EOPNOTSUPP', 'EINVAL']

type TableName = (typeof FILTER_TABLES)[number]

/** Port security. Absent is success. @throws ERR_KERNEL */
export function removePortFilters(netns: Netns): void {
  removeFilters(netns, [PORTS])
}

/** Absent is success. @throws ERR_KERNEL */
export function removeFilters(netns: Netns, tables: readonly TableName[] = FILTER_TABLES): void {
  let socket: NetlinkSocket
  try {
    socket = NetlinkSocket.open(netns, [], NFNETLINK)
  } catch (err) {
    // A kernel without nfnetlink has no tables.
    if (errnoOf(err) === 'EPROTONOSUPPORT') return
    throw err
  }
  try {
    for (const table of tables) {
      const doing = `delete ${table.family} ${table.name}`
      const refusal = socket.transaction([beginBatch(null), deleteTable(table), endBatch()], doing)
      if (refusal === null || ABSENT.includes(refusal.errno)) continue
      throw new VxmeshError('ERR_KERNEL', `${doing}: ${refusal.message}`, { context: { errno: refusal.errno } })
    }
  } finally {
    socket.close()
  }
}
