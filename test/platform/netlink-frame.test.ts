import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { NLMSG_DONE, NLMSG_ERROR, readFrames, readVerdict, writeFrame } from '#platform/netlink-frame.ts'

const request = fc.record({ type: fc.nat(65535), flags: fc.nat(65535), body: fc.uint8Array({ maxLength: 40 }) })

t.test('frames back to back are read as they were written', async t => {
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

t.test('a length that points outside is an error, whatever the bytes', async t => {
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
        for (const f of readFrames(bytes)) readVerdict(f)
      } catch (err) {
        assert.ok(err instanceof RangeError)
      }
    })
  )
})

t.test("the kernel's errno and words are found behind the echoed message", async t => {
  const text = new TextEncoder().encode('words\0')
  const attribute = [text.length + 4, 0, 1, 0, ...text, 0, 0]
  const verdict = (type: number, flags: number, payload: number[]) =>
    readVerdict({ type, flags, seq: 1, portId: 0, payload: new Uint8Array(payload) })
  const eexist = [0xef, 0xff, 0xff, 0xff]
  const header = [36, 0, 0, 0, ...new Array<number>(12).fill(0)]
  const body = new Array<number>(20).fill(1)
  t.strictSame(verdict(NLMSG_ERROR, 0x300, [...eexist, ...header, ...attribute]), { errno: 17, text: 'words' })
  t.strictSame(verdict(NLMSG_ERROR, 0x200, [...eexist, ...header, ...body, ...attribute]), { errno: 17, text: 'words' })
  t.strictSame(verdict(NLMSG_ERROR, 0x100, [...eexist, ...header]), { errno: 17, text: '' })
  t.strictSame(verdict(NLMSG_ERROR, 0x300, [...eexist, ...header, 200, 0, 1, 0]), { errno: 17, text: '' })
  t.strictSame(verdict(NLMSG_DONE, 0x200, [...eexist, ...attribute]), { errno: 17, text: 'words' })
  t.strictSame(verdict(NLMSG_DONE, 0, []), { errno: 0, text: '' })
})
