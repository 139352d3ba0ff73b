import { createInterface } from 'node:readline'
import t from 'tap'
import { eventStream } from '#api/event-stream.ts'
import type { AgentEvent } from '#model/event.ts'

type Listener = (event: AgentEvent) => void

const event = (index: number): AgentEvent => ({ time: '2026-01-01T00:00:00.000Z', kind: 'watching', index })

t.test('each event is a line of JSON, in order', async t => {
  let tell: Listener = () => undefined
  const stream = eventStream(listener => {
    tell = listener
    listener(event(0))
    return () => undefined
  })
  for (const index of [1, 2, 3]) tell(event(index))
  const lines: unknown[] = []
  for await (const line of createInterface({ input: stream })) if (lines.push(JSON.parse(line)) === 4) break
  t.same(lines, [0, 1, 2, 3].map(event))
  stream.destroy()
})

t.test('a caller that goes away is listened for no more', async t => {
  let stopped = 0
  const stream = eventStream(() => () => (stopped += 1))
  stream.destroy()
  await new Promise(resolve => stream.once('close', resolve))
  t.equal(stopped, 1)
})

t.test('a caller that does not read is dropped at a bound, and the memory that waited for it with it', async t => {
  let tell: Listener = () => undefined
  let stopped = 0
  const stream = eventStream(listener => {
    tell = listener
    return () => (stopped += 1)
  })
  const closed = new Promise(resolve => stream.once('close', resolve))
  const name = 'x'.repeat(1_000)
  let told = 0
  while (!stream.destroyed && told < 100_000) {
    tell({ time: '', kind: 'member-vanished', name, peerId: '' })
    told += 1
  }
  await closed
  t.ok(told > 1_000 && told < 10_000, `dropped after ${told} events of a kilobyte`)
  t.equal(stopped, 1)
})
