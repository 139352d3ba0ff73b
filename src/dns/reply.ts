// Answers that this host gives itself, as bytes. dns-packet encodes their records. Pure.

import { encode, type Answer } from 'dns-packet'
import { UDP_BYTES, type Query } from './query.ts'
import { AA, CD, HEADER_BYTES, QR, RA, RD, TC, TYPES, type Header, type Rcode } from './wire.ts'

export type Reply = {
  readonly rcode: Rcode
  readonly isAuthoritative?: boolean
  readonly answers?: readonly Answer[]
  readonly authorities?: readonly Answer[]
}

/** An answer that has no room for all records has none, and says that it is truncated: its client asks again by TCP. There, as many as fit. */
export function encodeReply(query: Query, reply: Reply): Buffer {
  const { question, mostBytes } = query
  const { rcode, isAuthoritative = false } = reply
  const opt = optOf(query, rcode >> 4)
  const room = mostBytes - HEADER_BYTES - question.length - opt.length
  const answers = encodeRecords(reply.answers ?? [], room)
  const authorities = encodeRecords(reply.authorities ?? [], room - answers.bytes.length)
  const isCut = !answers.isWhole && mostBytes <= UDP_BYTES
  const flags = QR | RA | (query.flags & (RD | CD)) | (isAuthoritative ? AA : 0) | (isCut ? TC : 0) | (rcode & 0xf)
  const header = encodeHeader({
    id: query.id,
    flags,
    questions: question.length === 0 ? 0 : 1,
    answers: isCut ? 0 : answers.count,
    authorities: isCut ? 0 : authorities.count,
    additionals: opt.length === 0 ? 0 : 1
  })
  return Buffer.concat([header, question, ...(isCut ? [] : [answers.bytes, authorities.bytes]), opt])
}

export function encodeHeader(p: Header): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  const words = [p.id, p.flags, p.questions, p.answers, p.authorities, p.additionals]
  for (const [at, word] of words.entries()) header.writeUInt16BE(word, at * 2)
  return header
}

/** The OPT record of an answer; empty for a client without EDNS. @param extendedRcode the upper bits of the response code */
export function optOf({ edns }: Pick<Query, 'edns'>, extendedRcode = 0): Buffer {
  return edns === null ? Buffer.alloc(0) : encodeOpt({ wantsSignatures: edns.wantsSignatures, extendedRcode })
}

export function encodeOpt(p: { readonly wantsSignatures: boolean; readonly extendedRcode?: number }): Buffer {
  const opt = Buffer.alloc(11)
  opt.writeUInt16BE(TYPES.OPT, 1)
  opt.writeUInt16BE(UDP_BYTES, 3)
  opt.writeUInt8(p.extendedRcode ?? 0, 5)
  opt.writeUInt16BE(p.wantsSignatures ? 0x8000 : 0, 7)
  return opt
}

/** The first ones that fit. Their names are not compressed, so that the bytes do not depend on where they stand. */
function encodeRecords(
  records: readonly Answer[],
  room: number
): { readonly bytes: Buffer; readonly count: number; readonly isWhole: boolean } {
  const parts: Buffer[] = []
  let left = room
  for (const record of records) {
    const bytes = encode({ type: 'response', questions: [], answers: [record] }).subarray(HEADER_BYTES)
    if (bytes.length > left) break
    parts.push(bytes)
    left -= bytes.length
  }
  return { bytes: Buffer.concat(parts), count: parts.length, isWhole: parts.length === records.length }
}
