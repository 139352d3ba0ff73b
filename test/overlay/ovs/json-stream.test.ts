import fc from 'fast-check'
import t from 'tap'
import { JsonStream } from '#overlay/ovs/json-stream.ts'

t.test('objects are found wherever the stream is cut', t => {
  const objects = fc.array(fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue()), { maxLength: 8 })
  fc.assert(
    fc.property(objects, fc.array(fc.nat({ max: 500 })), fc.constantFrom('', '\n', ' '), (values, cuts, between) => {
      const bytes = Buffer.from(values.map(value => JSON.stringify(value)).join(between))
      const places = [...new Set([0, ...cuts.map(cut => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b)
      const stream = new JsonStream()
      const found = places.slice(1).flatMap((end, i) => stream.push(bytes.subarray(places[i], end)))
      t.same(found, JSON.parse(JSON.stringify(values)))
    })
  )
  t.end()
})

t.test('braces and quotes in strings end nothing', t => {
  const value = { '}{"\\': ['{"', '\\"}', '\\\\', 'é}€{'] }
  const bytes = Buffer.from(JSON.stringify(value))
  const stream = new JsonStream()
  t.same(
    [...bytes].flatMap(byte => stream.push(Uint8Array.of(byte))),
    [value]
  )
  t.end()
})

for (const [title, text] of Object.entries({
  'a brace that closes nothing': '}',
  'what is no JSON': '{"a":}',
  'more than the limit': `{"a":"${'x'.repeat(200)}`
})) {
  t.test(`${title} is refused`, t => {
    t.throws(() => new JsonStream(100).push(Buffer.from(text)), { code: 'ERR_KERNEL' })
    t.end()
  })
}
