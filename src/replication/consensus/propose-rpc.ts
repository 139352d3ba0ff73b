// The request by which a host proposes a command to the leader, and its answer: the outcome together with what the leader
// would send the proposer a moment later anyway, so that the proposer sees its own change at once.

import {
  isResultOf,
  RULES,
  type Command,
  type CommandKind,
  type Outcome,
  type Refusal,
  type Request
} from '#model/command.ts'
import { invalid, isErrorCode, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'propose'
/** Longest session id that a host may choose, characters: a UUID has 36. */
const MAX_SESSION_ID = 64

/** A leader's commit, sent with its reply: frames of Raft's channel for a voter, messages of the feed for a client. */
export type CommitNotice = { readonly raft: readonly Uint8Array[]; readonly feed: readonly Uint8Array[] }

/** A committed request: its outcome, and the log index from which it is visible. */
export type Applied = { readonly index: LogIndex; readonly outcome: Outcome }

export type ProposeAnswer = { readonly applied: Applied; readonly notice: CommitNotice | null }

/** Answers the proposals of others from this host's Raft. */
export function servePropose(
  rpc: Rpc,
  p: {
    /** Null while this host is not a voter. */
    readonly proposeHere: () => ((request: Request) => Promise<Applied>) | null
    /** @throws ERR_INVALID on a malformed request */
    readonly check: (body: unknown) => Request
    /** May this peer request anything? */
    readonly isServer: (peer: PeerId) => boolean
    /** Why a client host's request does not enter the log; null if it may. */
    readonly admit: (command: Command, from: PeerId) => Refusal | null
    readonly noticeFor?: (peer: PeerId) => CommitNotice
  }
): void {
  rpc.register(METHOD, async (body, from) => {
    const proposeHere = p.proposeHere()
    if (proposeHere === null) return { leader: '' }
    const isServer = p.isServer(from)
    const request = bindRequest(p.check(body), { from, isServer })
    const refused = isServer ? null : p.admit(request.command, from)
    if (refused !== null) throw VxmeshError.fromBody(refused.error)
    try {
      const applied = await proposeHere(request)
      return { applied, notice: p.noticeFor?.(from) ?? null }
    } catch (err) {
      if (err instanceof VxmeshError && err.code === 'ERR_NOT_LEADER') return { leader: err.context['leader'] ?? '' }
      throw err
    }
  })
}

/**
 * Binds a request to the host that sent it: its sessions are its own, and a client host's request names that host and is
 * applied by the leader's rules, whatever it says itself. @throws ERR_INVALID
 */
export function bindRequest(
  { by: _, ...unbound }: Request,
  { from, isServer }: { readonly from: PeerId; readonly isServer: boolean }
): Request {
  const { session } = unbound
  if (session.length > MAX_SESSION_ID) throw invalid('session', `must be at most ${MAX_SESSION_ID} characters`)
  const request = { ...unbound, session: `${from}/${session}` }
  return isServer ? request : { ...request, by: from, rules: RULES }
}

/** @throws ERR_NOT_LEADER with context.leader; ERR_PEER, ERR_TIMEOUT, or what the server refused it with */
export async function askPropose(
  rpc: Rpc,
  p: { readonly server: PeerId; readonly request: Request; readonly timeoutMs: number }
): Promise<ProposeAnswer> {
  const { server, request, timeoutMs } = p
  const answer = asRecord(await rpc.call({ peer: server, method: METHOD, body: request, timeoutMs }))
  const { applied, leader, notice } = answer
  if (isApplied(applied, request.command.kind)) return { applied, notice: isCommitNotice(notice) ? notice : null }
  if (typeof leader !== 'string') throw malformed('answer to a proposal')
  throw new VxmeshError('ERR_NOT_LEADER', `${server} does not lead`, { context: { leader } })
}

function isApplied(value: unknown, command: CommandKind): value is Applied {
  const { index, outcome } = asRecord(value)
  const { ok, result, error } = asRecord(outcome)
  if (!isCount(index)) return false
  if (ok === true) return isResultOf(command, { kind: asRecord(result)['kind'] })
  const { code, message } = asRecord(error)
  return ok === false && typeof code === 'string' && isErrorCode(code) && typeof message === 'string'
}

function isCommitNotice(value: unknown): value is CommitNotice {
  const { raft, feed } = asRecord(value)
  return [raft, feed].every(
    frames => Array.isArray(frames) && frames.every((frame: unknown) => frame instanceof Uint8Array)
  )
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
}
