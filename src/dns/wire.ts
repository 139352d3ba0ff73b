// DNS messages as they are on the wire (RFC 1035 section 4): where the question and the records of a message are. Answers of others are
// passed on as they came, so nothing of them is decoded but types and TTLs. Reads hostile input: every length is checked, a name
// is skipped without following its pointers, and all costs are O(bytes). Pure.

export const HEADER_BYTES = 12

/** Bits of the second word of the header. */
export const QR = 0x8000
export const AA = 0x0400
export const TC = 0x0200
export const RD = 0x0100
export const RA = 0x0080
export const AD = 0x0020
export const CD = 0x0010
export const RCODE = 0x000f

/** RFC 1035 section 4.1.1, RFC 6891 section 9. */
export const RCODES = {
  ok: 0,
  malformed: 1,
  failed: 2,
  noName: 3,
  notImplemented: 4,
  refused: 5,
  badVersion: 16
} as const
export type Rcode = (typeof RCODES)[keyof typeof RCODES]

export const TYPES = { SOA: 6, OPT: 41, RRSIG: 46 } as const

export type Header = {
  readonly id: number
  readonly flags: number
  readonly questions: number
  readonly answers: number
  readonly authorities: number
  readonly additionals: number
}

export type RecordSpan = {
  readonly start: number
  /** Of the type; class, TTL and length follow. */
  readonly fields: number
  readonly type: number
  readonly ttlS: number
  readonly end: number
}

/** Null if the message is shorter than a header. */
export function readHeader(message: Buffer): Header | null {
  if (message.length < HEADER_BYTES) return null
  const word = (at: number): number => message.readUInt16BE(at * 2)
  return {
    id: word(0),
    flags: word(1),
    questions: word(2),
    answers: word(3),
    authorities: word(4),
    additionals: word(5)
  }
}

/** Where the question that follows the header ends; null if it is malformed, or its name has a pointer, for which there is no reason. */
export function questionEnd(message: Buffer): number | null {
  const end = skipName(message, HEADER_BYTES, false)
  return end === null || end + 4 > message.length ? null : end + 4
}

/** So many records from an offset on; null if one is malformed. */
export function readRecords(message: Buffer, from: number, count: number): readonly RecordSpan[] | null {
  const records: RecordSpan[] = []
  let start = from
  for (let n = 0; n < count; n++) {
    const fields = skipName(message, start, true)
    if (fields === null || fields + 10 > message.length) return null
    const end = fields + 10 + message.readUInt16BE(fields + 8)
    if (end > message.length) return null
    const [type, ttlS] = [message.readUInt16BE(fields), message.readUInt32BE(fields + 4)]
    records.push({ start, fields, type, ttlS, end })
    start = end
  }
  return records
}

/**
 * The name at the start of a question in lower case, its labels joined by dots, '' for the root; null if a label has other bytes than
 * printable ASCII, or a dot or backslash: no name of ours has, and the text would be ambiguous.
 */
export function nameIn(question: Buffer): string | null {
  const labels: string[] = []
  for (let at = 0; ;) {
    const length = question[at] ?? 0
    if (length === 0) return labels.join('.').toLowerCase()
    const label = question.subarray(at + 1, at + 1 + length)
    if (label.some(byte => byte <= 0x20 || byte >= 0x7f || byte === 0x2e || byte === 0x5c)) return null
    labels.push(label.toString('latin1'))
    at += 1 + length
  }
}

/** A question whose letters are of lower case, as text: equal exactly if two questions are. */
export function questionKey(question: Buffer): string {
  return question.subarray(0, -4).toString('latin1').toLowerCase() + question.subarray(-4).toString('latin1')
}

/** The offset after a name; null if it is malformed or longer than 255 bytes. */
function skipName(message: Buffer, from: number, mayPoint: boolean): number | null {
  for (let at = from; at < message.length && at - from < 255;) {
    const length = message[at] ?? 0
    if (length === 0) return at + 1
    if (length >= 0xc0) return mayPoint && at + 2 <= message.length ? at + 2 : null
    if (length >= 0x40) return null
    at += 1 + length
  }
  return null
}
