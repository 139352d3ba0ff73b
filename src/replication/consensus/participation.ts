// Which place a host has in its cluster: it takes part in consensus, or it follows the feed. Pure.

import type { PeerId } from '#model/ids.ts'
import { decodeConfiguration, incarnationOf, isMember } from '#raft/configuration.ts'
import type { Configuration, DurableState, Entry } from '#raft/types.ts'

/** The last configuration among entries, or the one before them. */
export function configurationAfter(before: Configuration, entries: readonly Entry[]): Configuration {
  const last = entries.findLast(({ kind }) => kind === 'config')
  return last === undefined ? before : decodeConfiguration(last.data)
}

/** Does a configuration mean this disk of this peer? */
export function takesPart(configuration: Configuration, self: PeerId, incarnation: number): boolean {
  return isMember(configuration, self) && incarnationOf(configuration, self) === incarnation
}

/**
 * Must a host that starts with this on its disk take part? A configuration counts from the moment it is in the log, and
 * how far that is committed may be noted too low: whoever takes part in either reading has made promises that only a
 * server keeps.
 */
export function mustTakePart(p: {
  readonly durable: DurableState
  readonly origin: Configuration
  readonly self: PeerId
  readonly incarnation: number
}): boolean {
  const { durable, self, incarnation } = p
  const base = durable.snapshot?.configuration ?? p.origin
  const committed = durable.entries.filter(({ index }) => index <= durable.commitIndex)
  return [committed, durable.entries].some(entries => takesPart(configurationAfter(base, entries), self, incarnation))
}
