// Whether a host takes part in consensus or follows the feed. Pure.

import type { LogIndex, PeerId } from '#model/ids.ts'
import { decodeConfiguration, incarnationOf, isMember } from '#raft/configuration.ts'
import type { Configuration, DurableState, Entry } from '#raft/types.ts'

/** Does a committed configuration name a host's disk? `index`: up to which log index that is known. */
export type Participation = {
  readonly index: LogIndex
  readonly member: boolean
  /** The members of that configuration. */
  readonly servers: readonly PeerId[]
}

/** A peer's disk, as configurations name it. */
export type Disk = { readonly self: PeerId; readonly incarnation: number }

/** The last configuration among entries, or the one before them. */
export function configurationAfter(before: Configuration, entries: readonly Entry[]): Configuration {
  const last = entries.findLast(({ kind }) => kind === 'config')
  return last === undefined ? before : decodeConfiguration(last.data)
}

/** Does a configuration name this disk? */
export function takesPart(configuration: Configuration, { self, incarnation }: Disk): boolean {
  return isMember(configuration, self) && incarnationOf(configuration, self) === incarnation
}

/**
 * Must a host that starts from this durable state take part? A configuration counts as soon as it is in the log, and the
 * commit index on disk may be too low: a host that takes part under either configuration has made promises as a server.
 */
export function mustTakePart(
  p: Disk & {
    readonly durable: DurableState
    readonly origin: Configuration
  }
): boolean {
  const { durable } = p
  const base = durable.snapshot?.configuration ?? p.origin
  const committed = durable.entries.filter(({ index }) => index <= durable.commitIndex)
  return [committed, durable.entries].some(entries => takesPart(configurationAfter(base, entries), p))
}

/**
 * Does the host have the wrong role? `log` is the configuration in a voter's log, null on a client. A voter that its log
 * still names has promises to keep until its removal is committed.
 */
export function hasWrongRole(
  p: Disk & {
    readonly applied: Configuration
    readonly log: { readonly configuration: Configuration; readonly configurationCommitted: boolean } | null
  }
): boolean {
  const { applied, log } = p
  if (log === null) return takesPart(applied, p)
  return log.configurationCommitted && !takesPart(applied, p) && !takesPart(log.configuration, p)
}
