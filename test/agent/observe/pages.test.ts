// Pages of lists: whatever their size, and whatever changes between them, a row that exists throughout is listed once.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { endpointPage, namedPage, networkPage } from '#agent/observe/pages.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { parseNetworkName } from '#model/ids.ts'
import { compareIp } from '#model/ip.ts'
import { parseSelectorTerm } from '#model/labels.ts'
import type { Network } from '#model/network.ts'
import type { PageView } from '#model/views.ts'
import { addSubnet, attach, Caller, create, detach } from '#test/allocator/fixtures.ts'
import { commands, play } from '../reconcile/commands.ts'

/** All rows of a list, read in pages; `between` runs after each page. */
function all<Row>(
  limit: number,
  page: (token: string | null) => PageView<Row>,
  between = (): void => undefined
): Row[] {
  const rows: Row[] = []
  let token: string | null = null
  do {
    const { items, continue: next }: PageView<Row> = page(token)
    assert.ok(items.length <= limit)
    assert.ok(items.length > 0 || next === null)
    rows.push(...items)
    token = next
    if (token !== null) between()
  } while (token !== null)
  return rows
}

const size = fc.integer({ min: 1, max: 7 })

t.test('pages of networks and endpoints are the whole lists, by VNI and address', async t => {
  fc.assert(
    fc.property(commands, size, (log, limit) => {
      const state = play(log, (_, apply) => apply())
      const networks = all(limit, token => networkPage(state, { limit, continue: token }))
      assert.deepEqual(
        networks,
        [...state.networks()].sort((a, b) => a.vni - b.vni)
      )
      const endpoints = all(limit, token => endpointPage(state, { limit, continue: token }))
      const sorted = [...state.endpoints()].sort((a, b) => a.vni - b.vni || compareIp(a.address, b.address))
      assert.deepEqual(endpoints, sorted)
      for (const network of networks) {
        const own = all(limit, token => endpointPage(state, { limit, continue: token }, { only: network }))
        assert.deepEqual(
          own,
          sorted.filter(({ vni }) => vni === network.vni)
        )
      }
    }),
    { numRuns: 300 }
  )
  t.pass()
})

t.test('a row that exists while all pages are read is listed, and none twice', async t => {
  fc.assert(
    fc.property(commands, commands, size, (before, during, limit) => {
      const steps: (() => void)[] = []
      let played = 0
      const state = play([...before, ...during], (_, apply) => {
        if (played++ < before.length) apply()
        else steps.push(apply)
      })
      let always = new Set<object>(state.endpoints())
      const rows = all(
        limit,
        token => endpointPage(state, { limit, continue: token }),
        () => {
          for (const step of steps.splice(0, 3)) {
            step()
            always = always.intersection(new Set<object>(state.endpoints()))
          }
        }
      )
      assert.equal(new Set(rows.map(({ vni, address }) => `${vni}/${address}`)).size, rows.length)
      for (const endpoint of always) assert.ok(rows.includes(endpoint as (typeof rows)[number]))
    }),
    { numRuns: 300 }
  )
  t.pass()
})

t.test('pages by name are the whole list in order, also with names that are held twice', async t => {
  const row = fc.record({ name: fc.constantFrom('a', 'b', 'ba', 'c', 'ü'), id: fc.string({ maxLength: 3 }) })
  const rows = fc.uniqueArray(row, { maxLength: 40, selector: each => JSON.stringify(each) })
  fc.assert(
    fc.property(rows, size, (list, limit) => {
      const key = (each: { name: string; id: string }): readonly [string, string] => [each.name, each.id]
      const order = (a: { name: string; id: string }, b: { name: string; id: string }): number =>
        a.name !== b.name ? (a.name < b.name ? -1 : 1) : a.id < b.id ? -1 : 1
      const paged = all(limit, token => namedPage(list, { limit, continue: token }, key))
      assert.deepEqual(paged, [...list].sort(order))
    }),
    { numRuns: 500 }
  )
  t.pass()
})

t.test('what is no token of the list is refused', async t => {
  const state = play([], (_, apply) => apply())
  const token = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const bad = [
    '',
    'nope',
    '%',
    ...[null, 1, 'x', [], {}, ['a'], [-1], [1.5], [1, 2, 3], [1, 'a'], [null, 1], [1, 2 ** 32], [1, -1]].map(token),
    ...[
      [1, 'fd00::g'],
      [1, ''],
      [1, null],
      [1, 'fd00::/64'],
      [1, ['fd00::']]
    ].map(token)
  ]
  for (const text of bad) {
    const range = { limit: 5, continue: text }
    t.throws(() => networkPage(state, range), { code: 'ERR_INVALID', field: 'continue' }, text)
    t.throws(() => endpointPage(state, range), { code: 'ERR_INVALID', field: 'continue' }, text)
    t.throws(() => namedPage(['a'], range, name => [name, '']), { code: 'ERR_INVALID', field: 'continue' }, text)
  }
  t.same(networkPage(state, { limit: 5, continue: token([2 ** 40]) }), { items: [], continue: null }, 'beyond the end')
})

t.test('a page of another network than the token names begins where that one would be', async t => {
  const state = play([], (_, apply) => apply())
  const range = { limit: 5, continue: Buffer.from('[9,9]').toString('base64url') }
  const only = { name: parseNetworkName('gone'), vni: 8 } as Network
  t.same(endpointPage(state, range, { only }), { items: [], continue: null })
})

t.test('a page of a selector looks at a bounded number of rows, and all of them together miss none', async t => {
  const caller = Caller.raised()
  caller.do(create('large', { subnet: '10.64.0.0/16' }))
  const isChosen = (n: number): boolean => n === 3 || n === 17_000 || n === 24_999
  for (let n = 0; n < 25_000; n++) caller.do(attach('large', `c${n}`, isChosen(n) ? { labels: { app: 'web' } } : {}))
  const selector = [parseSelectorTerm('app=web', 'label')]
  const pages: string[][] = []
  let token: string | null = null
  do {
    const page: PageView<Endpoint> = endpointPage(caller.state, { limit: 5, continue: token }, { selector })
    pages.push(page.items.map(({ containerId }) => containerId))
    token = page.continue
  } while (token !== null)
  t.same(pages, [['c3'], ['c17000'], ['c24999']])
  const one = all(1, token => endpointPage(caller.state, { limit: 1, continue: token }, { selector: [] }))
  t.equal(one.length, 25_000)
})

t.test('pages of an IPv6 network go on where they were when it gets an IPv4 subnet meanwhile', async t => {
  const caller = Caller.raised()
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
  for (const id of ids) caller.do(attach('six', id))
  caller.do(attach('six', 'far', { address: 'fd00:6::1:0:0:9' }))
  const paged = (between?: () => void): string[] =>
    all(3, token => endpointPage(caller.state, { limit: 3, continue: token }), between).map(e => e.containerId)
  t.same(paged(), [...ids, 'far'], 'addresses beyond the pool come last')
  caller.do(detach('far'))
  t.same(
    paged(() => caller.do(addSubnet('six', '10.6.0.0/24'))),
    ids
  )
  t.same(paged(), ids)
})
