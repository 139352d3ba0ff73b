// The ticket of a snapshot: what Raft sends instead of its bytes, which travel by the one transfer (snapshot-transfer.ts).
// To an agent of an earlier release it is a state of format 3, which that refuses in words.

import { encodeMsgpack } from '#platform/msgpack.ts'

/** Equal for equal files. */
export function ticketOf({ id, size }: { readonly id: string; readonly size: number }): Uint8Array {
  return encodeMsgpack({ format: 3, id, size })
}
