// The request by which a host proposes commands to the leader, many in one frame, and its answer: an outcome each, together
// with what the leader would send the proposer a moment later anyway, so that the proposer sees its own changes at once.

import { isResultOf, type Command, type CommandKind, type Outcome, type Refusal, type Request } from '#model/command.ts'
import { asVxmeshError, invalid, isErrorCode, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import {
  decodeAnswers,
  decodeProposals,
  encodeAnswers,
  encodeProposals,
  type Proposals,
  type ProposalAnswer,
  type WireAnswer
} from '../codec/proposal-codec.ts'
import { encodeRequest } from '../codec/request-codec.ts'
import type { Rpc } from '../transport/rpc.ts'
import { parseProposal } from './entry-request.ts'

/** Hosts of versions that proposed one request at a time are told that there is no such request. */
export const PROPOSE_METHOD = 'propose-many'
/** Longest session id that a host may choose, characters: a UUID has 36. */
const MAX_SESSION_ID = 64
/** A larger proposal is encoded anew, without fields that no replica knows: they would be in every host's log. */
const MAX_UNCHECKED_BYTES = 1_024
/** Proposals of one peer in flight here: twice what a proposer sends. Further ones are refused with ERR_BUSY. */
const MAX_IN_FLIGHT = 4_096

/** A leader's commit, sent with its reply: frames of Raft's channel for a voter, messages of the feed for a client. */
export type CommitNotice = { readonly raft: readonly Uint8Array[]; readonly feed: readonly Uint8Array[] }

/** A committed request: its outcome, and the log index from which it is visible. */
export type Applied = { readonly index: LogIndex; readonly outcome: Outcome }

/** An entry's place in the log with its outcome. */
export type AppliedEntry = Applied & { readonly term: Term }

/** Proposes encoded requests together. */
export type ProposeHere = (batch: readonly Uint8Array[]) => Promise<readonly AppliedEntry[]>

/** A committed request whose outcome this host finds by applying it. */
export type Committed = { readonly index: LogIndex; readonly own: true }

/** What became of one request: applied, committed, or kept out of the log. */
export type Answer = Applied | Committed | VxmeshError

export type ProposeAnswer = {
  readonly answers: readonly Answer[]
  /** Of the entries. */
  readonly term: Term
  readonly notice: CommitNotice | null
}

export type ServeProposeOptions = {
  /** Null while this host is not a voter. */
  readonly proposeHere: () => ProposeHere | null
  /** May this peer request anything? */
  readonly isServer: (peer: PeerId) => boolean
  /** Why a client host's request does not enter the log; null if it may. */
  readonly admit: (command: Command, from: PeerId) => Refusal | null
  /** The rules of the cluster. */
  readonly rules: () => number
  readonly noticeFor?: (peer: PeerId) => CommitNotice
}

/** Answers the proposals of others from this host's Raft. */
export function servePropose(rpc: Rpc, p: ServeProposeOptions): void {
  const inFlight = new Map<PeerId, number>()
  rpc.register(PROPOSE_METHOD, async (body, from) => {
    const proposeHere = p.proposeHere()
    if (proposeHere === null) return { leader: '' }
    const proposals = decodeProposals(body)
    const { length } = proposals.requests
    const before = inFlight.get(from) ?? 0
    if (before + length > MAX_IN_FLIGHT) throw new VxmeshError('ERR_BUSY', 'too many changes are in flight; retry')
    inFlight.set(from, before + length)
    try {
      const checked = proposals.requests.map(data => admitted(data, from, p))
      const applied = await proposeHere(checked.filter(each => each instanceof Uint8Array))
      const answers = encodeAnswers(answersOf(proposals, checked, applied))
      return { answers, term: applied[0]?.term ?? 0, notice: p.noticeFor?.(from) ?? null }
    } catch (err) {
      if (err instanceof VxmeshError && err.code === 'ERR_NOT_LEADER') return { leader: err.context['leader'] ?? '' }
      throw err
    } finally {
      const left = (inFlight.get(from) ?? 0) - length
      if (left > 0) inFlight.set(from, left)
      else inFlight.delete(from)
    }
  })
}

/** The data of an entry for a proposal: the proposal's own bytes wherever it is bound as it must be; or why there is none. */
function admitted(data: Uint8Array, from: PeerId, p: ServeProposeOptions): Uint8Array | VxmeshError {
  try {
    const request = parseProposal(data)
    const isServer = p.isServer(from)
    const bound = bindRequest(request, { from, isServer, rules: p.rules() })
    const refused = isServer ? null : p.admit(bound.command, from)
    if (refused !== null) return VxmeshError.fromBody(refused.error)
    return isBound(request, bound) && data.byteLength <= MAX_UNCHECKED_BYTES ? data : encodeRequest(bound)
  } catch (err) {
    return asVxmeshError(err)
  }
}

/** In the order of the proposals. */
function answersOf(
  { outcomes, requests }: Proposals,
  checked: readonly (Uint8Array | VxmeshError)[],
  applied: readonly AppliedEntry[]
): ProposalAnswer[] {
  let next = 0
  return checked.map((each, at) => {
    if (each instanceof VxmeshError) return { error: each.toBody() }
    const answer = applied[next++]
    if (answer === undefined) throw new Error(`${applied.length} answers to more proposals`)
    return !outcomes && each === requests[at] ? { index: answer.index, own: true } : answer
  })
}

/**
 * Binds a request to the host that sent it: its sessions are its own, and a client host's request names that host and is
 * applied by the rules of the cluster as the leader knows them, whatever it says itself. @throws ERR_INVALID
 */
export function bindRequest(
  { by: _, ...unbound }: Request,
  { from, isServer, rules }: { readonly from: PeerId; readonly isServer: boolean; readonly rules: number }
): Request {
  const own = `${from}/`
  const session = unbound.session.startsWith(own) ? unbound.session : `${own}${unbound.session}`
  if (session.length - own.length > MAX_SESSION_ID)
    throw invalid('session', `must be at most ${MAX_SESSION_ID} characters`)
  const request = { ...unbound, session }
  return isServer ? request : { ...request, by: from, rules }
}

function isBound(request: Request, bound: Request): boolean {
  return request.session === bound.session && request.by === bound.by && request.rules === bound.rules
}

/**
 * Proposes encoded requests of these kinds. @returns an answer each
 * @throws ERR_NOT_LEADER with context.leader; ERR_PEER, ERR_TIMEOUT, or what the server refused them all with
 */
export async function askPropose(
  rpc: Rpc,
  p: {
    readonly server: PeerId
    readonly batch: readonly { readonly data: Uint8Array; readonly kind: CommandKind }[]
    /** Without them, an answer may be that a request is committed, and its outcome is left to this host. */
    readonly outcomes: boolean
    readonly timeoutMs: number
  }
): Promise<ProposeAnswer> {
  const { server, batch, outcomes, timeoutMs } = p
  const body = encodeProposals({ outcomes, requests: batch.map(({ data }) => data) })
  const reply = asRecord(await rpc.call({ peer: server, method: PROPOSE_METHOD, body, timeoutMs }))
  const { answers, leader, notice, term } = reply
  if (answers === undefined) {
    if (typeof leader !== 'string') throw malformed('answer to proposals')
    throw new VxmeshError('ERR_NOT_LEADER', `${server} does not lead`, { context: { leader } })
  }
  const decoded = decodeAnswers(answers)
  if (decoded.length !== batch.length || !isCount(term)) throw malformed('answer to proposals')
  return {
    answers: batch.map(({ kind }, at) => answerOf(decoded[at], kind, outcomes)),
    term: term as Term,
    notice: isCommitNotice(notice) ? notice : null
  }
}

function answerOf(answer: WireAnswer | undefined, kind: CommandKind, outcomes: boolean): Answer {
  if (answer !== undefined && 'own' in answer && !outcomes) return answer
  if (answer !== undefined && 'outcome' in answer && isOutcomeOf(answer.outcome, kind)) {
    return { index: answer.index, outcome: answer.outcome }
  }
  const { code, message, field } = asRecord(answer !== undefined && 'error' in answer ? answer.error : null)
  if (typeof code !== 'string' || !isErrorCode(code) || typeof message !== 'string') {
    throw malformed('answer to proposals')
  }
  return VxmeshError.fromBody(typeof field === 'string' ? { code, message, field } : { code, message })
}

function isOutcomeOf(value: unknown, command: CommandKind): value is Outcome {
  const { ok, result, error } = asRecord(value)
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
