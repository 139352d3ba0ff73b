import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import t from 'tap'
import { eventStream } from '#api/event-stream.ts'
import type { AgentEvent } from '#model/event.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

type Listener = (event: AgentEvent) => void

function open(listen: (listener: Listener) => () => void, { clock } = new ManualClock()): Readable {
  return eventStream({ listen, clock })
}

const event = (index: number): AgentEvent => ({ time: '2026-01-01T00:00:00.000Z', kind: 'watching', index })

t.test('events are lines of JSON, in order', async t => {
  let publish: Listener = () => undefined
  const stream = open(listener => {
    publish = listener
    listener(event(0))
    return () => undefined
  })
  for (const index of [1, 2, 3]) publish(event(index))
  const lines: unknown[] = []
  for await (const line of createInterface({ input: stream })) if (lines.push(JSON.parse(line)) === 4) break
  t.same(lines, [0, 1, 2, 3].map(event))
  stream.destroy()
})

t.test('the subscription ends when the caller disconnects', async t => {
  let stopped = 0
  const stream = open(() => () => (stopped += 1))
  stream.destroy()
  await new Promise(resolve => stream.once('close', resolve))
  t.equal(stopped, 1)
})

t.test('a caller that does not read is disconnected at the limit, and its subscription ends', async t => {
  let publish: Listener = () => undefined
  let stopped = 0
  const stream = open(listener => {
    publish = listener
    return () => (stopped += 1)
  })
  const closed = new Promise(resolve => stream.once('close', resolve))
  const name = 'x'.repeat(1_000)
  let sent = 0
  while (!stream.destroyed && sent < 100_000) {
    publish({ time: '', kind: 'member-vanished', name, peerId: '' })
    sent += 1
  }
  await closed
  t.ok(sent > 1_000 && sent < 10_000, `dropped after ${sent} events of a kilobyte`)
  t.equal(stopped, 1)
})

t.test('an empty line is sent every 15 s until the caller disconnects', async t => {
  const clock = new ManualClock()
  const stream = open(() => () => undefined, clock)
  await clock.advance(14_999)
  t.equal(stream.readableLength, 0)
  await clock.advance(15_001)
  t.equal(String(stream.read()), '\n\n')
  stream.destroy()
  await new Promise(resolve => stream.once('close', resolve))
  t.equal(clock.pending, 0, 'the timer is stopped')
})
