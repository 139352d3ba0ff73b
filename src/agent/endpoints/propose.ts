// How the agent's parts change the cluster's state.

import type { Command, ResultOf } from '#model/command.ts'
import { asVxmeshError, type ErrorCode } from '#model/errors.ts'

/** Resolves once the change is committed and visible on this host. @throws see ReplicatedLog.propose, ERR_TIMEOUT */
export type Propose = <C extends Command>(command: C) => Promise<ResultOf<C['kind']>>

/** A failure under any of these codes leaves open whether the change was made, or will be. */
const OPEN: ReadonlySet<ErrorCode> = new Set([
  'ERR_NO_QUORUM',
  'ERR_TIMEOUT',
  'ERR_SESSION_EXPIRED',
  'ERR_AGENT_UNREACHABLE',
  'ERR_PEER',
  'ERR_INTERNAL'
])

/** May a change that failed like this have been made all the same? */
export function mayHaveBeenMade(err: unknown): boolean {
  return OPEN.has(asVxmeshError(err).code)
}
