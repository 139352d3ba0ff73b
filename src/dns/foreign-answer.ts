// Answers of upstream resolvers: checked, and passed on to clients as they came, with the client's id and question and with TTLs that
// have aged. Types that nobody here knows, and signatures, stay intact. Pure.

import { encodeHeader, encodeOpt, optOf } from './reply.ts'
import type { Query } from './query.ts'
import {
  AD,
  CD,
  HEADER_BYTES,
  QR,
  questionEnd,
  questionKey,
  RA,
  RCODE,
  RCODES,
  RD,
  readHeader,
  readRecords,
  TC,
  TYPES,
  type RecordSpan
} from './wire.ts'

/** Longest time that an answer is kept, whatever it says itself: a wrong one must not last for days. */
const KEEP_MOST_S = 3_600
/** The same of "there is no such name" (RFC 2308 section 5). */
const KEEP_NEGATIVE_S = 300

export type ForeignAnswer = {
  readonly flags: number
  readonly answers: number
  readonly authorities: number
  readonly additionals: number
  /** What follows the question, without the OPT record, which is between the resolver and us, and what comes after it. */
  readonly records: Buffer
  /** Offsets of the TTLs in `records`. */
  readonly ttls: readonly number[]
  /** How long it may be kept; 0: not at all. */
  readonly keepS: number
}

/** What is sent upstream: the question alone, so that nothing else of a client leaves the host. */
export function upstreamQuery(query: Query, id: number): Buffer {
  const header = encodeHeader({
    id,
    flags: RD | (query.flags & CD),
    questions: 1,
    answers: 0,
    authorities: 0,
    additionals: 1
  })
  const opt = encodeOpt({ wantsSignatures: query.edns?.wantsSignatures === true })
  return Buffer.concat([header, query.question, opt])
}

/** Null unless the message is a well-formed answer to what was sent (RFC 5452 section 9.1). */
export function readForeignAnswer(message: Buffer, sent: Buffer): ForeignAnswer | null {
  const header = readHeader(message)
  const [asked, end] = [questionEnd(sent), questionEnd(message)]
  if (header === null || asked === null || end === null || header.questions !== 1) return null
  if (header.id !== sent.readUInt16BE(0) || (header.flags & QR) === 0) return null
  const question = (from: Buffer, to: number): string => questionKey(from.subarray(HEADER_BYTES, to))
  if (question(message, end) !== question(sent, asked)) return null
  const counted = header.answers + header.authorities
  const all = readRecords(message, end, counted + header.additionals)
  if (all === null) return null
  const opt = all.findIndex(({ type }, at) => at >= counted && type === TYPES.OPT)
  const kept = opt < 0 ? all : all.slice(0, opt)
  return {
    flags: header.flags,
    answers: header.answers,
    authorities: header.authorities,
    additionals: kept.length - counted,
    records: Buffer.from(message.subarray(end, kept.at(-1)?.end ?? end)),
    ttls: kept.map(({ fields }) => fields + 4 - end),
    keepS: keepS({ message, flags: header.flags, answers: header.answers, records: kept.slice(0, counted) })
  }
}

export function isTruncated({ flags }: Pick<ForeignAnswer, 'flags'>): boolean {
  return (flags & TC) !== 0
}

/** Did the resolver fail, so that another one may know better? */
export function isFailure({ flags }: Pick<ForeignAnswer, 'flags'>): boolean {
  const rcode = flags & RCODE
  return rcode !== RCODES.ok && rcode !== RCODES.noName
}

/** @param ageS how long ago it was received */
export function replyWith(answer: ForeignAnswer, query: Query, ageS: number): Buffer {
  const opt = optOf(query)
  const isCut = HEADER_BYTES + query.question.length + answer.records.length + opt.length > query.mostBytes
  const kept = answer.flags & (AD | TC | RCODE)
  const count = (records: number): number => (isCut ? 0 : records)
  const header = encodeHeader({
    id: query.id,
    flags: QR | RA | (query.flags & (RD | CD)) | kept | (isCut ? TC : 0),
    questions: 1,
    answers: count(answer.answers),
    authorities: count(answer.authorities),
    additionals: count(answer.additionals) + (opt.length === 0 ? 0 : 1)
  })
  return Buffer.concat([header, query.question, isCut ? Buffer.alloc(0) : aged(answer, ageS), opt])
}

function aged({ records, ttls }: ForeignAnswer, ageS: number): Buffer {
  if (ageS === 0) return records
  const copy = Buffer.from(records)
  for (const at of ttls) copy.writeUInt32BE(Math.max(0, copy.readUInt32BE(at) - ageS), at)
  return copy
}

function keepS(p: {
  readonly message: Buffer
  readonly flags: number
  readonly answers: number
  /** Of answer and authority. */
  readonly records: readonly RecordSpan[]
}): number {
  if (isTruncated(p) || isFailure(p)) return 0
  const least = p.records.reduce((ttl, { ttlS }) => Math.min(ttl, ttlS >= 2 ** 31 ? 0 : ttlS), KEEP_MOST_S)
  const isNegative = p.answers === 0 || (p.flags & RCODE) === RCODES.noName
  if (!isNegative) return least
  const soa = p.records.find(({ type }) => type === TYPES.SOA)
  // Without a SOA nothing says for how long (RFC 2308 section 5). Its last field is the minimum.
  if (soa === undefined || soa.end - soa.fields < 10 + 20) return 0
  return Math.min(least, KEEP_NEGATIVE_S, p.message.readUInt32BE(soa.end - 4))
}
