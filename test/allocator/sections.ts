// A state in sections, and the state that they give.

import { StateBuilder } from '#allocator/state-builder.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { StateSection } from '#allocator/state-sections.ts'

/** With two rows each. */
export function sections(state: ClusterState): StateSection[] {
  const cursor = new StateCursor(state, 2)
  const found: StateSection[] = []
  for (let section = cursor.next(); section !== null; section = cursor.next()) found.push(section)
  return found
}

export function built(from: readonly unknown[]): ClusterState {
  const builder = new StateBuilder()
  for (const section of from) builder.add(section)
  return builder.finish()
}

/** As it is read again from its text. */
export const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
