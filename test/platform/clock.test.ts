import t from 'tap'
import { systemClock, type Clock } from '#platform/clock.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

t.test('a sleep ends on time, or at once when its signal is aborted', async t => {
  const manual = new ManualClock()
  const abort = new AbortController()
  const slept = manual.clock.sleep(100)
  const aborted = manual.clock.sleep(100, abort.signal)
  abort.abort()
  t.equal(await aborted, false)
  t.equal(manual.pending, 1, 'the aborted timer is gone')
  await manual.advance(100)
  t.equal(await slept, true)
  t.equal(await manual.clock.sleep(100, abort.signal), false, 'with an aborted signal it does not wait')
  t.equal(manual.pending, 0)
})

for (const [name, outcome] of [
  ['resolves', () => Promise.resolve('done')],
  ['rejects', () => Promise.reject(new Error('broken'))]
] as const) {
  t.test(`within settles like a promise that ${name} in time, and leaves no timer`, async t => {
    const { clock, pending } = watched(new ManualClock())
    const settled = await clock
      .within<string>(outcome(), 50, () => new Error('late'))
      .catch((err: unknown) => (err as Error).message)
    t.equal(settled, name === 'resolves' ? 'done' : 'broken')
    t.equal(pending(), 0)
  })
}

t.test('within rejects with the given error when the promise is late', async t => {
  const manual = new ManualClock()
  const late = manual.clock.within(new Promise(() => undefined), 50, () => new Error('late'))
  const rejected = t.rejects(late, { message: 'late' })
  await manual.advance(49)
  t.equal(manual.pending, 1)
  await manual.advance(1)
  await rejected
})

t.test('timers run in order of their due time, and in order of creation when that is equal', async t => {
  const manual = new ManualClock()
  const ran: string[] = []
  manual.clock.after(20, () => ran.push('b'))
  manual.clock.after(10, () => ran.push(`a at ${manual.clock.nowMs()}`))
  manual.clock.after(20, () => ran.push('c'))
  const stop = manual.clock.every(15, () => ran.push('tick'))
  await manual.advance(31)
  stop()
  await manual.advance(100)
  t.same(ran, ['a at 10', 'tick', 'b', 'c', 'tick'])
})

t.test('the system clock is monotonic, and a cancelled timer never runs', async t => {
  const before = systemClock.nowMs()
  const cancel = systemClock.after(0, () => t.fail('ran'))
  cancel()
  let ticks = 0
  await new Promise<void>(resolve => {
    const stop = systemClock.every(1, () => {
      ticks += 1
      if (ticks < 3) return
      stop()
      resolve()
    })
  })
  t.ok(systemClock.nowMs() >= before)
})

function watched(manual: ManualClock): { clock: Clock; pending: () => number } {
  return { clock: manual.clock, pending: () => manual.pending }
}
