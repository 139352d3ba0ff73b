import fc from 'fast-check'
import t from 'tap'
import { encodeFrame, FrameReader, MAX_FRAME_BYTES } from '#replication/transport/frame.ts'

t.test('frames are reassembled however the stream is split', t => {
  const property = fc.property(
    fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }),
    fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 30 }),
    (payloads, cuts) => {
      const stream = Buffer.concat(payloads.map(encodeFrame))
      const reader = new FrameReader()
      const out: Uint8Array[] = []
      for (let at = 0, turn = 0; at < stream.byteLength; turn++) {
        const size = cuts[turn % cuts.length] ?? 1
        out.push(...reader.push(stream.subarray(at, at + size)).map(p => Uint8Array.from(p)))
        at += size
      }
      t.same(
        out.map(p => Buffer.from(p).toString('hex')),
        payloads.map(p => Buffer.from(p).toString('hex'))
      )
    }
  )
  fc.assert(property, { numRuns: 300 })
  t.end()
})

t.test('a length over the limit is refused before any payload is buffered', t => {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(MAX_FRAME_BYTES + 1)
  t.throws(() => new FrameReader().push(head), { code: 'ERR_TOO_LARGE' })
  t.throws(() => encodeFrame(new Uint8Array(MAX_FRAME_BYTES + 1)), { code: 'ERR_TOO_LARGE' })
  t.end()
})

t.test('an incomplete frame yields nothing', t => {
  const reader = new FrameReader()
  t.same(reader.push(Uint8Array.from([0, 0, 0, 3, 1, 2])), [])
  t.equal(reader.push(Uint8Array.from([3])).length, 1)
  t.end()
})
