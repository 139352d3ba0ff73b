// A proposal of this host on its way: the request, its bytes as the log will hold them, and who waits for its answer.

import type { Command, CommandKind, Request } from '#model/command.ts'
import type { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { encodeRequest } from '../codec/request-codec.ts'
import type { Applied } from './propose-rpc.ts'

export type Proposal = {
  readonly request: Request
  /** The request, encoded once. */
  readonly data: Uint8Array
  readonly kind: CommandKind
  readonly deadlineMs: number
  /** Attempts whose outcome is unknown, and the present one. */
  attempts: number
  /** The first call of either counts. */
  readonly resolve: (applied: Applied) => void
  readonly reject: (err: VxmeshError) => void
  isSettled: boolean
}

/** @param p.rules those of the cluster @param p.by the client host that proposes; null on a server */
export function proposal(p: {
  readonly session: string
  readonly seq: number
  readonly settledBelow: number
  readonly command: Command
  readonly rules: number
  readonly by: PeerId | null
  readonly deadlineMs: number
  readonly resolve: (applied: Applied) => void
  readonly reject: (err: VxmeshError) => void
}): Proposal {
  const { session, seq, settledBelow, command, rules, by, deadlineMs, resolve, reject } = p
  const unbound = { rules, session, seq, settledBelow, command }
  const request: Request = by === null ? unbound : { ...unbound, by }
  const settle = <T>(take: (value: T) => void): ((value: T) => void) => {
    return value => {
      if (made.isSettled) return
      made.isSettled = true
      take(value)
    }
  }
  const made: Proposal = {
    request,
    data: encodeRequest(request),
    kind: command.kind,
    deadlineMs,
    attempts: 0,
    resolve: settle(resolve),
    reject: settle(reject),
    isSettled: false
  }
  return made
}
