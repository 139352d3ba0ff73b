// The queries of containers: parsed, or why they are not answered. dns-packet decodes what the checks here have bounded. Pure.

import { decode, type Answer, type OptAnswer } from 'dns-packet'
import { CD, nameIn, QR, questionEnd, questionKey, RCODES, RD, readHeader, HEADER_BYTES, type Rcode } from './wire.ts'

/** Longest query: a question of 255 bytes, and options. */
const QUERY_BYTES = 1_024
/** OPT, and one more such as TSIG, which is ignored. */
const ADDITIONALS = 2

/** The largest answer by UDP to a client without EDNS (RFC 1035 section 4.2.1). */
const PLAIN_UDP_BYTES = 512
/** The same of a client with EDNS, whatever it asks for: fits into a packet of 1,280 bytes, so that no answer is fragmented. */
export const UDP_BYTES = 1_232
export const TCP_BYTES = 65_535

export type Query = {
  readonly id: number
  /** RD and CD of the client. */
  readonly flags: number
  /** As it came: its letters may be of either case, and an answer repeats it. */
  readonly question: Buffer
  /** In lower case, without the dot at its end, '' for the root; null if it has bytes that no name of ours has. */
  readonly name: string | null
  /** As dns-packet names it: A, AAAA, or UNKNOWN_65. */
  readonly type: string
  readonly isInternet: boolean
  /** Null without EDNS. */
  readonly edns: { readonly wantsSignatures: boolean } | null
  /** The largest answer that the client takes, in bytes. */
  readonly mostBytes: number
}

export type Parsed =
  | { readonly kind: 'query'; readonly query: Query }
  /** To be answered with an error. `question` may be empty. */
  | { readonly kind: 'error'; readonly query: Query; readonly rcode: Rcode }
  /** To be left without an answer: no query, or too short to be one. */
  | { readonly kind: 'nothing' }

/** Never throws. */
export function parseQuery(message: Buffer, transport: 'udp' | 'tcp'): Parsed {
  const header = readHeader(message)
  if (header === null || (header.flags & QR) !== 0) return { kind: 'nothing' }
  const most = transport === 'tcp' ? TCP_BYTES : PLAIN_UDP_BYTES
  const blank: Query = {
    id: header.id,
    flags: header.flags & (RD | CD),
    question: Buffer.alloc(0),
    name: null,
    type: '',
    isInternet: false,
    edns: null,
    mostBytes: most
  }
  const error = (rcode: Rcode, query = blank): Parsed => ({ kind: 'error', query, rcode })
  if ((header.flags & 0x7800) !== 0) return error(RCODES.notImplemented)
  const { questions, answers, authorities, additionals } = header
  const end = questions === 1 ? questionEnd(message) : null
  const isPlain = answers === 0 && authorities === 0 && additionals <= ADDITIONALS && message.length <= QUERY_BYTES
  if (end === null || !isPlain) return error(RCODES.malformed)
  const decoded = tryDecode(message)
  const asked = decoded?.questions?.[0]
  if (decoded === null || asked === undefined) return error(RCODES.malformed)
  const question = Buffer.from(message.subarray(HEADER_BYTES, end))
  const edns = (decoded.additionals ?? []).find(isOpt)
  const mostBytes =
    transport === 'tcp' || edns === undefined
      ? most
      : Math.min(Math.max(edns.udpPayloadSize, PLAIN_UDP_BYTES), UDP_BYTES)
  const query: Query = {
    ...blank,
    question,
    name: nameIn(question),
    type: asked.type,
    isInternet: asked.class === 'IN',
    edns: edns === undefined ? null : { wantsSignatures: edns.flag_do },
    mostBytes
  }
  if (edns !== undefined && edns.ednsVersion !== 0) return error(RCODES.badVersion, query)
  return { kind: 'query', query }
}

/** Equal exactly if one answer serves both queries. */
export function keyOf({ question, flags, edns }: Query): string {
  return `${questionKey(question)}${flags & CD}${edns?.wantsSignatures === true ? 's' : ''}`
}

function isOpt(record: Answer): record is OptAnswer {
  return record.type === 'OPT'
}

function tryDecode(message: Buffer): ReturnType<typeof decode> | null {
  try {
    return decode(message)
  } catch {
    return null
  }
}
