// The protector on both ends of an in-memory connection, with a wire in the middle that tests can tap or change.

import type { MessageStream, MultiaddrConnection } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { randomKey } from '#platform/random.ts'
import { Admission } from '#replication/transport/admission.ts'
import { clusterProtector } from '#replication/transport/protector.ts'
import { Refusals } from '#replication/transport/refusals.ts'

const KEY = randomKey(32)
const HEADER_ONLY = new Uint8Array(30).fill(9)

/** Bytes of the three parts of a preamble: hello, answer, and the dialler's proof. */
const PREAMBLE_BYTES = 41 + 73 + 32

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

/** Protects one end, as a node does. */
function protectEnd(
  end: MultiaddrConnection,
  p: { key?: Uint8Array; signal?: AbortSignal } = {}
): Promise<MessageStream> {
  const clock = systemClock
  const refusals = new Refusals({ clock, logger: createLogger('silent') })
  const admission = new Admission({ isMember: () => false, refusals, clock })
  const protector = clusterProtector({ key: p.key ?? KEY, admission, refusals, clock })()
  return protector.protect(end, p.signal === undefined ? undefined : { signal: p.signal })
}

async function protect(
  ends: readonly [MultiaddrConnection, MultiaddrConnection],
  keys: readonly [Uint8Array, Uint8Array] = [KEY, KEY]
): Promise<Ends> {
  const [dialler, listener] = await Promise.all(ends.map((end, n) => protectEnd(end, { key: keys[n] ?? KEY })))
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
    t.equal(wire.byteLength, PREAMBLE_BYTES + 2 * text.byteLength)
    const sealed = wire.subarray(PREAMBLE_BYTES)
    seen.push(sealed.subarray(0, text.byteLength), sealed.subarray(text.byteLength))
  }
  t.equal(new Set(seen.map(bytes => bytes.toString('hex'))).size, 6)
})

t.test('with different keys both ends refuse, and close the connection', async t => {
  const ends = wired((chunk, to) => to.send(chunk))
  const outcomes = await Promise.allSettled([protectEnd(ends[0]), protectEnd(ends[1], { key: randomKey(32) })])
  t.match(outcomes, [
    { status: 'rejected', reason: { message: /another cluster key/ } },
    { status: 'rejected', reason: { message: /closed the connection/ } }
  ])
  for (const end of ends) t.not(end.status, 'open')
})

t.test('bytes reflected back to their sender are no proof', async t => {
  const [end, mirror] = multiaddrConnectionPair()
  // A hello is shorter than an answer; zeros take the place of the proof.
  mirror.addEventListener('message', ({ data }) => mirror.send(Buffer.concat([data.subarray(), new Uint8Array(32)])))
  await t.rejects(protectEnd(end), { message: /another cluster key/ })
})

t.test('data that arrives together with the proof of the dialler is not lost', async t => {
  let proof: Uint8Array | null = null
  const ends = wired((chunk, to) => {
    if (proof === null && chunk.byteLength === 32) {
      proof = chunk.slice()
      return
    }
    to.send(proof === null ? chunk : Buffer.concat([proof, chunk]))
    proof = null
  })
  const listening = protectEnd(ends[1])
  const dialler = await protectEnd(ends[0])
  const text = Buffer.from('the first frame')
  dialler.send(text)
  t.ok((await read(await listening, text.byteLength)).equals(text))
})

t.test('a peer that sends nothing, half a preamble, or disconnects is rejected', async t => {
  // The timer of an AbortSignal does not keep the process alive; this one does.
  const protecting = (end: MultiaddrConnection, signal?: AbortSignal): Promise<MessageStream> =>
    systemClock.within(protectEnd(end, signal && { signal }), 5_000, () => new Error('waits forever'))
  const late = { message: 'no preamble in time' }
  const [silent] = multiaddrConnectionPair()
  await t.rejects(protecting(silent, AbortSignal.timeout(50)), late, 'within the timeout of the caller')
  const [patient] = multiaddrConnectionPair()
  await t.rejects(protecting(patient), late, 'within its own timeout')
  t.not(patient.status, 'open')
  const [end, terse] = multiaddrConnectionPair()
  terse.send(Buffer.from('vxmesh\0\x03L and half a salt'))
  await t.rejects(protecting(end, AbortSignal.timeout(50)), late, 'half a preamble')
  const [left, gone] = multiaddrConnectionPair()
  const refused = t.rejects(protecting(left), { message: /closed the connection/ }, 'gone')
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
