import { createServer, connect, type Socket } from 'node:net'
import t from 'tap'
import { parseIpv4 } from '#model/ipv4.ts'
import { Pulse, type Pinged } from '#replication/transport/live-muxer.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'
import { host } from '../hosts.ts'

type Watched = Pinged & { pings: number; aborted: Error | null }

/** A connection whose other end answers, does not, or has closed. */
function connection(answer: 'at once' | 'never' | 'closed'): Watched {
  const watched: Watched = {
    pings: 0,
    aborted: null,
    ping: ({ signal }) => {
      watched.pings += 1
      if (answer === 'at once') return Promise.resolve(1)
      if (answer === 'closed') return Promise.reject(new Error('muxer closed'))
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))
    },
    abort: err => (watched.aborted = err)
  }
  return watched
}

t.test('each connection is pinged every 5 s, and one that does not answer within 5 s is closed', async t => {
  const time = new ManualClock()
  const pulse = new Pulse(time.clock)
  const [alive, dead, closed] = [connection('at once'), connection('never'), connection('closed')]
  for (const each of [alive, dead, closed]) pulse.watch(each)
  await time.advance(4_999)
  t.same([alive.pings, dead.pings], [0, 0])
  await time.advance(1)
  t.same([alive.pings, dead.pings, closed.pings], [1, 1, 1])
  t.match(closed.aborted, { code: 'ERR_PEER' })
  await time.advance(4_999)
  t.equal(dead.aborted, null)
  await time.advance(1)
  t.match(dead.aborted, { code: 'ERR_PEER', message: /does not answer/ })
  t.equal(alive.aborted, null)
})

t.test('what is no longer watched is neither pinged nor closed, and nothing runs while nothing is watched', async t => {
  const time = new ManualClock()
  const pulse = new Pulse(time.clock)
  const [one, two] = [connection('never'), connection('at once')]
  const ends = [one, two].map(each => pulse.watch(each))
  await time.advance(5_000)
  for (const end of ends) {
    end()
    end()
  }
  await time.advance(60_000)
  t.same([one.pings, two.pings, one.aborted], [1, 1, null])
  pulse.watch(two)
  await time.advance(5_000)
  t.equal(two.pings, 2)
})

t.test('a connection through which nothing comes any more is closed, one that is quiet is not', async t => {
  const time = new ManualClock()
  const [one, two, three] = await Promise.all([host(t, { clock: time.clock }), host(t), host(t)])
  const sockets: Socket[] = []
  const proxy = createServer(inbound => {
    const outbound = connect(two.port, '127.0.0.1')
    sockets.push(inbound, outbound)
    inbound.pipe(outbound).pipe(inbound)
    for (const socket of [inbound, outbound]) socket.on('error', () => undefined)
  })
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    proxy.close()
  })
  const { port } = proxy.address() as { port: number }
  one.mesh.setAddress(two.peer, { address: parseIpv4('127.0.0.1'), port })
  one.mesh.setAddress(three.peer, { address: parseIpv4('127.0.0.1'), port: three.port })
  await Promise.all([one.mesh.connect(two.peer), one.mesh.connect(three.peer)])
  for (const socket of sockets) socket.unpipe().pause()
  await three.mesh.handle('/quiet/1', () => undefined)
  await time.advance(5_000)
  // Its answer comes behind that to the ping.
  await one.mesh.openStream(three.peer, '/quiet/1')
  await time.advance(4_999)
  t.ok(one.mesh.isConnected(two.peer))
  await time.advance(1)
  await waitFor('the silent one is closed', () => !one.mesh.isConnected(two.peer))
  t.ok(one.mesh.isConnected(three.peer))
})
