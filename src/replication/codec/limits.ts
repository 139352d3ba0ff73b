// Bounds that the log, the feed and every snapshot transfer share. Pure.

import type { Entry } from '#raft/types.ts'

/** A larger snapshot file is refused, from a disk or a peer: the one bound of every transfer. */
export const MAX_SNAPSHOT_BYTES = 1024 * 1024 * 1024
/** The ticket of a snapshot, which Raft sends in its place (feed/ticket.ts). */
export const MAX_TICKET_BYTES = 1024

/** Approximate bytes of an encoded entry besides its data. */
const ENTRY_OVERHEAD_BYTES = 32

/** Approximate bytes of an entry on disk or in a message. */
export function entryBytes({ data }: Entry): number {
  return data.byteLength + ENTRY_OVERHEAD_BYTES
}
