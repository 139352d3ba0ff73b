import fc from 'fast-check'
import t from 'tap'
import { AUTHENTIC_DATA, TRUNCATED_RESPONSE, type Answer } from 'dns-packet'
import { readForeignAnswer, replyWith, upstreamQuery, type ForeignAnswer } from '#dns/foreign-answer.ts'
import { parseQuery, type Query } from '#dns/query.ts'
import { answerTo, ask, read, soaOf } from './messages.ts'

const A = (ttl: number, name = 'www.example'): Answer => ({ type: 'A', name, ttl, data: '203.0.113.7' })
const OPT: Answer = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: 4_096,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: []
}

function queryOf(message: Buffer, transport: 'udp' | 'tcp' = 'udp'): Query {
  const parsed = parseQuery(message, transport)
  if (parsed.kind !== 'query') throw new Error(parsed.kind)
  return parsed.query
}

const query = queryOf(ask('WWW.example', 'A', { id: 99, edns: 1_232 }))
const sent = upstreamQuery(query, 4_711)

function known(message: Buffer): ForeignAnswer {
  const answer = readForeignAnswer(message, sent)
  if (answer === null) throw new Error('not read')
  return answer
}

t.test('upstream gets the question alone, with an id of its own', t => {
  const { packet } = read(upstreamQuery(queryOf(ask('WWW.example', 'A', { id: 99 })), 4_711))
  t.match(packet, {
    id: 4_711,
    flag_rd: true,
    questions: [{ name: 'WWW.example', type: 'A' }],
    additionals: [{ type: 'OPT', flag_do: false }]
  })
  t.end()
})

t.test('an answer is taken only if it is one to what was sent', t => {
  const right = answerTo(sent, { answers: [A(60)] })
  const other = Buffer.from(right)
  other.writeUInt16BE(1, 0)
  const query = Buffer.from(right)
  query[2] = 0
  for (const [what, message, isTaken] of [
    ['the right one', right, true],
    [
      'with letters of another case',
      answerTo(upstreamQuery(queryOf(ask('www.EXAMPLE')), 4_711), { answers: [A(60)] }),
      true
    ],
    ['another id', other, false],
    ['a query', query, false],
    ['another name', answerTo(upstreamQuery(queryOf(ask('ww.example')), 4_711), {}), false],
    ['another type', answerTo(upstreamQuery(queryOf(ask('www.example', 'AAAA')), 4_711), {}), false],
    ['cut within a record', right.subarray(0, -1), false],
    ['cut within the header', right.subarray(0, 10), false]
  ] as const)
    t.equal(readForeignAnswer(message, sent) !== null, isTaken, what)
  t.end()
})

t.test('a client gets it with its own id and question, aged, without the upstream’s EDNS', t => {
  const foreign = known(
    answerTo(sent, {
      answers: [A(60)],
      authorities: [soaOf('example', 5)],
      additionals: [A(30, 'ns.example'), OPT],
      flags: AUTHENTIC_DATA
    })
  )
  const { packet, data } = read(replyWith(foreign, query, 20))
  t.match(packet, {
    id: 99,
    flag_qr: true,
    flag_rd: true,
    flag_ra: true,
    flag_aa: false,
    flag_ad: true,
    questions: [{ name: 'WWW.example' }]
  })
  t.same(data, ['203.0.113.7'])
  t.match(packet.answers, [{ ttl: 40 }])
  t.match(packet.additionals, [{ ttl: 10 }, { type: 'OPT', udpPayloadSize: 1_232 }])
  const plain = read(replyWith(foreign, queryOf(ask('www.example')), 0))
  t.match(plain.packet.additionals, [{ ttl: 30 }])
  t.equal(plain.packet.additionals?.length, 1, 'a client without EDNS gets none')
  t.match(read(replyWith(foreign, query, 1_000)).packet.answers, [{ ttl: 0 }])
  t.end()
})

t.test('types that nobody knows stay as they are', t => {
  const record: Answer = {
    type: 'UNKNOWN_65280' as 'NULL',
    name: 'www.example',
    ttl: 9,
    data: Buffer.from('\x01\x02\xff', 'latin1')
  }
  const message = answerTo(sent, { answers: [record] })
  t.ok(replyWith(known(message), query, 0).includes(message.subarray(-6)))
  t.end()
})

t.test('what does not fit is cut', t => {
  const text: Answer = {
    type: 'TXT',
    name: 'www.example',
    ttl: 9,
    data: Array.from({ length: 8 }, () => 'x'.repeat(200))
  }
  const large = known(answerTo(sent, { answers: [text] }))
  const cut = replyWith(large, query, 0)
  t.ok(cut.length <= 1_232)
  t.match(read(cut).packet, { flag_tc: true, answers: [] })
  t.match(read(replyWith(large, queryOf(ask('www.example'), 'tcp'), 0)).packet, {
    flag_tc: false,
    answers: [{ type: 'TXT' }]
  })
  t.end()
})

t.test('it is kept as long as all of it allows', t => {
  for (const [what, p, keepS] of [
    ['the least TTL', { answers: [A(60), A(30)], authorities: [soaOf('example', 5, 40)] }, 30],
    ['an hour at most', { answers: [A(86_400)] }, 3_600],
    ['a TTL with the highest bit is 0', { answers: [A(2 ** 31)] }, 0],
    ['NXDOMAIN by the SOA’s minimum', { flags: 3, authorities: [soaOf('example', 20)] }, 20],
    ['no data by the SOA’s TTL', { authorities: [soaOf('example', 20, 10)] }, 10],
    ['negative for five minutes at most', { flags: 3, authorities: [soaOf('example', 86_400, 86_400)] }, 300],
    ['negative without SOA', { flags: 3 }, 0],
    ['a failure', { flags: 2 }, 0],
    ['truncated', { flags: TRUNCATED_RESPONSE, answers: [A(60)] }, 0]
  ] as const)
    t.equal(
      known(
        answerTo(sent, {
          ...p,
          answers: [...('answers' in p ? p.answers : [])],
          authorities: [...('authorities' in p ? p.authorities : [])]
        })
      ).keepS,
      keepS,
      what
    )
  t.end()
})

t.test('no bytes make it throw, or an answer that is larger than the client takes', t => {
  const right = answerTo(sent, { answers: [A(60)], authorities: [soaOf('example', 5)], additionals: [OPT] })
  const damaged = fc.array(fc.tuple(fc.nat(right.length - 1), fc.nat(255)), { maxLength: 6 }).map(changes => {
    const copy = Buffer.from(right)
    for (const [at, byte] of changes) copy[at] = byte
    return copy
  })
  const tail = fc.uint8Array({ maxLength: 2_000 }).map(bytes => Buffer.concat([right.subarray(0, 40), bytes]))
  fc.assert(
    fc.property(fc.oneof(damaged, tail), message => {
      const answer = readForeignAnswer(message, sent)
      return answer === null || replyWith(answer, query, 3).length <= query.mostBytes
    }),
    { numRuns: 20_000 }
  )
  t.end()
})
