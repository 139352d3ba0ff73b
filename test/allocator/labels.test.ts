// Labels of endpoints: attached, changed, selected, and in everything that a state is written to.

import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { getKv } from '#allocator/kv-view.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { vacated } from '#allocator/vacate.ts'
import { BOTH_FAMILIES } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { parseSelectorTerm, type Labels } from '#model/labels.ts'
import {
  addSubnet,
  attach,
  brief,
  Caller,
  contents,
  create,
  detach,
  NEW,
  NEWER,
  peer,
  register,
  relabel,
  testRefusals
} from './fixtures.ts'
import { built, plain, sections } from './sections.ts'

const RED = parseNetworkName('red')
const ETH0 = parseIfName('eth0')

function held(state: ClusterState, containerId: string): Endpoint {
  const endpoint = state.endpointOf(parseContainerId(containerId), ETH0)
  if (endpoint === undefined) throw new Error(`no endpoint ${containerId}`)
  return endpoint
}

const many = (from: number, count: number): Labels =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${from + n}`, '']))

/** web, db and plain in network red. */
function labelled(): Caller {
  const caller = Caller.raised()
  caller.do(attach('red', 'web', { labels: { app: 'web', tier: 'front' } }))
  caller.do(attach('red', 'db', { host: 2, labels: { app: 'db', canary: '' } }))
  caller.do(attach('red', 'plain'))
  return caller
}

t.test('an endpoint has the labels that it was attached with, and one without has no field for them', t => {
  const { state } = labelled()
  t.same(held(state, 'web').labels, { app: 'web', tier: 'front' })
  t.notOk('labels' in held(state, 'plain'))
  const caller = Caller.raised()
  t.notOk('labels' in caller.endpoint(attach('red', 'c', { labels: {} })))
  t.same(verify(state), [])
  t.end()
})

t.test('an update changes the given labels only; without any left the field is gone', t => {
  const caller = labelled()
  caller.do(relabel('web', { tier: 'back', zone: 'a', gone: null }))
  t.same(held(caller.state, 'web').labels, { app: 'web', tier: 'back', zone: 'a' })
  caller.do({ ...relabel('web', { app: null }), egressRate: 8_000 })
  t.match(held(caller.state, 'web'), { labels: { tier: 'back', zone: 'a' }, egressRate: 8_000 })
  const { labels: _, ...withoutLabels } = relabel('web', {})
  caller.do({ ...withoutLabels, egressRate: 0 })
  t.same(held(caller.state, 'web').labels, { tier: 'back', zone: 'a' })
  caller.do(relabel('web', { tier: null, zone: null }))
  t.notOk('labels' in held(caller.state, 'web'))
  caller.do(relabel('plain', { app: 'new' }))
  t.same(held(caller.state, 'plain').labels, { app: 'new' })
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a repeated attach changes no labels', t => {
  const caller = labelled()
  const again = caller.endpoint(attach('red', 'web', { labels: { app: 'other' } }))
  t.same(again.labels, { app: 'web', tier: 'front' })
  t.same(held(caller.state, 'web'), again)
  t.end()
})

testRefusals(t, labelled, [
  {
    what: 'labels of no endpoint',
    command: relabel('none', { a: '1' }),
    refused: 'ERR_ENDPOINT_NOT_FOUND containerId'
  },
  {
    what: 'more labels than there may be, with those it has',
    command: relabel('web', many(0, 31)),
    refused: 'ERR_INVALID labels'
  },
  {
    what: 'more bytes than there may be, with those it has',
    command: relabel(
      'db',
      Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`${10 + n}${'k'.repeat(58)}`, 'v'.repeat(60)]))
    ),
    refused: 'ERR_INVALID labels'
  }
])

t.test('the bound holds for what is left: an update may replace as many as there may be', t => {
  const caller = labelled()
  caller.do(relabel('web', many(0, 30)))
  t.equal(brief(caller.try(relabel('web', { one: '' }))), 'ERR_INVALID labels')
  const others = Object.fromEntries(Object.keys(many(0, 30)).map(key => [key, null]))
  caller.do(relabel('web', { ...others, ...many(30, 30) }))
  t.equal(Object.keys(held(caller.state, 'web').labels ?? {}).length, 32)
  t.end()
})

t.test('by older rules labels are refused, whatever the rules of the cluster', t => {
  const caller = labelled()
  caller.rules = BOTH_FAMILIES
  const before = contents(caller.state)
  t.equal(brief(caller.try(attach('red', 'x', { labels: { a: '' } }))), 'ERR_UNSUPPORTED labels')
  t.equal(brief(caller.try(relabel('web', { a: '' }))), 'ERR_UNSUPPORTED labels')
  t.equal(brief(caller.try(relabel('web', { app: null }))), 'ERR_UNSUPPORTED labels')
  t.equal(contents(caller.state), before)
  t.equal(brief(caller.try(attach('red', 'x', { labels: {} }))), 'ok')
  const early = Caller.ready()
  for (const n of [1, 2]) early.do(register(n, { version: NEWER }))
  early.rules = BOTH_FAMILIES
  t.equal(brief(early.try(attach('red', 'x', { labels: { a: '' } }))), 'ERR_UNSUPPORTED labels')
  early.raise()
  t.equal(brief(early.try(attach('red', 'x', { labels: { a: '' } }))), 'ok')
  t.end()
})

t.test('an update and its reverse restore the hash; each change of a label is in it', t => {
  const caller = labelled()
  const hash = (): unknown => caller.state.tables.hash.value
  const start = hash()
  const seen = [start]
  for (const labels of [{ app: 'web2' }, { app: 'web', tier: null }, { tier: 'front', x: '' }, { x: 'y' }]) {
    caller.do(relabel('web', labels))
    for (const other of seen) t.notSame(hash(), other, JSON.stringify(labels))
    seen.push(hash())
  }
  caller.do(relabel('web', { x: null }))
  t.same(hash(), start)
  t.end()
})

t.test('keys and values are told apart in the hash, and labels from a second address', t => {
  const hashes = new Set<string>()
  const cases: readonly Parameters<typeof attach>[2][] = [
    { labels: { a: 'b' } },
    { labels: { ab: '' } },
    { labels: { a: '', b: '' } },
    { address6: 'fd00:2::99' },
    { address6: 'fd00:2::99', labels: { a: 'b' } },
    {}
  ]
  for (const p of cases) {
    const caller = Caller.raised()
    caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
    caller.do(attach('both', 'c', p))
    hashes.add(JSON.stringify(caller.state.tables.hash.value))
  }
  t.equal(hashes.size, cases.length)
  t.end()
})

t.test('a selector enumerates the endpoints of one network', t => {
  const caller = labelled()
  caller.do(create('blue', { subnet: '10.2.0.0/24' }))
  caller.do(attach('blue', 'other', { labels: { app: 'web' } }))
  const chosen = (...terms: string[]): string[] =>
    [
      ...caller.state.endpointsChosenBy(
        RED,
        terms.map(term => parseSelectorTerm(term, 'label'))
      )
    ].map(e => e.containerId)
  t.same(chosen('app=web'), ['web'])
  t.same(chosen('app').sort(), ['db', 'web'])
  t.same(chosen('app', 'canary='), ['db'])
  t.same(chosen('app', 'none'), [])
  t.equal(chosen().length, 3)
  t.same([...caller.state.endpointsChosenBy(parseNetworkName('none'), [])], [])
  caller.do(detach('web'))
  caller.do(relabel('plain', { app: 'web' }))
  t.same(chosen('app=web'), ['plain'])
  t.end()
})

t.test('labels survive a snapshot of either form, with and without a second address, and in answers', t => {
  const caller = labelled()
  caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  caller.do(attach('both', 'two', { address6: 'fd00:2::99', labels: { '10': 'x', '9': '', app: 'two' } }))
  caller.do(attach('both', 'none', { address6: 'fd00:2::98' }))
  const { state } = caller
  for (const copy of [decodeState(plain(encodeState(state))), built(plain(sections(state)) as unknown[])]) {
    t.same(verify(copy), [])
    t.equal(digestOf(copy), digestOf(state))
    t.same(encodeState(copy), encodeState(state))
    t.strictSame(held(copy, 'two').labels, { '9': '', '10': 'x', app: 'two' })
    t.notOk('labels' in held(copy, 'none'))
  }
  const [, both] = encodeState(state).networks
  t.same(
    both?.endpoints.map(row => row.slice(10)),
    [['fd00:2::99', { '9': '', '10': 'x', app: 'two' }], ['fd00:2::98']]
  )
  t.end()
})

t.test('a row without labels has the bytes that it had before there were any', t => {
  const caller = Caller.raised()
  caller.do(attach('red', 'c1', { rate: 8_000, requestId: 'r' }))
  const before = JSON.stringify(encodeState(caller.state).networks)
  caller.do(relabel('c1', { app: 'web' }))
  caller.do(relabel('c1', { app: null }))
  t.equal(JSON.stringify(encodeState(caller.state).networks), before)
  t.match(before, /\["?[0-9]+"?,null,"c1","eth0","",0,8000,0,0,"r"\]/)
  t.end()
})

t.test('a snapshot that is read in slices has the labels of its beginning', t => {
  const caller = labelled()
  const cursor = new StateCursor(caller.state, 2)
  const expected = sections(caller.state)
  const found = [cursor.next()]
  caller.do(relabel('web', { app: 'late' }))
  caller.do(relabel('plain', { app: 'late' }))
  for (let section = cursor.next(); section !== null; section = cursor.next()) found.push(section)
  t.same(found, expected)
  t.end()
})

t.test('labels that are no labels make a snapshot unusable', t => {
  const whole = encodeState(labelled().state)
  const [red] = whole.networks
  const [row] = red?.endpoints ?? []
  if (red === undefined || row === undefined) throw new Error('no rows')
  for (const labels of [{ 'a b': '' }, { app: 7 }, [], 'app', null, many(0, 33), { app: 'other' }]) {
    const endpoints = [[...row.slice(0, 11), labels], ...red.endpoints.slice(1)]
    t.throws(() => decodeState({ ...whole, networks: [{ ...red, endpoints }] }), { code: 'ERR_STORAGE' })
  }
  t.end()
})

t.test('labels stay when a network gets its first subnet, when a backup is restored, and when its host returns', t => {
  const caller = labelled()
  caller.do(create('six', { subnet: 'fd00:6::/120' }))
  caller.do(attach('six', 's', { labels: { app: 'six' } }))
  caller.do(addSubnet('six', '10.6.0.0/24'))
  t.same(held(caller.state, 's').labels, { app: 'six' })
  const there = new Caller(vacated(caller.state), 's9')
  there.raise()
  t.same(held(there.state, 'web').labels, { app: 'web', tier: 'front' })
  there.do(register(9, { version: NEW, name: 'h1' }))
  t.match(there.endpoint(attach('red', 'web', { host: 9 })), { host: peer(9), labels: { app: 'web', tier: 'front' } })
  t.same(verify(there.state), [])
  t.end()
})

t.test('the key-value view shows the labels of an endpoint that has some', t => {
  const { state } = labelled()
  t.match(getKv(state, 'endpoint/red/web/eth0'), { labels: { app: 'web', tier: 'front' } })
  t.notOk('labels' in (getKv(state, 'endpoint/red/plain/eth0') ?? {}))
  t.end()
})

const defects: readonly { what: string; labels?: Labels; rules?: number; found: RegExp }[] = [
  { what: 'labels before the rules allow them', rules: BOTH_FAMILIES, found: /web\/eth0 has labels by rules 5/ },
  { what: 'an empty set of labels', labels: {}, found: /web\/eth0 has an empty set of labels/ },
  { what: 'too many labels', labels: many(0, 33), found: /web\/eth0: 33 labels/ },
  {
    what: 'labels in another order',
    labels: { tier: 'front', app: 'web' },
    found: /web\/eth0: its labels are out of order/
  }
]
for (const { what, labels, rules, found } of defects) {
  t.test(`found: ${what}`, t => {
    const { state } = labelled()
    const before = held(state, 'web')
    if (labels !== undefined) state.tables.replaceEndpoint(before, { ...before, labels })
    if (rules !== undefined) state.tables.rules = rules
    t.match(verify(state).join('\n'), found)
    t.end()
  })
}
