import t from 'tap'
import { kvPage, kvValue } from '#agent/observe/kv.ts'
import { attach, Caller } from '#test/allocator/fixtures.ts'

/** Hosts h1 to h5, network red and endpoint web. */
function state(): Caller['state'] {
  const caller = Caller.ready(5)
  caller.do(attach('red', 'web'))
  return caller.state
}

t.test('pages of any size give every key once, in order, and end with null', t => {
  const whole = kvPage(state(), { prefix: '', after: '', limit: 1_000 })
  t.equal(whole.next, null)
  const keys = whole.entries.map(({ key }) => key)
  t.same(keys, [...keys].sort())
  t.ok(keys.length > 8, `${keys.length} keys`)
  for (const limit of [1, 2, 3, keys.length - 1, keys.length, keys.length + 1]) {
    const read: string[] = []
    for (let after: string | null = ''; after !== null;) {
      const page = kvPage(state(), { prefix: '', after, limit })
      t.ok(page.entries.length <= limit)
      read.push(...page.entries.map(({ key }) => key))
      after = page.next
    }
    t.same(read, keys, `${limit} a page`)
  }
  t.end()
})

t.test('a page that ends with the last key of its prefix has no next', t => {
  const page = kvPage(state(), { prefix: 'host/', after: '', limit: 5 })
  t.same(
    [page.entries.map(({ key }) => key), page.next],
    [['host/h1', 'host/h2', 'host/h3', 'host/h4', 'host/h5'], null]
  )
  t.same(kvPage(state(), { prefix: 'none/', after: '', limit: 5 }), { entries: [], next: null })
  t.end()
})

t.test('one key has its value, and a missing one is an error that names it', t => {
  t.match(kvValue(state(), 'network/red'), { key: 'network/red', value: { name: 'red' } })
  for (const key of ['', 'network/', 'network/none', 'network/__proto__', 'toString']) {
    t.throws(() => kvValue(state(), key), { code: 'ERR_KEY_NOT_FOUND', field: 'key' }, key)
  }
  t.end()
})
