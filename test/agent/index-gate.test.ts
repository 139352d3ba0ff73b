import fc from 'fast-check'
import t from 'tap'
import { IndexGate } from '#agent/index-gate.ts'
import type { LogIndex } from '#model/ids.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

const index = (n: number): LogIndex => n as LogIndex
const makeGate = (time = new ManualClock()): IndexGate => new IndexGate({ clock: time.clock })

/** Which promises have resolved by now; none needs a timer for it. */
async function settled(promises: readonly Promise<unknown>[]): Promise<boolean[]> {
  const done = promises.map(() => false)
  promises.forEach((promise, at) => void promise.then(() => (done[at] = true)).catch(() => undefined))
  await new Promise(resolve => setImmediate(resolve))
  return done
}

t.test('a wait for an index that was reached resolves at once', async t => {
  const gate = makeGate()
  gate.reached(index(5))
  t.same(await settled([0, 4, 5].map(n => gate.wait(index(n), 60_000))), [true, true, true])
})

t.test('an index resolves the waits for it and for earlier ones, and no others', async t => {
  const gate = makeGate()
  const waiting = [3, 1, 2, 5, 3].map(n => gate.wait(index(n), 60_000))
  t.same(await settled(waiting), [false, false, false, false, false])
  gate.reached(index(2))
  t.same(await settled(waiting), [false, true, true, false, false])
  gate.reached(index(3))
  t.same(await settled(waiting), [true, true, true, false, true])
  gate.reached(index(9))
  t.same(await settled(waiting), [true, true, true, true, true])
})

t.test('a wait that times out rejects with an error that names the index, and the others go on', async t => {
  const time = new ManualClock()
  const gate = makeGate(time)
  const other = gate.wait(index(7), 60_000)
  const late = t.rejects(gate.wait(index(7), 5), { code: 'ERR_TIMEOUT', message: /index 7 within 5 ms/ })
  await time.advance(5)
  await late
  t.same(await settled([other]), [false])
  gate.reached(index(7))
  await other
  t.equal(time.pending, 0, 'and no timer is left')
})

t.test('a closed gate rejects every wait at once, and leaves no timer', async t => {
  const time = new ManualClock()
  const gate = makeGate(time)
  const waits = [7, 9].map(n => t.rejects(gate.wait(index(n), 60_000), { code: 'ERR_AGENT_UNREACHABLE' }))
  gate.close()
  await Promise.all(waits)
  t.equal(time.pending, 0)
})

t.test('an index that is reported out of order is ignored', async t => {
  const gate = makeGate()
  gate.reached(index(9))
  gate.reached(index(4))
  t.same(await settled([gate.wait(index(9), 60_000)]), [true])
  gate.reached(index(12))
})

t.test('whatever the order, each wait resolves exactly when its index is reached', async t => {
  const step = fc.record({ wait: fc.boolean(), n: fc.integer({ min: 0, max: 30 }) })
  const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async steps => {
    const gate = makeGate()
    const waiting: { n: number; promise: Promise<void> }[] = []
    let reached = 0
    for (const { wait, n } of steps) {
      if (wait) waiting.push({ n, promise: gate.wait(index(n), 60_000) })
      else gate.reached(index((reached = Math.max(reached, n))))
      const done = await settled(waiting.map(({ promise }) => promise))
      t.same(
        done,
        waiting.map(each => each.n <= reached)
      )
    }
    gate.reached(index(100))
  })
  await fc.assert(property, { numRuns: 100 })
})
