// Answers to peers that read slowly, not at all, or are gone.

import t from 'tap'
import { AnswerQueue, type Sent } from '#zmq/answer-queue.ts'
import { systemClock } from '#platform/clock.ts'
import { waitFor } from '#test/lab/wait.ts'

const MIB = 1024 * 1024

class Peers {
  readonly got = new Map<string, string[]>()
  /** How each peer takes answers; `sent` where nothing is set. */
  readonly state = new Map<string, Sent>()
  readonly dropped: number[] = []
  readonly queue = new AnswerQueue({
    send: parts => {
      const [sender = '', answer = ''] = parts.map(part => part.toString())
      const sent = this.state.get(sender) ?? 'sent'
      if (sent === 'sent') this.got.set(sender, [...(this.got.get(sender) ?? []), answer.slice(0, 8)])
      return Promise.resolve(sent)
    },
    clock: systemClock,
    onDrop: bytes => this.dropped.push(bytes)
  })

  add(sender: string, answer: string | Buffer): void {
    this.queue.add([Buffer.from(sender), Buffer.from(answer)])
  }
}

t.test('answers reach each peer in order, and nothing is left waiting', async t => {
  const peers = new Peers()
  for (let n = 0; n < 1_000; n++) for (const peer of ['a', 'b']) peers.add(peer, `${n}`)
  const all = Array.from({ length: 1_000 }, (_, n) => `${n}`)
  await waitFor('all are sent', () => peers.queue.bytes === 0)
  t.same([...peers.got], [...new Map(['a', 'b'].map(peer => [peer, all]))])
  await peers.queue.stop()
})

t.test('a peer that reads again gets its queued answers, and delays no other peer', async t => {
  const peers = new Peers()
  peers.state.set('slow', 'full')
  for (const answer of ['1', '2', '3']) peers.add('slow', answer)
  peers.add('quick', 'x')
  await waitFor('the other is answered', () => peers.got.get('quick')?.length === 1)
  t.notOk(peers.got.has('slow'))
  peers.state.delete('slow')
  await waitFor('it is answered', () => peers.queue.bytes === 0)
  t.same(peers.got.get('slow'), ['1', '2', '3'])
  t.same(peers.dropped, [])
  await peers.queue.stop()
})

t.test('a peer that is gone costs nothing', async t => {
  const peers = new Peers()
  peers.state.set('gone', 'gone')
  for (let n = 0; n < 10; n++) peers.add('gone', Buffer.alloc(MIB))
  await waitFor('nothing waits', () => peers.queue.bytes === 0)
  t.same(peers.dropped, [], 'nobody is there to lose them')
  await peers.queue.stop()
})

t.test('queued bytes are bounded, for one peer and for all; the peer with the most loses its answers', async t => {
  const peers = new Peers()
  let most = 0
  for (const peer of ['a', 'b', 'c', 'd']) peers.state.set(peer, 'full')
  for (let n = 0; n < 200; n++) {
    peers.add('a', Buffer.alloc(MIB))
    if (n % 2 === 0) for (const peer of ['b', 'c', 'd']) peers.add(peer, Buffer.alloc(MIB / 2))
    most = Math.max(most, peers.queue.bytes)
  }
  t.ok(most <= 33 * MIB, `${most} bytes`)
  t.ok(peers.dropped.length > 3 && peers.dropped.every(bytes => bytes >= 8 * MIB), peers.dropped.join())
  await peers.queue.stop()
})

t.test('a peer is deaf from the loss of its answers until it reads again', async t => {
  const peers = new Peers()
  const isDeaf = (): boolean => peers.queue.isDeaf(Buffer.from('slow'))
  peers.state.set('slow', 'full')
  peers.add('slow', Buffer.alloc(MIB))
  t.notOk(isDeaf(), 'it is only slow')
  for (let n = 0; n < 20; n++) peers.add('slow', Buffer.alloc(MIB))
  t.ok(isDeaf())
  t.notOk(peers.queue.isDeaf(Buffer.from('another')))
  peers.state.delete('slow')
  await waitFor('it reads again', () => !isDeaf())
  peers.add('slow', 'heard')
  await waitFor('it is answered', () => peers.got.get('slow')?.at(-1) === 'heard')
  await peers.queue.stop()
})
