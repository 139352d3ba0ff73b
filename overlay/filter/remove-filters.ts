// Deletes both tables when the guard is switched off.

import { VxmeshError } from '#model/errors.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { Netns } from '../kernel/nft.ts'
import { beginBatch, deleteTable, endBatch, NFNETLINK } from '../netlink/nftables.ts'
import { FILTER_TABLES } from '../plan/filter/ruleset.ts'

/** No such table; no such family or no nf_tables at all. */
const ABSENT: readonly string[] = ['ENOENT', 'EAFNOSUPPORT', 'EOPNOTSUPP', 'EINVAL']

/** Absent is success. @throws ERR_KERNEL */
export function removeFilters(netns: Netns): void {
  let socket: NetlinkSocket
  try {
    socket = NetlinkSocket.open(netns, [], NFNETLINK)
  } catch (err) {
    // A kernel without nfnetlink has no tables.
    if (errnoOf(err) === 'EPROTONOSUPPORT') return
    throw err
  }
  try {
    for (const table of FILTER_TABLES) {
      const doing = `delete ${table.family} ${table.name}`
      const refusal = socket.transaction([beginBatch(null), deleteTable(table), endBatch()], doing)
      if (refusal === null || ABSENT.includes(refusal.errno)) continue
      throw new VxmeshError('ERR_KERNEL', `${doing}: ${refusal.message}`, { context: { errno: refusal.errno } })
    }
  } finally {
    socket.close()
  }
}
