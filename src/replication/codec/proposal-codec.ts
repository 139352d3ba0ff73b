// Proposals and their answers as bytes, many in one frame. Proposals are u8 whether outcomes are wanted, then for each u32
// length and an encoded request, which enters the log as it is. An answer is u8 kind; for a committed request its u48 index;
// and u32 length and a msgpack value: the outcome, or the error that kept the request out of the log. No outcome is sent
// where the proposer finds it by applying its own bytes at that index. Big-endian.

import type { Outcome } from '#model/command.ts'
import type { ErrorBody } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import { bufferOf } from '#platform/bytes.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { malformed } from './entry-codec.ts'

/** Most proposals in one frame. */
export const MAX_BATCH = 1_024

const APPLIED = 1
const REFUSED = 2
/** Its own bytes are the entry, and no outcome follows. */
const COMMITTED = 3
const FLAG_BYTES = 1
const LENGTH_BYTES = 4
const INDEX_BYTES = 6

/** `outcome` and `error` are of another host: not checked yet. */
export type WireAnswer =
  | { readonly index: LogIndex; readonly outcome: unknown }
  | { readonly index: LogIndex; readonly own: true }
  | { readonly error: unknown }

export type ProposalAnswer =
  | { readonly index: LogIndex; readonly outcome: Outcome }
  | { readonly index: LogIndex; readonly own: true }
  | { readonly error: ErrorBody }

export type Proposals = { readonly outcomes: boolean; readonly requests: readonly Uint8Array[] }

export function encodeProposals({ outcomes, requests }: Proposals): Uint8Array {
  let size = FLAG_BYTES
  for (const request of requests) size += LENGTH_BYTES + request.byteLength
  const out = Buffer.allocUnsafe(size)
  out[0] = outcomes ? 1 : 0
  let at = FLAG_BYTES
  for (const request of requests) {
    out.writeUInt32BE(request.byteLength, at)
    out.set(request, at + LENGTH_BYTES)
    at += LENGTH_BYTES + request.byteLength
  }
  return out
}

/** Views of the bytes. @throws ERR_PEER on anything malformed, and on more than MAX_BATCH */
export function decodeProposals(value: unknown): Proposals {
  const bytes = asBuffer(value)
  const [flag] = bytes
  const requests: Uint8Array[] = []
  for (let at = FLAG_BYTES; at < bytes.byteLength;) {
    const end = endOf(bytes, at)
    requests.push(bytes.subarray(at + LENGTH_BYTES, end))
    at = end
  }
  if (flag === undefined || flag > 1 || requests.length === 0 || requests.length > MAX_BATCH) {
    throw malformed('batch of proposals')
  }
  return { outcomes: flag === 1, requests }
}

export function encodeAnswers(answers: readonly ProposalAnswer[]): Uint8Array {
  const parts: Uint8Array[] = []
  for (const answer of answers) {
    if ('own' in answer) {
      const head = Buffer.allocUnsafe(1 + INDEX_BYTES)
      head[0] = COMMITTED
      head.writeUIntBE(answer.index, 1, INDEX_BYTES)
      parts.push(head)
      continue
    }
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
    if (kind === COMMITTED) {
      if (at + 1 + INDEX_BYTES > bytes.byteLength) throw malformed('answer to proposals')
      answers.push({ index: bytes.readUIntBE(at + 1, INDEX_BYTES) as LogIndex, own: true })
      at += 1 + INDEX_BYTES
      continue
    }
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
  return bufferOf(value)
}
