import t from 'tap'
import { UseCounts } from '#platform/use-counts.ts'

t.test('a key is in use until its last use has ended, whether it succeeds or fails', async t => {
  const counts = new UseCounts<string>()
  t.notOk(counts.has('a'))
  const result = await counts.during('a', async () => {
    await t.rejects(
      counts.during('a', () => Promise.reject(new Error('failed'))),
      { message: 'failed' }
    )
    t.ok(counts.has('a'), 'the outer use goes on')
    t.notOk(counts.has('b'))
    return 7
  })
  t.same([result, counts.has('a')], [7, false])
})

t.test('work that throws at once ends its use', async t => {
  const counts = new UseCounts<string>()
  await t.rejects(
    counts.during('a', () => {
      throw new Error('at once')
    }),
    { message: 'at once' }
  )
  t.notOk(counts.has('a'))
})
