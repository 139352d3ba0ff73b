import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { NLMSG_DONE, NLMSG_ERROR, readFrames, readStatus, writeFrame } from '#platform/netlink-frame.ts'

const request = fc.record({ type: fc.nat(65535), flags: fc.nat(65535), body: fc.uint8Array({ maxLength: 40 }) })

t.test('frames survive the round trip back to back', async t => {
  fc.assert(
    fc.property(fc.array(fc.tuple(request, fc.nat(0xffffffff)), { maxLength: 8 }), list => {
      const into = new Uint8Array(1024).fill(0xff)
      let offset = 0
      for (const [request, seq] of list) {
        offset = writeFrame({ into, offset, request, flags: request.flags, seq })
      }
      const read = readFrames(into.subarray(0, offset))
      assert.deepEqual(
        read.map(f => [f.type, f.flags, f.seq, [...f.payload]]),
        list.map(([r, seq]) => [r.type, r.flags, seq, [...r.body]])
      )
    })
  )
  t.pass()
})

t.test('a length outside the buffer is an error, and so are random bytes', async t => {
  const frame = (length: number): Uint8Array => {
    const bytes = new Uint8Array(20)
    new DataView(bytes.buffer).setUint32(0, length, true)
    return bytes
  }
  for (const length of [0, 15, 21, 0x7fffffff, 0xffffffff])
    t.throws(() => readFrames(frame(length)), RangeError, `${length}`)
  t.throws(() => readFrames(new Uint8Array(15)), RangeError)
  t.strictSame(readFrames(new Uint8Array()), [])
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), bytes => {
      try {
        for (const f of readFrames(bytes)) readStatus(f)
      } catch (err) {
        assert.ok(err instanceof RangeError)
      }
    })
  )
})

t.test("the kernel's errno and text are found behind the echoed request", async t => {
  const text = new TextEncoder().encode('the text\0')
  const attribute = [text.length + 4, 0, 1, 0, ...text, 0, 0]
  const status = (type: number, flags: number, payload: number[]) =>
    readStatus({ type, flags, seq: 1, portId: 0, payload: new Uint8Array(payload) })
  const eexist = [0xef, 0xff, 0xff, 0xff]
  const header = [36, 0, 0, 0, ...new Array<number>(12).fill(0)]
  const body = new Array<number>(20).fill(1)
  t.strictSame(status(NLMSG_ERROR, 0x300, [...eexist, ...header, ...attribute]), { errno: 17, text: 'the text' })
  t.strictSame(status(NLMSG_ERROR, 0x200, [...eexist, ...header, ...body, ...attribute]), {
    errno: 17,
    text: 'the text'
  })
  t.strictSame(status(NLMSG_ERROR, 0x100, [...eexist, ...header]), { errno: 17, text: '' })
  t.strictSame(status(NLMSG_ERROR, 0x300, [...eexist, ...header, 200, 0, 1, 0]), { errno: 17, text: '' })
  t.strictSame(status(NLMSG_DONE, 0x200, [...eexist, ...attribute]), { errno: 17, text: 'the text' })
  t.strictSame(status(NLMSG_DONE, 0, []), { errno: 0, text: '' })
})
