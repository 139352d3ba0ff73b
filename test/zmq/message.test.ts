import fc from 'fast-check'
import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { MAX_TEXT_BYTES } from '#zmq/bytes.ts'
import {
  decodeConnection,
  decodeNetwork,
  decodeRequest,
  decodeService,
  encodeConnection,
  encodeError,
  encodeMessage,
  encodeNetwork,
  encodeService,
  MAX_MESSAGE_BYTES,
  type Connection
} from '#zmq/message.ts'

const int32 = fc.integer({ min: -0x80000000, max: 0x7fffffff })
const uint32 = fc.integer({ min: 0, max: 0xffffffff })
const text = fc.string({ unit: 'binary', maxLength: 40 }).filter(s => !s.includes('\0') && s.isWellFormed())
const connection: fc.Arbitrary<Connection> = fc.record({
  id: text,
  name: text,
  pid: text,
  requestIp: uint32,
  network: uint32,
  ovsPortId: int32,
  bandwidth: int32,
  delay: int32,
  rxTotal: int32,
  txTotal: int32,
  rxRate: int32,
  txRate: int32,
  connDetail: text
})
const service = fc.record({
  name: text,
  network: text,
  ports: text,
  requestIp: uint32,
  affinity: int32,
  serviceDetail: text
})
const network = fc.record({ name: text, subnet: text, gateway: text, vni: int32, egressBandwidth: int32 })

const EMPTY: Connection = {
  id: 'a',
  name: '',
  pid: '1',
  requestIp: 0,
  network: 0,
  ovsPortId: 0,
  bandwidth: 0,
  delay: 0,
  rxTotal: 0,
  txTotal: 0,
  rxRate: 0,
  txRate: 0,
  connDetail: ''
}

/** A message of 32-bit words and texts, encoded independently of our codec. */
function raw(type: number, fields: readonly (number | string | Buffer)[], lengthOff = 0): Buffer {
  const parts = fields.map(field => {
    if (typeof field !== 'number') return Buffer.from(field)
    const word = Buffer.alloc(4)
    word.writeInt32LE(field | 0)
    return word
  })
  const data = Buffer.concat(parts)
  const header = Buffer.alloc(8)
  header.writeInt32LE(data.byteLength + lengthOff, 0)
  header.writeInt32LE(type | 0, 4)
  return Buffer.concat([header, data])
}

const SIX = [0, 0, 0, 0, 0, 0, 0, 0, 0]

t.test('encoded messages decode to the same values', async t => {
  fc.assert(fc.property(connection, c => t.same(decodeConnection(encodeConnection(c)), c) || true))
  fc.assert(fc.property(network, n => t.same(decodeNetwork(encodeNetwork(n)), n) || true))
  fc.assert(fc.property(service, s => t.same(decodeService(encodeService(s)), s) || true))
})

t.test('accepted messages encode to the same bytes', async () => {
  fc.assert(
    fc.property(connection, fc.nat(), fc.integer({ min: 0, max: 255 }), (c, at, byte) => {
      const data = encodeConnection(c)
      data[at % data.byteLength] = byte
      try {
        return encodeConnection(decodeConnection(data)).equals(data)
      } catch (err) {
        return err instanceof VxmeshError
      }
    }),
    { numRuns: 2_000 }
  )
})

t.test('any bytes give a request or a typed error', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.constantFrom(1, 2, 3, 11, 12, 13, 21, 22, 23, 0, 99),
      (bytes, type) => {
        for (const message of [Buffer.from(bytes), encodeMessage(type, Buffer.from(bytes))]) {
          try {
            decodeRequest(message)
          } catch (err) {
            if (!(err instanceof VxmeshError) || err.code !== 'ERR_INVALID' || err.field === undefined) return false
          }
        }
        return true
      }
    ),
    { numRuns: 5_000 }
  )
})

t.test('counters saturate, addresses do not', async t => {
  const data = encodeConnection({ ...EMPTY, rxTotal: 2 ** 40, txTotal: -(2 ** 40), requestIp: 0xc0000201 })
  const back = decodeConnection(data)
  t.equal(back.rxTotal, 0x7fffffff)
  t.equal(back.txTotal, -0x80000000)
  t.equal(back.requestIp, 0xc0000201)
})

t.test('a malformed message is refused with the name of the field', async t => {
  const cases: readonly (readonly [what: string, message: Buffer, field: string])[] = [
    ['nothing', Buffer.alloc(0), 'msgLen'],
    ['three bytes', Buffer.alloc(3), 'msgLen'],
    ['half a header', Buffer.alloc(4), 'msgType'],
    ['a length one too short', raw(3, [1, 'a', 0, 0, ...SIX, 0], -1), 'msgLen'],
    ['a length one too long', raw(3, [1, 'a', 0, 0, ...SIX, 0], 1), 'msgLen'],
    ['a negative length', raw(3, [1, 'a', 0, 0, ...SIX, 0], -1_000), 'msgLen'],
    ['type 0', raw(0, [1, 'a', 0, 0, ...SIX, 0]), 'msgType'],
    ['type 5', raw(5, [1, 'a', 0, 0, ...SIX, 0]), 'msgType'],
    ['an answer', raw(101, [1, 'a', 0, 0, ...SIX, 0]), 'msgType'],
    ['an error', encodeError({ code: 1, message: 'm', detail: null }), 'msgType'],
    ['a negative type', raw(-1, [1, 'a', 0, 0, ...SIX, 0]), 'msgType'],
    ['a type of all bits', raw(0xffffffff, []), 'msgType'],
    ['no fields', raw(1, []), 'IDLen'],
    ['an id beyond the message', raw(1, [5, 'abcd']), 'IDLen'],
    ['an id of -1', raw(1, [-1, 'abcd']), 'IDLen'],
    ['an id of 2^31-1', raw(1, [0x7fffffff, 'abcd']), 'IDLen'],
    ['an id of -2^31', raw(1, [-0x80000000, 'abcd']), 'IDLen'],
    ['an id that is no UTF-8', raw(1, [2, Buffer.from([0xc3, 0x28]), 0, 0, ...SIX, 0]), 'ID'],
    ['an id with a surrogate', raw(1, [3, Buffer.from([0xed, 0xa0, 0x80]), 0, 0, ...SIX, 0]), 'ID'],
    ['an id with a zero byte', raw(1, [2, 'a\0', 0, 0, ...SIX, 0]), 'ID'],
    ['a name beyond the message', raw(1, [1, 'a', 9, 'b']), 'NameLen'],
    ['a PID beyond the message', raw(1, [1, 'a', 0, 2, '1']), 'PIDLen'],
    ['an end inside RequestIP', raw(1, [1, 'a', 0, 0, Buffer.alloc(3)]), 'RequestIP'],
    ['an end before Network', raw(1, [1, 'a', 0, 0, 0]), 'Network'],
    ['an end before the last rate', raw(1, [1, 'a', 0, 0, ...SIX.slice(1)]), 'TxRate'],
    ['an end before the detail', raw(1, [1, 'a', 0, 0, ...SIX]), 'ConnDetailLen'],
    ['a detail beyond the message', raw(1, [1, 'a', 0, 0, ...SIX, 9, '{}']), 'ConnDetailLen'],
    ['bytes after the detail', raw(1, [1, 'a', 0, 0, ...SIX, 2, '{}', 'x']), 'msgLen'],
    ['a network without a subnet', raw(11, [1, 'n']), 'subnetLen'],
    ['a network that ends before its VNI', raw(11, [1, 'n', 0, 0]), 'vni'],
    ['bytes after a network', raw(11, [1, 'n', 0, 0, 0, 0, 'x']), 'msgLen']
  ]
  for (const [what, message, field] of cases) {
    t.throws(() => decodeRequest(message), { code: 'ERR_INVALID', field }, what)
  }
  t.ok(cases.length >= 30)
})

t.test('a length field never causes an allocation beyond the received bytes', async t => {
  const before = process.memoryUsage().arrayBuffers
  for (let n = 0; n < 1_000; n++) t.throws(() => decodeRequest(raw(1, [0x7ffffff0, 'x'])))
  t.ok(process.memoryUsage().arrayBuffers - before < 16 * MAX_MESSAGE_BYTES)
})

t.test('a text is decoded up to 16 KiB, and a longer one is refused by its field', t => {
  const of = (name: string): Buffer =>
    encodeMessage(13, encodeNetwork({ name, subnet: '', gateway: '', vni: 0, egressBandwidth: 0 }))
  t.match(decodeRequest(of('n'.repeat(MAX_TEXT_BYTES))).request, { network: { name: /^n+$/ } })
  t.throws(() => decodeRequest(of('n'.repeat(MAX_TEXT_BYTES + 1))), {
    code: 'ERR_INVALID',
    message: /has 16385 bytes, and 16384 are the most/
  })
  t.end()
})
