// Proposals as their frames carry them, for tests that speak to a leader without a proposer.

import { VxmeshError, type ErrorBody } from '#model/errors.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { decodeAnswers, encodeProposals } from '#replication/codec/proposal-codec.ts'

/** A frame of requests, which need not make sense. */
export function frameOf(...requests: readonly unknown[]): Uint8Array {
  return encodeProposals({ outcomes: true, requests: requests.map(request => encodeMsgpack(request)) })
}

/** The answer to a frame of one request: `{ applied }` or `{ leader }`. @throws the error that kept it out of the log */
export function answerIn(reply: unknown): unknown {
  const { answers } = (reply ?? {}) as { readonly answers?: unknown }
  if (answers === undefined) return reply
  const [answer] = decodeAnswers(answers)
  if (answer !== undefined && 'error' in answer) throw VxmeshError.fromBody(answer.error as ErrorBody)
  return { applied: answer }
}
