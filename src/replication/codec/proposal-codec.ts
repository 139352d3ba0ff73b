// Proposals and their answers as bytes, many in one frame. A proposal is u32 length and an encoded request, which enters the
// log as it is. An answer is u8 kind, for an applied request its u48 index, then u32 length and a msgpack value: the outcome,
// or the error with which the request was kept out of the log. Big-endian.

import type { Outcome } from '#model/command.ts'
import type { ErrorBody } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { malformed } from './entry-codec.ts'

/** Most proposals in one frame. */
export const MAX_BATCH = 1_024

const APPLIED = 1
const REFUSED = 2
const LENGTH_BYTES = 4
const INDEX_BYTES = 6

/** `outcome` and `error` are of another host: not checked yet. */
export type WireAnswer = { readonly index: LogIndex; readonly outcome: unknown } | { readonly error: unknown }

export type ProposalAnswer = { readonly index: LogIndex; readonly outcome: Outcome } | { readonly error: ErrorBody }

export function encodeProposals(requests: readonly Uint8Array[]): Uint8Array {
  let size = 0
  for (const request of requests) size += LENGTH_BYTES + request.byteLength
  const out = Buffer.allocUnsafe(size)
  let at = 0
  for (const request of requests) {
    out.writeUInt32BE(request.byteLength, at)
    out.set(request, at + LENGTH_BYTES)
    at += LENGTH_BYTES + request.byteLength
  }
  return out
}

/** Views of the bytes. @throws ERR_PEER on anything malformed, and on more than MAX_BATCH */
export function decodeProposals(value: unknown): Uint8Array[] {
  const bytes = asBuffer(value)
  const requests: Uint8Array[] = []
  for (let at = 0; at < bytes.byteLength;) {
    const end = endOf(bytes, at)
    requests.push(bytes.subarray(at + LENGTH_BYTES, end))
    at = end
  }
  if (requests.length === 0 || requests.length > MAX_BATCH) throw malformed('batch of proposals')
  return requests
}

export function encodeAnswers(answers: readonly ProposalAnswer[]): Uint8Array {
  const parts: Uint8Array[] = []
  for (const answer of answers) {
    const body = encodeMsgpack('error' in answer ? answer.error : answer.outcome)
    const indexBytes = 'error' in answer ? 0 : INDEX_BYTES
    const head = Buffer.allocUnsafe(1 + indexBytes + LENGTH_BYTES)
    head[0] = 'error' in answer ? REFUSED : APPLIED
    if ('index' in answer) head.writeUIntBE(answer.index, 1, INDEX_BYTES)
    head.writeUInt32BE(body.byteLength, 1 + indexBytes)
    parts.push(head, body)
  }
  return Buffer.concat(parts)
}

/** @throws ERR_PEER on anything malformed */
export function decodeAnswers(value: unknown): WireAnswer[] {
  const bytes = asBuffer(value)
  const answers: WireAnswer[] = []
  for (let at = 0; at < bytes.byteLength;) {
    const kind = bytes[at]
    const isApplied = kind === APPLIED
    if (!isApplied && kind !== REFUSED) throw malformed('answer to proposals')
    const lengthAt = at + 1 + (isApplied ? INDEX_BYTES : 0)
    const end = endOf(bytes, lengthAt)
    const body = decodeMsgpack(bytes.subarray(lengthAt + LENGTH_BYTES, end))
    answers.push(
      isApplied ? { index: bytes.readUIntBE(at + 1, INDEX_BYTES) as LogIndex, outcome: body } : { error: body }
    )
    at = end
  }
  return answers
}

/** The end of the value whose length is at an offset. */
function endOf(bytes: Buffer, at: number): number {
  if (at + LENGTH_BYTES > bytes.byteLength) throw malformed('batch of proposals')
  const end = at + LENGTH_BYTES + bytes.readUInt32BE(at)
  if (end > bytes.byteLength) throw malformed('batch of proposals')
  return end
}

function asBuffer(value: unknown): Buffer {
  if (!(value instanceof Uint8Array)) throw malformed('batch of proposals')
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
}
