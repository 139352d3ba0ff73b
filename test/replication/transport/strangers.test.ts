// Strangers at the port of a real node: whatever they send, it costs no more than a preamble.

import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { systemClock } from '#platform/clock.ts'
import { randomKey } from '#platform/random.ts'
import { SOURCE_UNPROVEN } from '#replication/transport/admission.ts'
import { PREAMBLE_MS } from '#replication/transport/protector.ts'
import { host, introduce, type Host } from '../hosts.ts'

/** One read of libuv: what may arrive in the same read as the first wrong byte. */
const READ_BYTES = 64 * 1024
const GARBAGE_BYTES = 64 * 1024 * 1024

/** The sockets that servers of this process create from now on. */
function accepted(t: Test): Socket[] {
  const sockets: Socket[] = []
  const note = (message: unknown): void => void sockets.push((message as { readonly socket: Socket }).socket)
  diagnostics.subscribe('net.server.socket', note)
  t.teardown(() => diagnostics.unsubscribe('net.server.socket', note))
  return sockets
}

/** A stranger's connection; `closed` resolves when the node has closed it. */
function stranger(t: Test, to: Host, localAddress = '127.0.0.9'): { socket: Socket; closed: Promise<void> } {
  const socket = connect({ port: to.port, host: '127.0.0.1', localAddress })
  socket.on('error', () => undefined)
  socket.resume()
  t.teardown(() => socket.destroy())
  const gone = new Promise<void>(resolve => socket.once('close', () => resolve()))
  return { socket, closed: systemClock.within(gone, PREAMBLE_MS + 8_000, () => new Error('still open')) }
}

async function helloWorks(a: Host, b: Host): Promise<boolean> {
  await a.mesh.connect(b.peer)
  return a.mesh.isConnected(b.peer)
}

t.test('64 MiB of garbage cost one read each, whatever the bytes', async t => {
  const node = await host(t)
  const sockets = accepted(t)
  // 0xff never ends a varint, which a parser may follow for ever.
  for (const filler of [
    () => randomKey(READ_BYTES),
    () => Buffer.alloc(READ_BYTES, 0xff),
    () => Buffer.alloc(READ_BYTES)
  ]) {
    const { socket, closed } = stranger(t, node)
    let sent = 0
    const pump = (): void => {
      while (!socket.destroyed && sent < GARBAGE_BYTES) {
        sent += READ_BYTES
        if (!socket.write(filler())) return
      }
    }
    socket.on('drain', pump)
    socket.once('connect', pump)
    await closed
    t.ok(sent < GARBAGE_BYTES, 'the node closes the connection while garbage arrives')
  }
  t.equal(sockets.length, 3)
  for (const socket of sockets) t.ok(socket.bytesRead <= READ_BYTES, `${socket.bytesRead} bytes read`)
  t.equal(node.mesh.refused['not a preamble'], 3)
})

t.test('a preamble that does not end is cut off', async t => {
  const node = await host(t)
  const beginnings = ['', 'v', 'vxmesh\0\x03', 'vxmesh\0\x03Land half of a salt']
  const startMs = systemClock.nowMs()
  await Promise.all(
    beginnings.map(async text => {
      const { socket, closed } = stranger(t, node)
      socket.write(text)
      await closed
    })
  )
  t.ok(systemClock.nowMs() - startMs >= PREAMBLE_MS - 100)
  t.equal(node.mesh.refused['no preamble in time'], beginnings.length)
})

t.test('a recorded connection cannot be replayed', async t => {
  const [a, b] = [await host(t), await host(t)]
  const recorded: Buffer[] = []
  const proxy = createServer(near => {
    const far = connect(b.port, '127.0.0.1')
    near.on('data', chunk => recorded.push(chunk)).pipe(far)
    far.pipe(near)
    for (const socket of [near, far]) {
      socket.on('error', () => undefined)
      t.teardown(() => socket.destroy())
    }
  }).listen(0, '127.0.0.1')
  t.teardown(() => proxy.close())
  await once(proxy, 'listening')
  introduce(a, { ...b, port: (proxy.address() as AddressInfo).port })
  t.ok(await helloWorks(a, b), 'positive control: through the wire that records')
  const { socket, closed } = stranger(t, b)
  const recording = Buffer.concat(recorded)
  socket.write(recording.subarray(0, 41))
  await once(socket, 'data')
  socket.write(recording.subarray(41))
  await closed
  t.equal(b.mesh.refused['wrong proof'], 1)
})

t.test('an agent of the release before is refused by name', async t => {
  const node = await host(t)
  const { socket, closed } = stranger(t, node)
  socket.write(randomKey(32))
  await closed
  t.strictSame(node.mesh.refused, { 'version 1': 1 })
  const old = createServer(socket => {
    socket.on('error', () => undefined)
    socket.write(randomKey(32))
    t.teardown(() => socket.destroy())
  }).listen(0, '127.0.0.1')
  t.teardown(() => old.close())
  await once(old, 'listening')
  const peer = await host(t)
  introduce(node, { ...peer, port: (old.address() as AddressInfo).port })
  await t.rejects(node.mesh.connect(peer.peer), { code: 'ERR_PEER', message: /older release of vxmesh/ })
})

t.test('connections of one source beyond the bound are closed unread, and others get through', async t => {
  const [a, b] = [await host(t), await host(t)]
  introduce(a, b)
  const sockets = accepted(t)
  const silent = Array.from({ length: SOURCE_UNPROVEN + 200 }, () => stranger(t, b))
  await Promise.all(silent.slice(SOURCE_UNPROVEN).map(({ closed }) => closed))
  t.equal(sockets.length, SOURCE_UNPROVEN, 'no socket is made for the others')
  t.equal(b.mesh.refused['too many connections'], 200)
  t.ok(await helloWorks(a, b))
  await Promise.all(silent.map(({ closed }) => closed))
})

t.test('hosts find each other during a flood', async t => {
  const [a, b] = [await host(t), await host(t)]
  introduce(a, b)
  let floods = true
  let connections = 0
  const flood = async (n: number): Promise<void> => {
    while (floods) {
      const { socket, closed } = stranger(t, b, `127.0.1.${n}`)
      socket.end(randomKey(1_000))
      connections += 1
      await closed
    }
  }
  const flooding = Promise.all(Array.from({ length: 64 }, (_, n) => flood(n + 1)))
  while ((b.mesh.refused['too many connections'] ?? 0) < 500) await systemClock.sleep(10)
  t.ok(await helloWorks(a, b), 'one dial')
  floods = false
  await flooding
  t.comment(`${connections} connections of strangers`)
})
