import t from 'tap'
import { rememberLast } from '#agent/reconcile/remember-last.ts'

t.test('a result is computed again only for other arguments than the last ones', async t => {
  const calls: unknown[][] = []
  const sum = rememberLast((list: readonly number[], more: number) => {
    calls.push([list, more])
    return { sum: list.reduce((all, one) => all + one, more) }
  })
  const list = [1, 2]
  const first = sum(list, 3)
  t.same(first, { sum: 6 })
  t.equal(sum(list, 3), first)
  t.equal(calls.length, 1)
  t.not(sum([1, 2], 3), first, 'an equal list is another one')
  sum(list, 4)
  sum(list, 3)
  t.equal(calls.length, 4, 'only the last result is remembered')
})

t.test('a call that throws is not remembered', async t => {
  let fails = true
  const once = rememberLast((value: number) => {
    if (fails) throw new Error('not yet')
    return value
  })
  t.throws(() => once(1), /not yet/)
  fails = false
  t.equal(once(1), 1)
})
