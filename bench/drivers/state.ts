// Builds states for benchmarks by the log's own commands, like the state of a real cluster.

import type { ClusterState } from '#allocator/state-machine.ts'
import { RULES, type Command } from '#model/command.ts'
import type { LogIndex } from '#model/ids.ts'

/** Applies commands one after the other, in a session of its own. @throws Error when one is refused */
export function applier(state: ClusterState): (command: Command) => void {
  let seq = 0
  const apply = (command: Command): void => {
    const index = (state.appliedIndex + 1) as LogIndex
    const outcome = state.apply(index, { session: 'bench', seq, settledBelow: seq, rules: RULES, command })
    if (!outcome.ok) throw new Error(outcome.error.message)
    seq += 1
  }
  apply({ kind: 'session-open' })
  return apply
}
