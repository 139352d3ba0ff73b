import fc from 'fast-check'
import t from 'tap'
import {
  decodeMsgpack,
  encodeMsgpack,
  encodeMsgpackElements,
  msgpackArrayHeader,
  msgpackMapHeader,
  msgpackValueStream
} from '#platform/msgpack.ts'

const value = fc.letrec<{ any: unknown }>(tie => ({
  any: fc.oneof(
    { maxDepth: 3 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.string(),
    fc.array(tie('any'), { maxLength: 4 }),
    fc.dictionary(
      fc.string().filter(key => key !== '__proto__'),
      tie('any'),
      { maxKeys: 4, noNullPrototype: true }
    )
  )
})).any

t.test('values survive the round trip', t => {
  fc.assert(
    fc.property(value, each => t.strictSame(decodeMsgpack(encodeMsgpack(each)), each)),
    { numRuns: 300 }
  )
  t.end()
})

t.test('an array or a map assembled from encoded pieces decodes as a whole', t => {
  for (const length of [0, 1, 15, 16, 17, 65_535, 65_536]) {
    const list = Array.from({ length }, (_, n) => n)
    const bytes = Buffer.concat([msgpackArrayHeader(length), encodeMsgpackElements(list)])
    t.strictSame(decodeMsgpack(bytes), list, `${length} elements`)
  }
  const map = Buffer.concat([msgpackMapHeader(2), ...['a', 1, 'b', [2]].map(encodeMsgpack)])
  t.strictSame(decodeMsgpack(map), { a: 1, b: [2] })
  t.end()
})

t.test('bytes that are not exactly one value are refused with the given code', t => {
  for (const [what, bytes] of [
    ['nothing', Buffer.alloc(0)],
    ['a truncated text', encodeMsgpack('hello').subarray(0, -1)],
    ['a truncated array', Buffer.from([0x93, 1, 2])],
    ['two values', Buffer.concat([encodeMsgpack(1), encodeMsgpack(2)])]
  ] as const) {
    t.throws(() => decodeMsgpack(bytes), { code: 'ERR_PEER' }, what)
    t.throws(() => decodeMsgpack(bytes, 'ERR_STORAGE'), { code: 'ERR_STORAGE' }, what)
  }
  t.end()
})

t.test('a stream yields the values that arrive back to back, however they are split', async t => {
  const values = [1, 'two', [3], { four: 4 }]
  const bytes = Buffer.concat(values.map(encodeMsgpack))
  for (const size of [1, 2, 3, bytes.byteLength]) {
    const stream = msgpackValueStream()
    const got: unknown[] = []
    stream.on('data', (each: unknown) => got.push(each))
    for (let at = 0; at < bytes.byteLength; at += size) stream.write(bytes.subarray(at, at + size))
    stream.end()
    await new Promise(resolve => stream.on('end', resolve))
    t.same(got, values, `${size} bytes at a time`)
  }
})
