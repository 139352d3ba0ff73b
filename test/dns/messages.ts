// Queries and answers for the tests of the resolver.

import { decode, encode, RECURSION_DESIRED, type Answer, type DecodedPacket, type RecordType } from 'dns-packet'

/** A query as a client sends it. @param p `edns`: the largest answer by UDP that it takes */
export function ask(
  name: string,
  type: RecordType | 'ANY' = 'A',
  p: { readonly id?: number; readonly edns?: number; readonly wantsSignatures?: boolean } = {}
): Buffer {
  const opt: Answer = {
    type: 'OPT',
    name: '.',
    udpPayloadSize: p.edns ?? 512,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: p.wantsSignatures === true ? 0x8000 : 0,
    flag_do: p.wantsSignatures === true,
    options: []
  }
  return encode({
    type: 'query',
    id: p.id ?? 7,
    flags: RECURSION_DESIRED,
    questions: [{ name, type: type as RecordType }],
    additionals: p.edns === undefined ? [] : [opt]
  })
}

/** An upstream resolver's answer to a message. */
export function answerTo(
  message: Buffer,
  p: {
    readonly answers?: Answer[]
    readonly authorities?: Answer[]
    readonly additionals?: Answer[]
    readonly flags?: number
  }
): Buffer {
  const { id = 0, questions = [] } = decode(message)
  const { answers = [], authorities = [], additionals = [], flags = 0 } = p
  return encode({ type: 'response', id, flags, questions, answers, authorities, additionals })
}

export type Read = {
  readonly rcode: string
  readonly packet: DecodedPacket
  /** The data of the answers. */
  readonly data: readonly unknown[]
}

export function read(message: Buffer): Read {
  const packet = decode(message)
  const { rcode } = packet as unknown as { rcode: string }
  return { rcode, packet, data: (packet.answers ?? []).map(one => ('data' in one ? one.data : null)) }
}

export const soaOf = (name: string, minimum: number, ttl = 3_600): Answer => ({
  type: 'SOA',
  name,
  ttl,
  data: { mname: `a.${name}`, rname: `b.${name}`, serial: 1, refresh: 1, retry: 1, expire: 1, minimum }
})
