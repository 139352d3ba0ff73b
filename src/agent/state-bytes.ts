// Serialises a snapshot of the state in slices, so that a leader with a large state keeps sending heartbeats. The content
// is fixed at the call; the state may change while the bytes are made.

import { imageOf } from '#allocator/snapshot.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { encodeMsgpack, encodeMsgpackElements, msgpackArrayHeader, msgpackMapHeader } from '#platform/msgpack.ts'

/** A few milliseconds of work. */
const SLICE_ROWS = 4_096

/** Decodes to the same value as encodeMsgpack(encodeState(state)), for the state at the call. O(state) */
export async function stateBytes(state: ClusterState): Promise<Uint8Array> {
  const { networks, ...rest } = imageOf(state)
  const pieces = [msgpackMapHeader(Object.keys(rest).length + 1), entriesOf(rest)]
  pieces.push(encodeMsgpack('networks'), msgpackArrayHeader(networks.length))
  let rows = 0
  for (const { facts, endpoints, plain } of networks) {
    pieces.push(msgpackMapHeader(Object.keys(facts).length + 1), entriesOf(facts))
    pieces.push(encodeMsgpack('endpoints'), msgpackArrayHeader(endpoints.length))
    for (let at = 0; at < endpoints.length; at += SLICE_ROWS) {
      const slice = endpoints.slice(at, at + SLICE_ROWS)
      pieces.push(encodeMsgpackElements(slice.map(plain)))
      rows += slice.length
      if (rows < SLICE_ROWS) continue
      rows = 0
      await new Promise(resolve => setImmediate(resolve))
    }
  }
  return Buffer.concat(pieces)
}

/** Keys and values, alternating. */
function entriesOf(facts: object): Buffer {
  return Buffer.concat(Object.entries(facts).flatMap(pair => pair.map(encodeMsgpack)))
}
