// Direct streams between real nodes on loopback, and strangers, holders of the key and hosts that lie at their door.

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import t, { type Test } from 'tap'
import type { PeerId } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { randomKey } from '#platform/random.ts'
import { SOURCE_UNPROVEN } from '#replication/transport/admission.ts'
import { HANDSHAKE_MS } from '#replication/transport/direct-handshake.ts'
import { exportedSecret, preSharedKeyOf, secure } from '#replication/transport/direct-tls.ts'
import { encodeFrame, FrameReader } from '#replication/transport/frame.ts'
import { MAX_PROOF_BYTES, proveDialler, proveListener, type Session } from '#replication/transport/host-proof.ts'
import { Channel } from '#replication/transport/channel.ts'
import { LEADER_PROTOCOL, RAFT_PROTOCOL, type MeshStream } from '#replication/transport/mesh-port.ts'
import { Preamble, prefixOf } from '#replication/transport/preamble.ts'
import { Rpc } from '#replication/transport/rpc.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { host, introduce, type Host } from '../hosts.ts'

/** The key of the hosts in hosts.ts. */
const KEY = Buffer.alloc(32, 7)

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 400; turn++) {
    if (condition()) return
    await systemClock.sleep(25)
  }
  throw new Error(`not within 10 s: ${what}`)
}

/** Serves LEADER_PROTOCOL with an echo. */
async function serving(t: Test, p: Parameters<typeof host>[1] = {}): Promise<Host & { readonly leaderRpc: Rpc }> {
  const node = await host(t, p)
  const leaderRpc = new Rpc({ mesh: node.mesh, clock: systemClock, protocol: LEADER_PROTOCOL })
  leaderRpc.register('who', (body, from) => Promise.resolve([body, from]))
  await leaderRpc.start()
  return { ...node, leaderRpc }
}

function echo(from: { readonly leaderRpc: Rpc }, to: Host, body: unknown): Promise<unknown> {
  return from.leaderRpc.call({ peer: to.peer, method: 'who', body, timeoutMs: 5_000 })
}

/** A connection that a test speaks on by itself; `ended` resolves when the node has closed it. */
function raw(t: Test, to: Host): { socket: Socket; ended: Promise<void> } {
  const socket = connect({ port: to.port, host: '127.0.0.1', localAddress: '127.0.0.9' })
  socket.on('error', () => undefined)
  t.teardown(() => socket.destroy())
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  return { socket, ended: systemClock.within(closed, HANDSHAKE_MS + 8_000, () => new Error('still open')) }
}

/** Does the dialler's preamble with a key. */
async function prove(socket: Socket, key: Uint8Array = KEY): Promise<void> {
  const preamble = new Preamble({ key, role: 'dialler', purpose: 'direct' })
  socket.write(preamble.opening() ?? '')
  const [answer] = (await once(socket, 'data')) as [Buffer]
  socket.pause()
  socket.write(preamble.push(answer).reply ?? '')
}

/** A holder of the cluster key, up to the end of TLS. */
async function insider(t: Test, to: Host): Promise<{ socket: TLSSocket; ended: Promise<void> }> {
  const { socket, ended } = raw(t, to)
  await prove(socket)
  return { socket: await secure(socket, { role: 'dialler', psk: preSharedKeyOf(KEY) }), ended }
}

async function identity(): Promise<{ key: PrivateKey; peer: PeerId }> {
  const key = await generateKeyPair('Ed25519')
  return { key, peer: peerIdFromPrivateKey(key).toString() as PeerId }
}

async function answerOf(socket: TLSSocket): Promise<Uint8Array | undefined> {
  const [data] = (await once(socket, 'data')) as [Buffer]
  return new FrameReader().push(data)[0]
}

t.test('requests and answers cross a direct stream, each under the peer id that was proved', async t => {
  const [a, b] = [await serving(t), await serving(t)]
  introduce(a, b)
  const bodies = Array.from({ length: 200 }, (_, n) => (n % 50 === 0 ? 'x'.repeat(300_000) : n))
  t.same(
    await Promise.all(bodies.map(body => echo(a, b, body))),
    bodies.map(body => [body, a.peer])
  )
  t.same(await echo(b, a, 1), [1, b.peer], 'both may dial')
  t.notOk(a.mesh.isConnected(b.peer), 'libp2p is not connected')
  t.same(b.mesh.addressesOf(a.peer), [0x7f000001], 'the address from which a peer speaks is known')
  t.same([a.mesh.refused, b.mesh.refused], [{}, {}])
})

t.test('the same port serves libp2p', async t => {
  const [a, b] = [await serving(t), await serving(t)]
  introduce(a, b)
  b.rpc.register('twice', body => Promise.resolve(Number(body) * 2))
  const twice = a.rpc.call({ peer: b.peer, method: 'twice', body: 4, timeoutMs: 5_000 })
  t.same(await Promise.all([twice, echo(a, b, 1)]), [8, [1, a.peer]])
})

t.test('without a key on either host streams open, too, and with one on one host alone they do not', async t => {
  const [a, b] = [await serving(t, { key: null }), await serving(t, { key: null })]
  introduce(a, b)
  t.same(await echo(a, b, 1), [1, a.peer])
  const keyed = await serving(t)
  introduce(a, keyed)
  await t.rejects(echo(a, keyed, 1), { code: 'ERR_PEER', message: /another cluster key/ })
  await t.rejects(echo(keyed, a, 1), { code: 'ERR_PEER', message: /another cluster key/ })
})

t.test('a host with another cluster key, unknown to the other, or removed is refused in words', async t => {
  const removed = new Set<PeerId>()
  const node = await serving(t, { isKnown: peer => !removed.has(peer) })
  const stranger = await serving(t, { key: Buffer.alloc(32, 8) })
  introduce(stranger, node)
  await t.rejects(echo(stranger, node, 1), { code: 'ERR_PEER', message: /holds another cluster key/ })
  const member = await serving(t)
  introduce(member, node)
  t.same(await echo(member, node, 1), [1, member.peer], 'positive control')
  removed.add(member.peer)
  await until('the stream of a removed host is closed', () => node.mesh.addressesOf(member.peer).length === 0)
  await until('its own end is closed, too', () => member.mesh.addressesOf(node.peer).length === 0)
  await t.rejects(echo(member, node, 1), { code: 'ERR_PEER', message: /does not know this host/ })
  await t.rejects(echo(node, member, 1), { code: 'ERR_PEER', message: /is not known/ }, 'nor is it dialled')
  t.equal(node.mesh.refused['unknown host'], 1)
})

t.test('a protocol that is not served yet, and a host that does not listen, are errors that say so', async t => {
  const [a, b] = [await host(t), await serving(t)]
  introduce(a, b)
  await t.rejects(b.mesh.openStream(a.peer, RAFT_PROTOCOL), { code: 'ERR_PEER', message: /does not serve this yet/ })
  await a.mesh.stop()
  const err: unknown = await b.mesh.openStream(a.peer, RAFT_PROTOCOL).catch((thrown: unknown) => thrown)
  t.match(err, { code: 'ERR_PEER', cause: { code: 'ECONNREFUSED' } }, 'the transport tells it from a slow peer')
  const { peer } = await identity()
  await t.rejects(b.mesh.openStream(peer, RAFT_PROTOCOL), { code: 'ERR_PEER', message: /no address/ })
})

t.test('a host at the address of another is not taken for it', async t => {
  const [a, b, c] = [await serving(t), await serving(t), await serving(t)]
  introduce(a, { ...c, peer: b.peer })
  await t.rejects(echo(a, b, 1), { code: 'ERR_PEER', message: /another host listens at its address/ })
  t.equal(c.mesh.refused['another host'], 1)
})

t.test('without the pre-shared key TLS ends before a byte of ours is sent, whatever the preamble proved', async t => {
  const node = await serving(t)
  const attempts: Readonly<Record<string, (socket: Socket) => TLSSocket>> = {
    'another key': socket =>
      connectTls({
        socket,
        minVersion: 'TLSv1.3',
        ciphers: 'TLS_AES_128_GCM_SHA256',
        pskCallback: () => ({ identity: 'vxmesh', psk: randomKey(32) }),
        checkServerIdentity: () => undefined
      }),
    'another identity': socket =>
      connectTls({
        socket,
        minVersion: 'TLSv1.3',
        ciphers: 'TLS_AES_128_GCM_SHA256',
        pskCallback: () => ({ identity: 'root', psk: preSharedKeyOf(KEY) }),
        checkServerIdentity: () => undefined
      }),
    'no key': socket => connectTls({ socket, rejectUnauthorized: false }),
    'TLS 1.2': socket => connectTls({ socket, rejectUnauthorized: false, maxVersion: 'TLSv1.2' })
  }
  for (const [what, attempt] of Object.entries(attempts)) {
    const { socket, ended } = raw(t, node)
    await prove(socket)
    const tls = attempt(socket)
    let isSecure = false
    tls.on('error', () => undefined).on('secureConnect', () => (isSecure = true))
    await ended
    t.notOk(isSecure, what)
  }
  t.equal(node.mesh.refused['wrong TLS key'], 4)
})

t.test('a listener that does not have the pre-shared key, or is not who was dialled, is not believed', async t => {
  const node = await serving(t)
  const other = await identity()
  for (const { what, psk, sign, message } of [
    { what: 'another key', psk: randomKey(32), sign: null, message: /TLS cannot be agreed on/ },
    {
      what: 'a signature by another identity',
      psk: preSharedKeyOf(KEY),
      sign: (session: Session) => proveListener(other.key, session),
      message: /wrong signature/
    },
    {
      what: 'a signature that the dialler could have made',
      psk: preSharedKeyOf(KEY),
      sign: async (session: Session) => encodeMsgpack([await other.key.sign(session.secret)]),
      message: /wrong signature/
    },
    {
      what: 'a refusal that there is not',
      psk: preSharedKeyOf(KEY),
      sign: () => Promise.resolve(encodeMsgpack(['\x1b[2Jyour disk is full'])),
      message: /not a proof of identity/
    }
  ]) {
    const impostor = createServer(socket => {
      void (async () => {
        socket.on('error', () => undefined)
        const preamble = new Preamble({ key: KEY, role: 'listener', purpose: 'direct' })
        const hello = ((await once(socket, 'data')) as [Buffer])[0]
        socket.write(preamble.push(hello).reply ?? '')
        const proof = ((await once(socket, 'data')) as [Buffer])[0]
        socket.pause()
        const rest = preamble.push(proof).established?.rest
        if (rest !== undefined && rest.byteLength > 0) socket.unshift(rest)
        const tls = await secure(socket, { role: 'listener', psk })
        tls.on('error', () => undefined)
        await answerOf(tls)
        const session = {
          secret: exportedSecret(tls),
          dialler: node.peer,
          listener: listener.peer,
          protocol: LEADER_PROTOCOL
        }
        if (sign !== null) tls.write(encodeFrame(await sign(session)))
      })().catch(() => undefined)
    }).listen(0, '127.0.0.1')
    t.teardown(() => impostor.close())
    await once(impostor, 'listening')
    const listener = await host(t)
    introduce(node, { ...listener, port: (impostor.address() as AddressInfo).port })
    await t.rejects(echo(node, listener, 1), { code: 'ERR_PEER', message }, what)
  }
})

t.test(
  'a holder of the key proves an identity of its own, in this session, for this host, or it is refused',
  async t => {
    const known = await identity()
    const node = await serving(t, { isKnown: peer => peer === known.peer })
    const stranger = await identity()
    const session = (socket: TLSSocket, change: Partial<Session> = {}): Session => ({
      secret: exportedSecret(socket),
      dialler: known.peer,
      listener: node.peer,
      protocol: LEADER_PROTOCOL,
      ...change
    })
    const first = await insider(t, node)
    first.socket.write(encodeFrame(await proveDialler(known.key, session(first.socket))))
    t.equal((await answerOf(first.socket))?.byteLength, 67, 'positive control: the listener’s signature')
    const recorded = await proveDialler(known.key, session(first.socket))
    const refusals: Readonly<Record<string, (socket: TLSSocket) => Promise<Uint8Array>>> = {
      'unknown host': socket => proveDialler(stranger.key, session(socket, { dialler: stranger.peer })),
      'another host': socket => proveDialler(known.key, session(socket, { listener: stranger.peer })),
      'not served': socket => proveDialler(known.key, session(socket, { protocol: RAFT_PROTOCOL }))
    }
    for (const [code, proof] of Object.entries(refusals)) {
      const { socket, ended } = await insider(t, node)
      socket.write(encodeFrame(await proof(socket)))
      t.same(await answerOf(socket), encodeMsgpack([code]))
      await ended
      t.equal(node.mesh.refused[code], 1)
    }
    const forged: readonly ((socket: TLSSocket) => Promise<Uint8Array>)[] = [
      () => Promise.resolve(recorded),
      socket => proveDialler(stranger.key, session(socket)),
      socket => proveDialler(known.key, session(socket, { secret: randomKey(32) })),
      async socket =>
        encodeMsgpack([known.peer, node.peer, LEADER_PROTOCOL, await known.key.sign(session(socket).secret)]),
      async socket =>
        encodeMsgpack([
          known.peer,
          node.peer,
          // Signed for another protocol.
          LEADER_PROTOCOL,
          (
            (await import('msgpackr')).unpack(
              await proveDialler(known.key, session(socket, { protocol: RAFT_PROTOCOL }))
            ) as unknown[]
          )[3]
        ]),
      async socket =>
        encodeMsgpack([
          known.peer,
          node.peer,
          LEADER_PROTOCOL,
          ((await import('msgpackr')).unpack(await proveListener(known.key, session(socket))) as unknown[])[0]
        ]),
      () => Promise.resolve(encodeMsgpack(['no peer id', node.peer, LEADER_PROTOCOL, randomKey(64)]))
    ]
    for (const proof of forged) {
      const { socket, ended } = await insider(t, node)
      socket.write(encodeFrame(await proof(socket)))
      t.same(await answerOf(socket), encodeMsgpack(['wrong signature']))
      await ended
    }
    t.equal(node.mesh.refused['wrong signature'], forged.length)
  }
)

t.test('what is no proof of identity ends the connection, and no more than a proof is held of it', async t => {
  const node = await serving(t)
  const garbage: Readonly<Record<string, Uint8Array>> = {
    'a frame that announces 4 GiB': Buffer.from([255, 255, 255, 255]),
    'one byte more than a proof may have': encodeFrame(new Uint8Array(MAX_PROOF_BYTES + 1)),
    'not msgpack': encodeFrame(Buffer.alloc(10, 0xc1)),
    'an empty frame': encodeFrame(new Uint8Array()),
    nil: encodeFrame(encodeMsgpack(null)),
    'two elements instead of four': encodeFrame(encodeMsgpack(['a', 'b'])),
    'numbers instead of ids': encodeFrame(encodeMsgpack([1, 2, 3, randomKey(64)])),
    'a request instead of a proof': encodeFrame(encodeMsgpack([1, 'who', null])),
    HTTP: Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  }
  for (const [what, bytes] of Object.entries(garbage)) {
    const { socket, ended } = await insider(t, node)
    socket.on('data', () => t.fail(`an answer to ${what}`))
    socket.write(bytes)
    await ended
    t.pass(what)
  }
  t.equal(node.mesh.refused['not a proof of identity'], Object.keys(garbage).length)
})

t.test('a stranger with the first bytes of a direct stream gets as far as one with those of libp2p', async t => {
  const node = await serving(t)
  const hello = new Preamble({ key: randomKey(32), role: 'dialler', purpose: 'direct' }).opening() ?? new Uint8Array()
  const wrong = raw(t, node)
  wrong.socket.write(hello)
  const [answer] = (await once(wrong.socket, 'data')) as [Buffer]
  t.equal(answer.byteLength, 73, 'a salt and the listener’s proof, which a stranger cannot use')
  wrong.socket.write(randomKey(32))
  await wrong.ended
  t.same(node.mesh.refused, { 'wrong proof': 1 })
  const early = raw(t, node)
  early.socket.write(Buffer.concat([hello, randomKey(64 * 1024)]))
  await early.ended
  const hasty = raw(t, node)
  hasty.socket.write(Buffer.concat([hello.subarray(0, 9), randomKey(64 * 1024)]))
  await hasty.ended
  t.same(node.mesh.refused, { 'wrong proof': 1, 'early data': 2 })
})

t.test('whoever is slow is cut off after the bound of the whole handshake, at each of its stages', async t => {
  const node = await serving(t)
  const hello = new Preamble({ key: KEY, role: 'dialler', purpose: 'direct' }).opening() ?? new Uint8Array()
  const startMs = systemClock.nowMs()
  const stages: Readonly<Record<string, () => Promise<{ ended: Promise<void> }>>> = {
    'half a hello': async () => {
      const { socket, ended } = raw(t, node)
      socket.write(hello.subarray(0, 20))
      return Promise.resolve({ ended })
    },
    'no TLS': async () => {
      const { socket, ended } = raw(t, node)
      await prove(socket)
      return { ended }
    },
    'half of TLS': async () => {
      const { socket, ended } = raw(t, node)
      await prove(socket)
      socket.write(Buffer.from([0x16, 3, 1, 2, 0]))
      return { ended }
    },
    'no proof': async () => insider(t, node),
    'a proof a byte at a time': async () => {
      const { socket, ended } = await insider(t, node)
      socket.on('error', () => undefined)
      const drip = setInterval(() => socket.write(new Uint8Array(1)), 100)
      t.teardown(() => clearInterval(drip))
      // Its length: as much as a proof may have.
      socket.write(encodeFrame(new Uint8Array(MAX_PROOF_BYTES)).subarray(0, 4))
      return { ended }
    }
  }
  const opened = await Promise.all(Object.values(stages).map(open => open()))
  await Promise.all(opened.map(({ ended }) => ended))
  t.ok(systemClock.nowMs() - startMs >= HANDSHAKE_MS - 100)
  t.equal(node.mesh.refused['no handshake in time'], opened.length)
})

t.test('a recorded stream cannot be replayed, and one with a byte changed breaks', async t => {
  const [a, b] = [await serving(t), await serving(t)]
  const recorded: Buffer[] = []
  let changesAt = Infinity
  let toB = 0
  const proxy = createServer(near => {
    const far = connect(b.port, '127.0.0.1')
    near.on('data', chunk => {
      const forwarded = Buffer.from(chunk)
      if (toB <= changesAt && toB + chunk.byteLength > changesAt) {
        forwarded[changesAt - toB] = (forwarded[changesAt - toB] ?? 0) ^ 1
      }
      toB += chunk.byteLength
      recorded.push(chunk)
      far.write(forwarded)
    })
    far.pipe(near)
    for (const socket of [near, far]) {
      socket.on('error', () => undefined)
      socket.on('close', () => [near, far].forEach(each => each.destroy()))
      t.teardown(() => socket.destroy())
    }
  }).listen(0, '127.0.0.1')
  t.teardown(() => proxy.close())
  await once(proxy, 'listening')
  introduce(a, { ...b, port: (proxy.address() as AddressInfo).port })
  t.same(await echo(a, b, 'first'), ['first', a.peer], 'positive control: through the wire that records')
  const recording = Buffer.concat(recorded)
  const { socket, ended } = raw(t, b)
  socket.write(recording.subarray(0, 41))
  await once(socket, 'data')
  socket.write(recording.subarray(41))
  await ended
  t.equal(b.mesh.refused['wrong proof'], 1)
  changesAt = toB + 20
  await t.rejects(echo(a, b, 'second'), { code: 'ERR_PEER' }, 'a changed byte')
  changesAt = Infinity
  t.same(await echo(a, b, 'third'), ['third', a.peer], 'the next request opens another stream')
})

t.test('agents of the release before are refused in words, in both directions', async t => {
  const node = await serving(t)
  const { socket, ended } = raw(t, node)
  socket.write(Buffer.concat([Buffer.from('vxmesh\0\x02'), randomKey(32)]))
  await ended
  t.same(node.mesh.refused, { 'another version': 1 })
  const old = createServer(socket => {
    socket.on('error', () => undefined)
    socket.write(Buffer.concat([Buffer.from('vxmesh\0\x02'), randomKey(64)]))
    t.teardown(() => socket.destroy())
  }).listen(0, '127.0.0.1')
  t.teardown(() => old.close())
  await once(old, 'listening')
  const peer = await host(t)
  introduce(node, { ...peer, port: (old.address() as AddressInfo).port })
  await t.rejects(echo(node, peer, 1), { code: 'ERR_PEER', message: /another version of the preamble/ })
})

t.test('a stream ends at both ends when either host does, and the next request opens another', async t => {
  const [a, b] = [await serving(t), await serving(t)]
  introduce(a, b)
  await echo(a, b, 1)
  b.leaderRpc.register('never', () => new Promise(() => undefined))
  const lost = a.leaderRpc.call({ peer: b.peer, method: 'never', body: null, timeoutMs: 8_000 })
  const failed = t.rejects(lost, { code: 'ERR_PEER', message: /was lost/ })
  await b.mesh.stop()
  await failed
  await until('its end is closed', () => a.mesh.addressesOf(b.peer).length === 0)
  const again = await serving(t)
  introduce(a, again)
  t.same(await echo(a, again, 1), [1, a.peer])
})

t.test('half-open direct streams of one source are bounded, and hosts get through meanwhile', async t => {
  const [a, b] = [await serving(t), await serving(t)]
  introduce(a, b)
  const prefix = prefixOf('direct')
  const halfOpen = Array.from({ length: SOURCE_UNPROVEN + 100 }, () => raw(t, b))
  for (const { socket } of halfOpen) socket.write(prefix)
  await Promise.all(halfOpen.slice(SOURCE_UNPROVEN).map(({ ended }) => ended))
  t.equal(b.mesh.refused['too many connections'], 100)
  t.same(await echo(a, b, 1), [1, a.peer])
  await Promise.all(halfOpen.map(({ ended }) => ended))
  t.equal(b.mesh.refused['no handshake in time'], SOURCE_UNPROVEN)
  const { socket } = raw(t, b)
  await prove(socket)
  t.pass('positive control: the source may connect again')
})

/** A wire to a host that can be cut without either end being told. */
async function wire(t: Test, to: Host): Promise<{ port: number; cut: () => void }> {
  let isCut = false
  const proxy = createServer(near => {
    const far = connect(to.port, '127.0.0.1')
    for (const [from, on] of [
      [near, far],
      [far, near]
    ] as const) {
      from.on('data', chunk => {
        if (!isCut) on.write(chunk)
      })
      from.on('error', () => undefined)
      t.teardown(() => from.destroy())
    }
  }).listen(0, '127.0.0.1')
  t.teardown(() => proxy.close())
  await once(proxy, 'listening')
  return { port: (proxy.address() as AddressInfo).port, cut: () => (isCut = true) }
}

/** Rounds of keep-alives, each with time for the bytes to arrive. */
async function rounds(manual: ManualClock, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    await manual.advance(2_500)
    await systemClock.sleep(20)
  }
}

t.test(
  'an unused stream stays open between live hosts until it is idle, and one to a silent host is closed',
  async t => {
    const manual = new ManualClock()
    const [a, b] = [await serving(t, { clock: manual.clock }), await serving(t, { clock: manual.clock })]
    const between = await wire(t, b)
    introduce(a, { ...b, port: between.port })
    const stream = await a.mesh.openStream(b.peer, LEADER_PROTOCOL)
    const frames: Uint8Array[] = []
    const channel = new Channel(stream, { frame: payload => frames.push(payload), closed: () => undefined })
    channel.send(encodeMsgpack([1, 'who', 'x']))
    await until('it is answered', () => frames.length === 1)
    await rounds(manual, 30)
    t.equal(stream.status, 'open')
    t.equal(frames.length, 1, 'keep-alives are no frames')
    channel.send(encodeMsgpack([2, 'who', 'x']))
    await rounds(manual, 59)
    t.equal(stream.status, 'open')
    await rounds(manual, 2)
    t.equal(stream.status, 'closed', 'idle')
    const second = await a.mesh.openStream(b.peer, LEADER_PROTOCOL)
    second.addEventListener('message', () => undefined)
    await rounds(manual, 3)
    between.cut()
    await rounds(manual, 3)
    t.equal(second.status, 'open')
    await rounds(manual, 3)
    t.equal(second.status, 'closed', 'silent')
    await until('its other end notices, too', () => b.mesh.addressesOf(a.peer).length === 0)
  }
)

t.test('a host that keeps opening streams holds four of one protocol, the newest', async t => {
  const [a, b] = [await serving(t), await serving(t)]
  introduce(a, b)
  const streams: MeshStream[] = []
  for (let n = 0; n < 10; n++) streams.push(await a.mesh.openStream(b.peer, LEADER_PROTOCOL))
  for (const stream of streams) stream.addEventListener('message', () => undefined)
  await until('six are closed', () => streams.filter(({ status }) => status === 'open').length === 4)
  t.same(
    streams.map(({ status }) => status),
    [...Array<string>(6).fill('closed'), ...Array<string>(4).fill('open')]
  )
})
