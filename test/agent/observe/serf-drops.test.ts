import t from 'tap'
import { SerfDrops, type Drops } from '#agent/observe/serf-drops.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

function dropping(...readings: (Drops | null)[]): { readonly drops: SerfDrops; readonly clock: ManualClock } {
  const clock = new ManualClock()
  return { drops: new SerfDrops({ read: () => readings.shift() ?? null, clock: clock.clock }), clock }
}

t.test('drops of an earlier agent are counted but are no flood of now', t => {
  const { drops } = dropping({ stranger: 7, member: 1 }, { stranger: 7, member: 1 })
  t.strictSame([drops.latest, drops.agoMs], [{ stranger: 0, member: 0 }, null])
  drops.sample()
  drops.sample()
  t.strictSame([drops.latest, drops.agoMs], [{ stranger: 7, member: 1 }, null])
  t.end()
})

t.test('the time of the last growth is kept, of either sender', async t => {
  const { drops, clock } = dropping({ stranger: 0, member: 0 }, { stranger: 5, member: 0 }, { stranger: 5, member: 2 })
  drops.sample()
  await clock.advance(1_000)
  drops.sample()
  await clock.advance(1_000)
  t.equal(drops.agoMs, 1_000)
  drops.sample()
  await clock.advance(3_000)
  t.equal(drops.agoMs, 3_000)
})

t.test('a table that was installed again, or is absent, counts from zero', t => {
  const { drops } = dropping({ stranger: 5, member: 0 }, { stranger: 1, member: 0 }, null)
  for (const stranger of [5, 1, 0]) {
    drops.sample()
    t.equal(drops.latest.stranger, stranger)
  }
  t.equal(drops.agoMs, null)
  t.end()
})
