// Bounds that the log, the feed and every snapshot transfer share. Pure.

import type { Entry } from '#raft/types.ts'

/** A larger snapshot is refused: it bounds what one peer can make this host allocate. */
export const MAX_SNAPSHOT_BYTES = 1024 * 1024 * 1024

/** Approximate bytes of an encoded entry besides its data. */
const ENTRY_OVERHEAD_BYTES = 32

/** Approximate bytes of an entry on disk or in a message. */
export function entryBytes({ data }: Entry): number {
  return data.byteLength + ENTRY_OVERHEAD_BYTES
}
