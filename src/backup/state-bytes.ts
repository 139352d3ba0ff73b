// The state as the encoded sections of a snapshot, and back. Both go section by section, with a turn of the event loop in
// between, so that a leader with a large state keeps sending heartbeats.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { StateBuilder } from '#allocator/state-builder.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'

/**
 * The state at the time of the call; it may change while it is read. To be read to the end or returned, as `for await`
 * does: until then the rows that change are kept.
 */
export function stateSections(state: ClusterState, sectionRows?: number): AsyncIterableIterator<Uint8Array> {
  const cursor = new StateCursor(state, sectionRows)
  const sections: AsyncIterableIterator<Uint8Array> = {
    next: async () => {
      await nextTurn()
      const section = cursor.next()
      return section === null ? { done: true, value: undefined } : { done: false, value: encodeMsgpack(section) }
    },
    return: () => {
      cursor.close()
      return Promise.resolve({ done: true, value: undefined })
    },
    [Symbol.asyncIterator]: () => sections
  }
  return sections
}

/** Builds a state beside the one in use. @throws ERR_STORAGE when the sections are damaged, inconsistent or incomplete */
export async function stateFrom(sections: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<ClusterState> {
  const builder = new StateBuilder()
  for await (const section of sections) {
    const steps = builder.steps(decodeMsgpack(section, 'ERR_STORAGE'))
    do await nextTurn()
    while (steps.next().done !== true)
  }
  return builder.finish()
}
