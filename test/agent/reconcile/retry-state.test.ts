import t from 'tap'
import { RetryState } from '#agent/reconcile/retry-state.ts'
import { parseVni } from '#model/ids.ts'

const [red, blue] = [parseVni(1), parseVni(2)]
const bad = { left: 2, why: ['network red: no'] }

t.test('each network backs off by itself, up to a bound, and from the start again after a success', async t => {
  const troubles = new RetryState()
  const waits: number[] = []
  for (let n = 0, now = 0; n < 8; n++) {
    troubles.found(red, bad, now)
    waits.push(troubles.nextDueMs() - now)
    now = troubles.nextDueMs()
  }
  t.strictSame(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
  troubles.found(blue, bad, 0)
  t.equal(troubles.nextDueMs(), 500, 'another network is tried at once')
  t.strictSame(troubles.due(499), [])
  t.strictSame(troubles.due(500), [blue])
  troubles.found(red, null, 0)
  troubles.found(red, bad, 10_000)
  t.strictSame(troubles.due(10_500), [red, blue].reverse())
})

t.test('remaining differences are summed, and those that only wait have no cause', async t => {
  const troubles = new RetryState()
  t.equal(troubles.left, 0)
  t.equal(troubles.nextDueMs(), Infinity)
  troubles.found(red, bad, 0)
  troubles.found('host', { left: 3, why: [] }, 0)
  t.equal(troubles.left, 5)
  t.strictSame(troubles.why(), bad.why)
  troubles.found(red, null, 0)
  troubles.found('host', null, 0)
  t.equal(troubles.left, 0)
  t.strictSame(troubles.scopes(), [])
})
