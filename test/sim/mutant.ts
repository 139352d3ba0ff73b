// A mutant: a known bug of a Raft implementation, injected by a wrapper around the core's step, so that the core needs no
// hooks for it. Sources: docs/adr/0004 and the reliability literature.

import type { LogIndex } from '#model/ids.ts'
import { quorumSize } from '#raft/configuration.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Effect, Input, Message } from '#raft/types.ts'

export type Mutant = {
  readonly name: string
  /** What it does wrong, and which implementation did. */
  readonly bug: string
  /** Changes the input or the state before the step. */
  readonly before?: (state: RaftState, input: Input) => Input
  /** Changes the effects or the state after it. */
  readonly after?: (state: RaftState, input: Input, effects: Effect[]) => Effect[]
}

type Received<K extends Message['kind']> = Extract<Message, { readonly kind: K }>

export function received<K extends Message['kind']>(input: Input, kind: K): Received<K> | null {
  const { event } = input
  return event.kind === 'receive' && event.message.kind === kind ? (event.message as Received<K>) : null
}

export function rewrite(input: Input, change: Partial<Record<string, unknown>>): Input {
  const { event } = input
  if (event.kind !== 'receive') return input
  return { ...input, event: { ...event, message: { ...event.message, ...change } } }
}

/** Emits what a mutant has declared committed, up to the next config entry: membership has its own mutants. */
export function commitTo(state: RaftState, upTo: LogIndex, effects: Effect[]): Effect[] {
  const config = state.log.lastConfigIndex
  const index = config > state.commitIndex && config <= upTo ? ((config - 1) as LogIndex) : upTo
  if (index <= state.commitIndex) return effects
  const entries = state.log.between(state.emittedIndex, index)
  state.commitIndex = index
  state.emittedIndex = index
  return [...effects, { kind: 'commit', entries, commitIndex: index }]
}

export function majorityMatch(state: RaftState): LogIndex {
  const matches = state.configuration.voters.map(voter =>
    voter === state.self ? state.durableIndex : (state.leading?.progress.get(voter)?.matchIndex ?? 0)
  )
  return (matches.sort((a, b) => b - a)[quorumSize(state.configuration) - 1] ?? 0) as LogIndex
}

/** Overrides a property of the log, for one lookup or for one step. */
export function override(state: RaftState, name: 'termAt' | 'lastConfigIndex', descriptor: PropertyDescriptor): void {
  Object.defineProperty(state.log, name, { ...descriptor, configurable: true })
}

export function removeOverrides(state: RaftState): void {
  for (const name of ['termAt', 'lastConfigIndex']) Reflect.deleteProperty(state.log, name)
}
