// Raft messages between hosts in memory, on a manual clock.

import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { VxmeshError } from '#model/errors.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { createLogger } from '#platform/log.ts'
import type { Entry, Message } from '#raft/types.ts'
import { RAFT_PROTOCOL } from '#replication/transport/mesh-port.ts'
import { RaftTransport } from '#replication/transport/raft-transport.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { Random } from '#test/sim/random.ts'
import { MemoryNetwork, type MemoryMesh } from '../memory-mesh.ts'

type End = {
  readonly mesh: MemoryMesh
  readonly transport: RaftTransport
  readonly received: Message[]
  readonly lost: PeerId[]
}

class World {
  readonly manual = new ManualClock()
  readonly network = new MemoryNetwork({ clock: this.manual.clock, random: { ...random(), id: () => '' } })

  async end(
    name: string,
    isServer: (peer: PeerId) => boolean = () => true,
    checkEntry: (entry: Entry) => void = () => undefined
  ): Promise<End> {
    const self = name as PeerId
    const mesh = this.network.join(self)
    for (const peer of ['a', 'b', 'c']) {
      mesh.setAddress(peer as PeerId, { address: parseIpv4('192.0.2.1'), port: 7_947 })
    }
    const received: Message[] = []
    const lost: PeerId[] = []
    const transport = new RaftTransport({
      mesh,
      clock: this.manual.clock,
      self,
      isServer,
      checkEntry,
      receive: message => received.push(message),
      lost: peer => lost.push(peer),
      logger: createLogger('silent')
    })
    await transport.start()
    return { mesh, transport, received, lost }
  }
}

function random(): { unit: () => number } {
  const source = new Random(1)
  return { unit: () => source.unit() }
}

const header = (term: number) => ({
  clusterId: 'c' as ClusterId,
  from: 'a' as PeerId,
  to: 'b' as PeerId,
  term: term as Term,
  incarnation: 0
})
const timeoutNow = (term: number): Message => ({ ...header(term), kind: 'timeout-now' })
const append = (round: number, entries: readonly Entry[] = []): Message => ({
  ...header(1),
  kind: 'append-request',
  prevIndex: 0 as LogIndex,
  prevTerm: 0 as Term,
  entries,
  leaderCommit: 0 as LogIndex,
  round
})
const ENTRY: Entry = { index: 1 as LogIndex, term: 1 as Term, kind: 'noop', data: new Uint8Array() }

const terms = ({ received }: End): number[] => received.map(({ term }) => term)
const rounds = ({ received }: End): number[] => received.flatMap(m => ('round' in m ? [m.round] : []))

t.test('messages sent while a channel opens are held: the newest 16, in order', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b')]
  for (let term = 1; term <= 5; term++) {
    a.transport.send(timeoutNow(term))
    await world.manual.advance(0)
  }
  await world.manual.advance(100)
  t.same(terms(b), [1, 2, 3, 4, 5])

  const slow = new World()
  const [c, d] = [await slow.end('a'), await slow.end('b')]
  slow.network.settings.minDelayMs = slow.network.settings.maxDelayMs = 50
  for (let term = 1; term <= 40; term++) c.transport.send(timeoutNow(term))
  await slow.manual.advance(1_000)
  t.same(
    terms(d),
    Array.from({ length: 16 }, (_, n) => 25 + n)
  )
})

t.test('a heartbeat is delayed for 3 ms, and merged with entries that follow', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b')]
  a.transport.send(timeoutNow(1))
  await world.manual.advance(100)
  a.transport.send(append(1))
  await world.manual.advance(3)
  t.same(rounds(b), [], 'flushed after 3 ms, in flight')
  await world.manual.advance(1)
  t.same(rounds(b), [1])
  a.transport.send(append(2))
  a.transport.send(append(3, [ENTRY]))
  await world.manual.advance(1)
  t.same(rounds(b), [1, 3], 'sent at once, as one message')
  await world.manual.advance(100)
  t.same(rounds(b), [1, 3], 'the heartbeat is not sent again')
})

t.test('delayed messages can be taken and sent with others', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b')]
  t.same(a.transport.takeDelayed('b' as PeerId), [], 'an unknown peer')
  a.transport.send(append(1))
  t.same(a.transport.takeDelayed('b' as PeerId), [], 'no channel yet')
  await world.manual.advance(100)
  a.transport.send(append(2))
  const frames = a.transport.takeDelayed('b' as PeerId)
  t.equal(frames.length, 1)
  t.same(a.transport.takeDelayed('b' as PeerId), [], 'taken once')
  b.transport.receive('a' as PeerId, frames)
  await world.manual.advance(100)
  t.same(rounds(b), [1, 2])
})

t.test('an unreachable peer is retried with back-off, and messages meanwhile are dropped', async t => {
  const world = new World()
  const a = await world.end('a')
  a.transport.send(timeoutNow(1))
  await world.manual.advance(10)
  t.same(a.lost, ['b'], 'a refused connection is reported')
  a.transport.send(timeoutNow(2))
  await world.manual.advance(10)
  t.same(a.lost, ['b'], 'no attempt during the back-off')
  const b = await world.end('b')
  await world.manual.advance(50)
  t.same(terms(b), [], 'what was sent during the back-off is dropped')
  a.transport.send(timeoutNow(3))
  await world.manual.advance(10)
  t.same(terms(b), [3])
})

t.test('a broken connection is reported at both ends, and a connection resets the back-off', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b')]
  a.transport.send(timeoutNow(1))
  await world.manual.advance(10)
  world.network.leave(b.mesh)
  await world.manual.advance(10)
  t.ok(a.lost.includes('b' as PeerId))
  for (let n = 0; n < 6; n++) {
    a.transport.send(timeoutNow(2))
    await world.manual.advance(1_000)
  }
  const again = await world.end('b')
  const connecting = again.mesh.connect('a' as PeerId)
  await world.manual.advance(5)
  await connecting
  a.transport.send(timeoutNow(3))
  await world.manual.advance(10)
  t.same(terms(again), [3])
})

t.test('messages of a peer that is not a server are dropped', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b', peer => peer === 'c')]
  a.transport.send(timeoutNow(1))
  await world.manual.advance(100)
  t.same(b.received, [])
})

t.test('a malformed frame closes the channel and is not delivered', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b')]
  t.throws(() => b.transport.receive('a' as PeerId, [new Uint8Array([0])]), { code: 'ERR_PEER' })
  const opening = a.mesh.openStream('b' as PeerId, RAFT_PROTOCOL)
  await world.manual.advance(10)
  const stream = await opening
  stream.send(Uint8Array.from([0, 0, 0, 1, 0]))
  await world.manual.advance(10)
  t.not(stream.status, 'open')
  t.same(b.received, [])
  t.ok(b.lost.includes('a' as PeerId))
})

const command = (n: number): Entry => ({ ...ENTRY, index: n as LogIndex, kind: 'command', data: new Uint8Array(1) })
for (const { what, message } of [
  { what: 'entries out of order', message: append(1, [command(2), command(1)]) },
  { what: 'entries that do not follow prevIndex', message: append(1, [command(2)]) },
  { what: 'an entry that cannot be applied', message: append(1, [command(1)]) },
  { what: 'an entry of a later term than the message', message: append(1, [{ ...ENTRY, term: 2 as Term }]) },
  { what: 'a configuration that is none', message: append(1, [{ ...ENTRY, kind: 'config' }]) },
  { what: 'a term out of bounds', message: timeoutNow(2 ** 50) }
]) {
  t.test(`a server that sends ${what} is counted, its channel is closed, and nothing is delivered`, async t => {
    const world = new World()
    const refuse = (): never => {
      throw new VxmeshError('ERR_PEER', 'it cannot be applied')
    }
    const [a, b] = [await world.end('a'), await world.end('b', () => true, refuse)]
    a.transport.send(message)
    await world.manual.advance(100)
    t.same(b.received, [])
    t.equal(b.transport.refused, 1)
    t.ok(a.lost.includes('b' as PeerId), 'its end of the channel is closed')
    a.transport.send(timeoutNow(1))
    await world.manual.advance(100)
    t.same(terms(b), [1], 'the next message opens another')
  })
}

t.test('the channel of a server whose message contradicts the log is closed and counted', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b')]
  a.transport.send(timeoutNow(1))
  await world.manual.advance(100)
  b.transport.refuse('a' as PeerId, 'a second leader in term 1')
  await world.manual.advance(100)
  t.ok(a.lost.includes('b' as PeerId))
  t.equal(b.transport.refused, 1)
})

t.test('a stopped transport sends nothing, opens nothing and reports nothing', async t => {
  const world = new World()
  const [a, b] = [await world.end('a'), await world.end('b')]
  a.transport.send(append(1))
  await world.manual.advance(100)
  a.transport.send(append(2))
  a.transport.stop()
  await world.manual.advance(100)
  t.same(rounds(b), [1])
  t.same(a.lost, [])
})
