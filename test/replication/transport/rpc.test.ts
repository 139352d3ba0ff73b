import { randomBytes } from 'node:crypto'
import type { MeshStream } from '#replication/transport/mesh-port.ts'
import t, { type Test } from 'tap'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { Channel } from '#replication/transport/channel.ts'
import { encodeFrame, MAX_FRAME_BYTES } from '#replication/transport/frame.ts'
import { waitFor } from '#test/lab/wait.ts'
import { host, introduce, type Host } from '../hosts.ts'

const PROTOCOL = '/vxmesh/rpc/1'

type Pair = { readonly a: Host; readonly b: Host; readonly call: (method: string, body?: unknown) => Promise<unknown> }

/** Host a can call b, which serves `echo`, and `never`, which does not reply. */
async function pair(t: Test): Promise<Pair> {
  const [a, b] = [await host(t), await host(t)]
  introduce(a, b)
  b.rpc.register('echo', body => Promise.resolve(body))
  b.rpc.register('never', () => new Promise(() => undefined))
  const call = (method: string, body: unknown = null): Promise<unknown> =>
    a.rpc.call({ peer: b.peer, method, body, timeoutMs: 5_000 })
  return { a, b, call }
}

t.test('values survive the round trip', async t => {
  const { call } = await pair(t)
  const bodies = [null, true, 0, -1, 2 ** 53 - 1, 1.5, '', 'ü\0', [], {}, { a: [{ b: null }] }, 'x'.repeat(1_000_000)]
  for (const body of bodies) t.strictSame(await call('echo', body), body)
  const bytes = await call('echo', Uint8Array.from([0, 255]))
  t.ok(bytes instanceof Uint8Array && Buffer.from(bytes).equals(Buffer.from([0, 255])))
})

t.test('both ends can call each other, and replies are not mixed up', async t => {
  const { a, b, call } = await pair(t)
  a.rpc.register('echo', body => Promise.resolve(`a ${String(body)}`))
  const callBack = (n: number): Promise<unknown> =>
    b.rpc.call({ peer: a.peer, method: 'echo', body: n, timeoutMs: 5_000 })
  const numbers = [...Array(50).keys()]
  t.same(await Promise.all(numbers.map(n => call('echo', n))), numbers)
  t.same(
    await Promise.all(numbers.map(callBack)),
    numbers.map(n => `a ${n}`)
  )
})

t.test('a host can call itself', async t => {
  const { b } = await pair(t)
  const callSelf = (method: string, timeoutMs = 5_000): Promise<unknown> =>
    b.rpc.call({ peer: b.peer, method, body: 'x', timeoutMs })
  t.equal(await callSelf('echo'), 'x')
  await t.rejects(callSelf('nothing'), { code: 'ERR_UNSUPPORTED' })
  await t.rejects(callSelf('never', 50), { code: 'ERR_TIMEOUT' })
  b.rpc.register('refuse', () => Promise.reject(new VxmeshError('ERR_NOT_LEADER', 'no')))
  await t.rejects(callSelf('refuse'), { code: 'ERR_NOT_LEADER' })
})

const failures: readonly { what: string; handler: () => Promise<unknown>; expected: object }[] = [
  {
    what: 'an error of ours, with code and field',
    handler: () => Promise.reject(new VxmeshError('ERR_VNI_IN_USE', 'vni: taken', { field: 'vni' })),
    expected: { code: 'ERR_VNI_IN_USE', message: 'vni: taken', field: 'vni' }
  },
  {
    what: 'an error of ours without its cause and context',
    handler: () => Promise.reject(new VxmeshError('ERR_BUSY', 'x', { cause: new Error('y'), context: { z: 1 } })),
    expected: { code: 'ERR_BUSY', context: {}, cause: undefined }
  },
  {
    what: 'a foreign error',
    handler: () => Promise.reject(new TypeError('x')),
    expected: { code: 'ERR_INTERNAL', message: 'x' }
  },
  {
    what: 'a synchronous exception',
    handler: () => {
      throw new Error('at once')
    },
    expected: { code: 'ERR_INTERNAL', message: 'at once' }
  },
  {
    what: 'a reply larger than a frame',
    handler: () => Promise.resolve('x'.repeat(MAX_FRAME_BYTES)),
    expected: { code: 'ERR_TOO_LARGE' }
  }
]
for (const { what, handler, expected } of failures) {
  t.test(`a handler's failure fails its own call and no other: ${what}`, async t => {
    const { b, call } = await pair(t)
    b.rpc.register('fail', handler)
    const others = [call('echo', 1), call('echo', 2)]
    t.match(await call('fail').catch((err: unknown) => err), expected)
    t.same(await Promise.all(others), [1, 2])
    t.equal(await call('echo', 3), 3)
  })
}

t.test('a request larger than a frame is refused locally, and other calls proceed', async t => {
  const { call } = await pair(t)
  await call('echo')
  const other = call('echo', 'other')
  await t.rejects(call('echo', 'x'.repeat(MAX_FRAME_BYTES)), { code: 'ERR_TOO_LARGE' })
  t.equal(await other, 'other')
})

t.test('a call times out, and its late reply is discarded', async t => {
  const { a, b, call } = await pair(t)
  const gate = Promise.withResolvers<undefined>()
  b.rpc.register('late', async () => {
    await gate.promise
    return 'late'
  })
  await call('echo')
  await t.rejects(a.rpc.call({ peer: b.peer, method: 'late', body: null, timeoutMs: 20 }), { code: 'ERR_TIMEOUT' })
  gate.resolve(undefined)
  t.equal(await call('late'), 'late')
  t.equal(await call('echo', 5), 5)
})

t.test('an unknown address, a stopped peer and an invalid peer id are ERR_PEER', async t => {
  const [a, gone] = [await host(t), await host(t)]
  const stranger = await host(t)
  introduce(a, gone)
  await gone.mesh.stop()
  for (const peer of [gone.peer, stranger.peer, 'nonsense' as PeerId, '' as PeerId]) {
    await t.rejects(a.rpc.call({ peer, method: 'echo', body: null, timeoutMs: 5_000 }), { code: 'ERR_PEER' }, peer)
  }
})

t.test('a call to a lost peer fails, and calls to others still work', async t => {
  const { a, b, call } = await pair(t)
  const lost = t.rejects(call('never'), { code: 'ERR_PEER' })
  await call('echo')
  await b.mesh.stop()
  await lost
  await t.rejects(call('echo'), { code: 'ERR_PEER' })
  const back = await host(t)
  introduce(a, back)
  back.rpc.register('echo', body => Promise.resolve(body))
  t.equal(await a.rpc.call({ peer: back.peer, method: 'echo', body: 7, timeoutMs: 5_000 }), 7)
})

for (const { what, count, body } of [
  { what: 'requests', count: 4_096, body: null },
  { what: 'bytes', count: 16, body: 'x'.repeat(1_000_000) }
]) {
  t.test(`a peer with too many ${what} in flight is refused the next request, and keeps its channel`, async t => {
    const { b, call } = await pair(t)
    const gate = Promise.withResolvers<string>()
    b.rpc.register('slow', () => gate.promise)
    const many = [...Array(count).keys()].map(() => call('slow', body))
    await t.rejects(call('echo', 'x'.repeat(800_000)), { code: 'ERR_BUSY' })
    gate.resolve('done')
    t.same(new Set(await Promise.all(many)), new Set(['done']), 'those before it are answered')
    t.equal(await call('echo', 1), 1)
  })
}

/** A raw stream of the RPC protocol. */
async function rawChannel(from: Host, to: Host): Promise<{ stream: MeshStream; closed: () => boolean }> {
  const stream = await from.mesh.openStream(to.peer, PROTOCOL)
  let closed = false
  stream.addEventListener('close', () => (closed = true))
  stream.addEventListener('remoteCloseWrite', () => (closed = true))
  return { stream, closed: () => closed || stream.status !== 'open' }
}

const frame = (value: unknown): Uint8Array => encodeFrame(encodeMsgpack(value))
const garbage: readonly { what: string; bytes: Uint8Array }[] = [
  { what: 'not msgpack', bytes: encodeFrame(Buffer.alloc(10, 0xc1)) },
  { what: 'an empty frame', bytes: encodeFrame(new Uint8Array()) },
  { what: 'a frame that announces 4 GiB', bytes: Buffer.from([255, 255, 255, 255]) },
  { what: 'text', bytes: Buffer.from('GET / HTTP/1.1\r\n\r\n') },
  { what: 'nil', bytes: frame(null) },
  { what: 'a map', bytes: frame({ id: 1 }) },
  { what: 'two elements instead of three', bytes: frame([1, 'echo']) },
  { what: 'four elements instead of three', bytes: frame([1, 'echo', null, null]) },
  { what: 'a text id', bytes: frame(['1', 'echo', null]) },
  { what: 'random bytes', bytes: encodeFrame(randomBytes(64)) }
]
for (const { what, bytes } of garbage) {
  t.test(`a malformed request closes its channel, and others proceed: ${what}`, async t => {
    const { a, b, call } = await pair(t)
    t.equal(await call('echo', 1), 1)
    const { stream, closed } = await rawChannel(a, b)
    stream.send(bytes)
    await waitFor('the channel to close', closed)
    t.equal(await call('echo', 2), 2)
  })

  t.test(`a malformed reply fails the pending calls, and the next call opens another channel: ${what}`, async t => {
    const a = await host(t)
    let channels = 0
    const peer = await fakePeer(
      t,
      a,
      id => (channels === 1 ? bytes : frame([id, null, 'sound'])),
      () => (channels += 1)
    )
    const call = (): Promise<unknown> => a.rpc.call({ peer: peer.peer, method: 'x', body: null, timeoutMs: 5_000 })
    await t.rejects(call(), { code: 'ERR_PEER' })
    t.equal(await call(), 'sound')
    t.equal(channels, 2)
  })
}

/** A peer of `a` that replies with bytes made from the request's id. */
async function fakePeer(
  t: Test,
  a: Host,
  replyTo: (id: unknown) => Uint8Array,
  opened = (): unknown => null
): Promise<Host> {
  const peer = await host(t, { serves: false })
  introduce(a, peer)
  await peer.mesh.handle(PROTOCOL, (_, stream) => {
    opened()
    const reply = (payload: Uint8Array): void => {
      const [id] = decodeMsgpack(payload) as [unknown]
      stream.send(replyTo(id))
    }
    new Channel(stream, { frame: reply, closed: () => undefined })
  })
  return peer
}

const errors: readonly { what: string; error: unknown; expected: object }[] = [
  {
    what: 'an unknown code',
    error: { code: 'ERR_NEW', message: 'x' },
    expected: { code: 'ERR_INTERNAL', message: 'x' }
  },
  {
    what: 'a property of Object as code',
    error: { code: 'toString', message: 'x' },
    expected: { code: 'ERR_INTERNAL' }
  },
  { what: 'no code', error: {}, expected: { code: 'ERR_INTERNAL', message: 'a malformed error' } },
  { what: 'text', error: 'x', expected: { code: 'ERR_INTERNAL', message: 'a malformed error' } },
  {
    what: 'a numeric field',
    error: { code: 'ERR_BUSY', message: 'x', field: 7 },
    expected: { code: 'ERR_BUSY', field: undefined }
  }
]
for (const { what, error, expected } of errors) {
  t.test(`an unexpected error body is still an error: ${what}`, async t => {
    const a = await host(t)
    const peer = await fakePeer(t, a, id => frame([id, error, null]))
    const call = a.rpc.call({ peer: peer.peer, method: 'x', body: null, timeoutMs: 5_000 })
    t.match(await call.catch((err: unknown) => err), expected)
  })
}

t.test('a channel on a closed stream reports the close once', async t => {
  const { a, b } = await pair(t)
  const stream = await a.mesh.openStream(b.peer, PROTOCOL)
  stream.abort(new Error('gone'))
  let closed = 0
  const channel = new Channel(stream, { frame: () => undefined, closed: () => (closed += 1) })
  t.equal(channel.send(Buffer.from('x')), false)
  t.equal(channel.send(Buffer.from('x')), false)
  channel.close(null)
  t.equal(closed, 1)
})
