import fc from 'fast-check'
import t from 'tap'
import { keyOf, parseQuery } from '#dns/query.ts'
import { encodeReply } from '#dns/reply.ts'
import { RCODES } from '#dns/wire.ts'
import { ask, read } from './messages.ts'

/** A query with one field of its header replaced. */
function changed(at: number, word: number, from = ask('www.example')): Buffer {
  const message = Buffer.from(from)
  message.writeUInt16BE(word, at * 2)
  return message
}

t.test('only a single plain question is taken', t => {
  const plain = ask('www.example')
  for (const [what, message, expected] of [
    ['a plain one', plain, 'query'],
    ['a response', changed(1, 0x8100), 'nothing'],
    ['less than a header', plain.subarray(0, 11), 'nothing'],
    ['another opcode', changed(1, 0x2000), RCODES.notImplemented],
    ['no question', changed(2, 0), RCODES.malformed],
    ['two questions', changed(2, 2), RCODES.malformed],
    ['an answer', changed(3, 1), RCODES.malformed],
    ['an authority', changed(4, 1), RCODES.malformed],
    ['an additional record that is not there', changed(5, 1), RCODES.malformed],
    ['many additional records', changed(5, 3), RCODES.malformed],
    ['a question that is cut', plain.subarray(0, -1), RCODES.malformed],
    ['too many bytes', Buffer.concat([plain, Buffer.alloc(1_024)]), RCODES.malformed],
    ['a pointer', Buffer.concat([plain.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]), RCODES.malformed],
    [
      'a label of 64 bytes',
      Buffer.concat([plain.subarray(0, 12), Buffer.from([64]), Buffer.alloc(64, 97), Buffer.from([0, 0, 1, 0, 1])]),
      RCODES.malformed
    ],
    [
      'a name of 256 bytes',
      Buffer.concat([
        plain.subarray(0, 12),
        ...Array.from({ length: 51 }, () => Buffer.from('\x04abcd')),
        Buffer.from([0, 0, 1, 0, 1])
      ]),
      RCODES.malformed
    ]
  ] as const) {
    const parsed = parseQuery(message, 'udp')
    t.equal(parsed.kind === 'error' ? parsed.rcode : parsed.kind, expected, what)
  }
  t.end()
})

t.test('another version of EDNS is told which one is known', t => {
  const message = ask('www.example', 'A', { edns: 1_232 })
  message[message.length - 5] = 1
  const parsed = parseQuery(message, 'udp')
  if (parsed.kind !== 'error') throw new Error(parsed.kind)
  const { packet } = read(encodeReply(parsed.query, { rcode: parsed.rcode }))
  t.match(packet.additionals, [{ type: 'OPT', extendedRcode: 1, ednsVersion: 0 }])
  t.end()
})

t.test('the size of an answer is what the client takes, within bounds', t => {
  const most = (edns: number | undefined, transport: 'udp' | 'tcp'): number => {
    const parsed = parseQuery(ask('a.example', 'A', edns === undefined ? {} : { edns }), transport)
    return parsed.kind === 'query' ? parsed.query.mostBytes : 0
  }
  t.same(
    [undefined, 100, 1_000, 65_535].map(edns => most(edns, 'udp')),
    [512, 512, 1_000, 1_232]
  )
  t.equal(most(undefined, 'tcp'), 65_535)
  t.end()
})

t.test('queries share an answer if nothing that it depends on differs', t => {
  const key = (message: Buffer): string => {
    const parsed = parseQuery(message, 'udp')
    return parsed.kind === 'query' ? keyOf(parsed.query) : ''
  }
  const plain = key(ask('www.example'))
  t.equal(key(ask('WWW.eXample', 'A', { id: 9, edns: 1_232 })), plain)
  for (const other of [
    ask('ww.example'),
    ask('www.example', 'AAAA'),
    ask('www.example', 'A', { edns: 512, wantsSignatures: true })
  ])
    t.not(key(other), plain)
  t.not(key(changed(1, 0x0110)), plain, 'checking is disabled')
  t.end()
})

t.test('no bytes make the parser throw, and an error is always encoded', t => {
  const damaged = fc
    .tuple(
      fc.constantFrom(ask('www.example'), ask('a.b.c.red.vxmesh', 'PTR', { edns: 4_096 })),
      fc.array(fc.tuple(fc.nat(80), fc.nat(255)))
    )
    .map(([message, changes]) => {
      const copy = Buffer.from(message)
      for (const [at, byte] of changes) if (at < copy.length) copy[at] = byte
      return copy
    })
  const bytes = fc.uint8Array({ maxLength: 1_100 }).map(array => Buffer.from(array))
  const headed = fc.tuple(fc.constant(ask('x').subarray(0, 12)), bytes).map(parts => Buffer.concat(parts))
  fc.assert(
    fc.property(fc.oneof(damaged, bytes, headed), fc.constantFrom('udp', 'tcp'), (message, transport) => {
      const parsed = parseQuery(message, transport)
      if (parsed.kind === 'nothing') return true
      const reply = encodeReply(parsed.query, { rcode: parsed.kind === 'error' ? parsed.rcode : RCODES.ok })
      return (
        reply.length <= parsed.query.mostBytes &&
        reply.readUInt16BE(0) === message.readUInt16BE(0) &&
        (reply[2] ?? 0) >= 0x80
      )
    }),
    { numRuns: 20_000 }
  )
  t.end()
})
