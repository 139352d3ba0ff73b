// The protector between two ends of a connection in memory, with whoever sits in the middle.

import type { MessageStream, MultiaddrConnection } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { randomKey } from '#platform/random.ts'
import { clusterProtector } from '#replication/transport/protector.ts'

const KEY = randomKey(32)
const BARE = new Uint8Array(30).fill(9)

type Ends = readonly [MessageStream, MessageStream]

/** The dialler's and the listener's end; between them `wire` hands on what goes from one to the other. */
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
  if (dialler === undefined || listener === undefined) throw new Error('two ends')
  return [dialler, listener]
}

/** The next so many bytes that arrive. */
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

t.test('what one end writes the other reads, in order, both ways, however the wire cuts it', async t => {
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

t.test('nothing of a text is on the wire, and the same text is never written alike twice', async t => {
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

t.test('an end with another key reads garbage, and is read as garbage', async t => {
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

t.test('who plays an end its own bytes back is understood by nobody', async t => {
  const [end, mirror] = multiaddrConnectionPair()
  mirror.addEventListener('message', ({ data }) => mirror.send(data.subarray()))
  const mirrored = await clusterProtector({ key: KEY, clock: systemClock })().protect(end)
  const text = Buffer.alloc(64, 'x')
  const arrived = read(mirrored, 64)
  mirrored.send(text)
  t.notOk((await arrived).equals(text))
})

t.test('a peer that says nothing, too little, or goes is given up', async t => {
  // A timer of a signal does not keep the process up, as a socket would.
  const protecting = (end: MultiaddrConnection, signal?: AbortSignal): Promise<MessageStream> =>
    systemClock.within(
      clusterProtector({ key: KEY, clock: systemClock })().protect(end, signal && { signal }),
      5_000,
      () => new Error('waits for ever')
    )
  const givenUp = { message: /^(?!waits for ever)/ }
  const [silent] = multiaddrConnectionPair()
  await t.rejects(protecting(silent, AbortSignal.timeout(50)), givenUp, 'in the time that the caller gives')
  const [unhurried] = multiaddrConnectionPair()
  await t.rejects(protecting(unhurried), givenUp, 'in a time of its own')
  const [end, terse] = multiaddrConnectionPair()
  terse.send(new Uint8Array(31))
  await t.rejects(protecting(end, AbortSignal.timeout(50)), givenUp, '31 bytes of 32')
  const [left, gone] = multiaddrConnectionPair()
  const refused = t.rejects(protecting(left), givenUp, 'gone')
  await gone.close()
  await refused
})

t.test('a frame that is a header alone waits for company, for a while, and does not get lost', async t => {
  const chunks: number[] = []
  const [a, b] = await protect(wired((chunk, to) => (chunks.push(chunk.byteLength), to.send(chunk))))
  chunks.length = 0
  let arrived = read(b, 130)
  a.send(BARE)
  a.send(new Uint8Array(100))
  t.ok((await arrived).subarray(0, 30).equals(BARE), 'before what came later')
  t.same(chunks, [130], 'in one write')
  arrived = read(b, 30)
  a.send(BARE)
  t.ok((await arrived).equals(BARE), 'alone, when nobody comes')
})

t.test('an end that closes has sent what it wrote, and the other end hears of it', async t => {
  const [a, b] = await protect(wired((chunk, to) => to.send(chunk)))
  const closed = new Promise(resolve => b.addEventListener('close', resolve))
  const arrived = read(b, 1_030)
  a.send(new Uint8Array(1_000))
  a.send(BARE)
  await a.close()
  t.equal((await arrived).byteLength, 1_030)
  await systemClock.within(closed, 5_000, () => new Error('not closed'))
  t.throws(() => a.send(BARE), 'and takes no more')
})

t.test('an end that is torn off tears off the other', async t => {
  const [a, b] = await protect(multiaddrConnectionPair())
  const closed = new Promise(resolve => b.addEventListener('close', resolve))
  a.send(BARE)
  a.abort(new Error('torn'))
  await systemClock.within(closed, 5_000, () => new Error('not closed'))
  t.not(b.status, 'open')
})
