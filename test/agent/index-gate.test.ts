import fc from 'fast-check'
import t from 'tap'
import { IndexGate } from '#agent/index-gate.ts'
import type { LogIndex } from '#model/ids.ts'

const index = (n: number): LogIndex => n as LogIndex

/** What has come of promises by now: those that settle do so without a timer. */
async function settled(promises: readonly Promise<unknown>[]): Promise<boolean[]> {
  const done = promises.map(() => false)
  promises.forEach((promise, at) => void promise.then(() => (done[at] = true)).catch(() => undefined))
  await new Promise(resolve => setImmediate(resolve))
  return done
}

t.test('whoever waits for an index that was reached goes on at once', async t => {
  const gate = new IndexGate()
  gate.reached(index(5))
  t.same(await settled([0, 4, 5].map(n => gate.wait(index(n), 60_000))), [true, true, true])
})

t.test('an index lets through all who wait for it or an earlier one, and nobody else', async t => {
  const gate = new IndexGate()
  const waiting = [3, 1, 2, 5, 3].map(n => gate.wait(index(n), 60_000))
  t.same(await settled(waiting), [false, false, false, false, false])
  gate.reached(index(2))
  t.same(await settled(waiting), [false, true, true, false, false])
  gate.reached(index(3))
  t.same(await settled(waiting), [true, true, true, false, true])
  gate.reached(index(9))
  t.same(await settled(waiting), [true, true, true, true, true])
})

t.test('an index that does not come in time is an error that names it, for this one alone', async t => {
  const gate = new IndexGate()
  const other = gate.wait(index(7), 60_000)
  await t.rejects(gate.wait(index(7), 5), { code: 'ERR_TIMEOUT', message: /index 7 within 5 ms/ })
  t.same(await settled([other]), [false])
  gate.reached(index(7))
  await other
})

t.test('an index that is told late closes nothing', async t => {
  const gate = new IndexGate()
  gate.reached(index(9))
  gate.reached(index(4))
  t.same(await settled([gate.wait(index(9), 60_000)]), [true])
  gate.reached(index(12))
})

t.test('whatever the order, each goes on exactly when its index is reached', async t => {
  const step = fc.record({ wait: fc.boolean(), n: fc.integer({ min: 0, max: 30 }) })
  const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async steps => {
    const gate = new IndexGate()
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
