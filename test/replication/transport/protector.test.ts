// The protector on both ends of an in-memory connection, with a wire in the middle that tests can tap or change.

import type { MessageStream, MultiaddrConnection } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { randomKey } from '#platform/random.ts'
import { clusterProtector } from '#replication/transport/protector.ts'

const KEY = randomKey(32)
const HEADER_ONLY = new Uint8Array(30).fill(9)

type Ends = readonly [MessageStream, MessageStream]

/** The dialler's and the listener's end; `wire` forwards each chunk between them. */
function wired(
  wire: (chunk: Uint8Array, to: MultiaddrConnection) => void
): readonly [MultiaddrConnection, MultiaddrConnection] {
  const [dialler, near] = multiaddrConnectionPair({ capacity: 1024 * 1024 })
  const [far, listener] = multiaddrConnectionPair({ capacity: 1024 * 1024 })
  near.addEventListener('message', ({ data }) => wire(data.subarray(), far))
  far.addEventListener('message', ({ data }) => wire(data.subarray(), near))
  near.addEventListener('close', () => void far.close())
  far.addEventListener('close', () => void near.close())
  return [dialler, listener]
}

async function protect(
  ends: readonly [MultiaddrConnection, MultiaddrConnection],
  keys: readonly [Uint8Array, Uint8Array] = [KEY, KEY]
): Promise<Ends> {
  const [dialler, listener] = await Promise.all(
    ends.map((end, n) => clusterProtector({ key: keys[n] ?? KEY, clock: systemClock })().protect(end))
  )
  if (dialler === undefined || listener === undefined) throw new Error('a connection has two ends')
  return [dialler, listener]
}

/** The next `bytes` bytes that arrive. */
function read(end: MessageStream, bytes: number): Promise<Buffer> {
  let got = Buffer.alloc(0)
  const all = new Promise<Buffer>(resolve => {
    end.addEventListener('message', ({ data }) => {
      got = Buffer.concat([got, data.subarray()])
      if (got.byteLength >= bytes) resolve(got)
    })
  })
  return systemClock.within(all, 5_000, () => new Error(`only ${got.byteLength} of ${bytes} bytes`))
}

t.test('data arrives in order, both ways, however the wire splits it', async t => {
  const sizes = [1, 29, 30, 31, 30, 63, 64, 65, 5_000, 30]
  const wires = {
    whole: (chunk: Uint8Array, to: MultiaddrConnection): unknown => to.send(chunk),
    bytes: (chunk: Uint8Array, to: MultiaddrConnection): unknown =>
      [...chunk.keys()].map(at => to.send(chunk.slice(at, at + 1)))
  }
  for (const [name, wire] of Object.entries(wires)) {
    const [a, b] = await protect(wired(wire))
    for (const [from, to] of [
      [a, b],
      [b, a]
    ] as const) {
      const texts = sizes.map(size => randomKey(size))
      const arrived = read(
        to,
        sizes.reduce((sum, size) => sum + size)
      )
      for (const text of texts) from.send(text)
      t.ok((await arrived).equals(Buffer.concat(texts)), `${name}, from the ${from.direction} end`)
    }
  }
})

t.test('plain text never appears on the wire, and the same text never encrypts alike twice', async t => {
  const text = Buffer.from('the same words in every message of every connection')
  const seen: Buffer[] = []
  for (let n = 0; n < 3; n++) {
    const sent: Uint8Array[] = []
    const [a, b] = await protect(wired((chunk, to) => (sent.push(chunk.slice()), to.send(chunk))))
    const arrived = read(b, 2 * text.byteLength)
    a.send(text)
    a.send(text)
    await arrived
    const wire = Buffer.concat(sent)
    t.notOk(wire.includes(text.subarray(0, 8)))
    seen.push(wire.subarray(64, 64 + text.byteLength), wire.subarray(64 + text.byteLength))
  }
  t.equal(new Set(seen.map(bytes => bytes.toString('hex'))).size, 6)
})

t.test('with different keys both ends read garbage', async t => {
  const [a, b] = await protect(
    wired((chunk, to) => to.send(chunk)),
    [KEY, randomKey(32)]
  )
  for (const [from, to] of [
    [a, b],
    [b, a]
  ] as const) {
    const text = Buffer.alloc(64, 'x')
    const arrived = read(to, 64)
    from.send(text)
    t.notOk((await arrived).equals(text))
  }
})

t.test('bytes reflected back to their sender decrypt to garbage', async t => {
  const [end, mirror] = multiaddrConnectionPair()
  mirror.addEventListener('message', ({ data }) => mirror.send(data.subarray()))
  const mirrored = await clusterProtector({ key: KEY, clock: systemClock })().protect(end)
  const text = Buffer.alloc(64, 'x')
  const arrived = read(mirrored, 64)
  mirrored.send(text)
  t.notOk((await arrived).equals(text))
})

t.test('a peer that sends no salt, half a salt, or disconnects is rejected', async t => {
  // The timer of an AbortSignal does not keep the process alive; this one does.
  const protecting = (end: MultiaddrConnection, signal?: AbortSignal): Promise<MessageStream> =>
    systemClock.within(
      clusterProtector({ key: KEY, clock: systemClock })().protect(end, signal && { signal }),
      5_000,
      () => new Error('waits forever')
    )
  const rejected = { message: /^(?!waits forever)/ }
  const [silent] = multiaddrConnectionPair()
  await t.rejects(protecting(silent, AbortSignal.timeout(50)), rejected, 'within the timeout of the caller')
  const [patient] = multiaddrConnectionPair()
  await t.rejects(protecting(patient), rejected, 'within its own timeout')
  const [end, terse] = multiaddrConnectionPair()
  terse.send(new Uint8Array(31))
  await t.rejects(protecting(end, AbortSignal.timeout(50)), rejected, '31 bytes of 32')
  const [left, gone] = multiaddrConnectionPair()
  const refused = t.rejects(protecting(left), rejected, 'gone')
  await gone.close()
  await refused
})

t.test('a header-only frame is delayed to be coalesced, and is not lost', async t => {
  const chunks: number[] = []
  const [a, b] = await protect(wired((chunk, to) => (chunks.push(chunk.byteLength), to.send(chunk))))
  chunks.length = 0
  let arrived = read(b, 130)
  a.send(HEADER_ONLY)
  a.send(new Uint8Array(100))
  t.ok((await arrived).subarray(0, 30).equals(HEADER_ONLY), 'in order')
  t.same(chunks, [130], 'in one write')
  arrived = read(b, 30)
  a.send(HEADER_ONLY)
  t.ok((await arrived).equals(HEADER_ONLY), 'alone when nothing follows')
})

t.test('closing an end flushes its data and closes the other end', async t => {
  const [a, b] = await protect(wired((chunk, to) => to.send(chunk)))
  const closed = new Promise(resolve => b.addEventListener('close', resolve))
  const arrived = read(b, 1_030)
  a.send(new Uint8Array(1_000))
  a.send(HEADER_ONLY)
  await a.close()
  t.equal((await arrived).byteLength, 1_030)
  await systemClock.within(closed, 5_000, () => new Error('not closed'))
  t.throws(() => a.send(HEADER_ONLY), 'and no more can be sent')
})

t.test('aborting an end closes the other', async t => {
  const [a, b] = await protect(multiaddrConnectionPair())
  const closed = new Promise(resolve => b.addEventListener('close', resolve))
  a.send(HEADER_ONLY)
  a.abort(new Error('aborted'))
  await systemClock.within(closed, 5_000, () => new Error('not closed'))
  t.not(b.status, 'open')
})
