import t from 'tap'
import { RetryState } from '#agent/reconcile/retry-state.ts'
import { parseVni } from '#model/ids.ts'

const [red, blue] = [parseVni(1), parseVni(2)]
const bad = { left: 2, why: ['network red: no'] }

t.test('each network backs off by itself, up to a bound, and from the start again after a success', async t => {
  const retries = new RetryState()
  const waits: number[] = []
  for (let n = 0, now = 0; n < 8; n++) {
    retries.found(red, bad, now)
    waits.push(retries.nextDueMs() - now)
    now = retries.nextDueMs()
  }
  t.strictSame(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
  retries.found(blue, bad, 0)
  t.equal(retries.nextDueMs(), 500, 'another network is tried at once')
  t.strictSame(retries.due(499), [])
  t.strictSame(retries.due(500), [blue])
  retries.found(red, null, 0)
  retries.found(red, bad, 10_000)
  t.strictSame(retries.due(10_500), [red, blue].reverse())
})

t.test('remaining differences are summed, and those that only wait have no cause', async t => {
  const retries = new RetryState()
  t.equal(retries.left, 0)
  t.equal(retries.nextDueMs(), Infinity)
  retries.found(red, bad, 0)
  retries.found('host', { left: 3, why: [] }, 0)
  t.equal(retries.left, 5)
  t.strictSame(retries.why(), bad.why)
  retries.found(red, null, 0)
  retries.found('host', null, 0)
  t.equal(retries.left, 0)
  t.strictSame(retries.scopes(), [])
})
