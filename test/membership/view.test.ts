import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import {
  EMPTY_VIEW,
  memberOf,
  patchView,
  reduceView,
  type MemberChange,
  type MembershipView
} from '#membership/view/view.ts'
import { encodeTags } from '#membership/view/tags.ts'
import { peer, record, tags } from './fixtures.ts'

const view = (...records: unknown[]): MembershipView => reduceView(EMPTY_VIEW, records).view
const summary = (change: MemberChange): object => {
  const { name, peerId } = change.kind === 'vanished' ? change.before : change.after
  return { name, peerId, kind: change.kind }
}
const names = ({ members }: MembershipView): string[] => members.map(({ name, status }) => `${name} ${status}`)

t.test('members are sorted by name, and foreign records are listed apart', t => {
  const all = view(record(3), { Name: 'web' }, record(1), record(2, { Status: 'failed' }), null)
  t.same(names(all), ['h1 alive', 'h2 failed', 'h3 alive'])
  t.same(
    all.foreign.map(({ name }) => name),
    ['', 'web']
  )
  t.equal(all.revision, 1)
  t.end()
})

t.test('members that appear, change or vanish are reported, and no others', t => {
  const before = view(record(1), record(2), record(3))
  const { view: after, changes } = reduceView(before, [record(1), record(2, { Status: 'failed' }), record(4)])
  t.same(changes.map(summary), [
    { name: 'h2', peerId: peer(2), kind: 'changed' },
    { name: 'h4', peerId: peer(4), kind: 'appeared' },
    { name: 'h3', peerId: peer(3), kind: 'vanished' }
  ])
  t.match(changes[0], { before: { status: 'alive' }, after: { status: 'failed' } }, 'both values of a changed member')
  t.equal(after.revision, before.revision + 1)
  t.end()
})

for (const [what, changed] of [
  ['its status', record(1, { Status: 'leaving' })],
  ['its name', record(1, { Name: 'new' })],
  ['its address', record(1, { Addr: Uint8Array.from([192, 0, 2, 9]) })],
  ['its port', record(1, { Port: 7_999 })],
  ['its VTEP', record(1, { Tags: { vtep: '192.0.2.9' } })],
  ['its role', record(1, { Tags: { role: 'client' } })],
  ['its libp2p port', record(1, { Tags: { p2p: '7999' } })],
  ['its cluster', record(1, { Tags: { cluster: 'f'.repeat(16) } })],
  ['its number of expected servers', record(1, { Tags: { expect: '5' } })]
] as const) {
  t.test(`a member is changed by a new value for ${what}`, t => {
    const { changes } = reduceView(view(record(1)), [changed])
    t.match(changes.map(summary), [{ peerId: peer(1), kind: 'changed' }])
    t.end()
  })
}

t.test('the same records again give the identical view', t => {
  const before = view(record(1), record(2), { Name: 'b' }, { Name: 'a' })
  for (const records of [
    [record(1), record(2), { Name: 'b' }, { Name: 'a' }],
    [{ Name: 'a' }, record(2), { Name: 'b' }, record(1, { ProtocolMin: 9 })]
  ]) {
    const again = reduceView(before, records)
    t.equal(again.view, before)
    t.same(again.changes, [])
  }
  t.end()
})

t.test('a member that becomes unreadable vanishes and is foreign, with the reason', t => {
  const { view: after, changes } = reduceView(view(record(1)), [record(1, { Tags: { vtep: '0.0.0.0' } })])
  t.match(changes.map(summary), [{ name: 'h1', kind: 'vanished' }])
  t.match(after.foreign, [{ name: 'h1', reason: /^vtep: / }])
  t.end()
})

const Tags = encodeTags(tags(1))
const duplicates: readonly { what: string; records: readonly object[]; kept: string; other: string }[] = [
  {
    what: 'a renamed host left its old name behind',
    records: [record(1, { Status: 'failed' }), record(2, { Name: 'new', Tags })],
    kept: 'new alive',
    other: 'h1'
  },
  { what: 'both are alive', records: [record(2, { Tags }), record(1)], kept: 'h1 alive', other: 'h2' },
  {
    what: 'one is leaving, one has failed',
    records: [record(1, { Status: 'failed' }), record(2, { Tags, Status: 'leaving' })],
    kept: 'h2 leaving',
    other: 'h1'
  },
  {
    what: 'one has failed, one has left',
    records: [record(1, { Status: 'left' }), record(2, { Tags, Status: 'failed' })],
    kept: 'h2 failed',
    other: 'h1'
  }
]
for (const { what, records, kept, other } of duplicates) {
  t.test(`of two names with one peer id the liveliest wins, then the first: ${what}`, t => {
    for (const order of [records, records.toReversed()]) {
      const all = view(...order)
      t.same(names(all), [kept])
      t.same(all.foreign, [{ name: other, reason: `has the peer id of ${kept.split(' ')[0] ?? ''}` }])
    }
    t.end()
  })
}

t.test('one name with two peer ids is two members, in an order that does not depend on Serf', t => {
  const two = [record(1), record(1, { Tags: { peer: peer(2) } })]
  t.strictSame(view(...two), view(...two.toReversed()))
  t.equal(view(...two).members.length, 2)
  t.end()
})

const anyRecord = fc
  .record({
    n: fc.integer({ min: 1, max: 3 }),
    Name: fc.constantFrom('h1', 'h2', 'h3', 'H4'),
    Status: fc.constantFrom('alive', 'leaving', 'left', 'failed', 'none')
  })
  .map(({ n, Name, Status }) => record(n, { Name, Status }))

t.test('the view does not depend on the order of the records, and has each peer id once', t => {
  const property = fc.property(
    fc.array(anyRecord, { maxLength: 8 }),
    fc.array(fc.nat(100), { minLength: 8 }),
    (all, keys) => {
      const shuffled = all
        .map((each, at) => ({ each, key: keys[at % keys.length] ?? 0 }))
        .sort((a, b) => a.key - b.key)
        .map(({ each }) => each)
      const one = view(...all)
      assert.deepEqual(view(...shuffled), one)
      assert.equal(reduceView(one, shuffled).view, one)
      assert.equal(new Set(one.members.map(m => m.peerId)).size, one.members.length)
      assert.equal(one.members.length + one.foreign.length, all.length)
    }
  )
  fc.assert(property, { numRuns: 1_000 })
  t.pass()
  t.end()
})

t.test('a view reduced step by step is that of its last records alone', t => {
  const property = fc.property(fc.array(fc.array(anyRecord, { maxLength: 5 }), { maxLength: 6 }), steps => {
    let now = EMPTY_VIEW
    for (const records of steps) {
      const before = now
      const { view: next, changes } = reduceView(now, records)
      const { members, foreign } = view(...records)
      assert.deepEqual({ members: next.members, foreign: next.foreign }, { members, foreign })
      for (const member of members) assert.deepEqual(memberOf(next, member.peerId), member)
      const old = new Map(before.members.map(member => [member.peerId, member]))
      assert.deepEqual(
        changes.filter(({ kind }) => kind !== 'vanished').map(summary),
        members
          .filter(member => JSON.stringify(old.get(member.peerId)) !== JSON.stringify(member))
          .map(({ name, peerId }) => ({ name, peerId, kind: old.has(peerId) ? 'changed' : 'appeared' }))
      )
      assert.equal(
        changes.filter(({ kind }) => kind === 'vanished').length,
        before.members.filter(({ peerId }) => !members.some(member => member.peerId === peerId)).length
      )
      now = next
    }
  })
  fc.assert(property, { numRuns: 500 })
  t.pass()
  t.end()
})

t.test('one of two records with one name that goes is noticed', t => {
  const [one, other] = [record(1, { Name: 'h2' }), record(3, { Name: 'h2' })]
  const { view: both } = reduceView(EMPTY_VIEW, [one, other])
  const { view: left, changes } = reduceView(both, [other])
  t.same(changes.map(summary), [{ name: 'h2', peerId: peer(1), kind: 'vanished' }])
  t.same(
    left.members.map(({ peerId }) => peerId),
    [peer(3)]
  )
  t.end()
})

t.test('a view patched by the records of some names is that of all records, or all are asked for', t => {
  let [patched, refused] = [0, 0]
  const property = fc.property(
    fc.array(fc.tuple(fc.array(anyRecord, { maxLength: 4 }), fc.subarray(['h1', 'h2', 'h3', 'h5'])), { maxLength: 8 }),
    steps => {
      let now = view(record(1), record(2))
      let all: readonly object[] = [record(1), record(2)]
      for (const [records, asked] of steps) {
        const names = new Set(asked)
        const named = records.filter(each => names.has((each as { Name: string }).Name))
        all = [...all.filter(each => !names.has((each as { Name: string }).Name)), ...named]
        const full = reduceView(now, all)
        const patch = patchView(now, names, named)
        if (patch === null) refused += 1
        else {
          patched += 1
          assert.deepEqual(patch.view.members, full.view.members)
          assert.deepEqual(patch.view.foreign, full.view.foreign)
          const texts = (changes: readonly MemberChange[]): readonly string[] =>
            changes.map(each => JSON.stringify(each)).sort()
          assert.deepEqual(texts(patch.changes), texts(full.changes))
          for (const member of full.view.members) assert.deepEqual(memberOf(patch.view, member.peerId), member)
          assert.equal(reduceView(patch.view, all).view, patch.view, 'the next full list finds nothing new')
        }
        now = patch?.view ?? full.view
      }
    }
  )
  fc.assert(property, { numRuns: 1_000 })
  t.ok(patched > 500, `${patched} patched, ${refused} refused`)
  t.end()
})

t.test('any list of records gives a view', t => {
  const property = fc.property(fc.array(fc.oneof(anyRecord, fc.anything()), { maxLength: 10 }), records => {
    const { members, foreign } = view(...records)
    assert.equal(members.length + foreign.length, records.length)
  })
  fc.assert(property, { numRuns: 500 })
  t.pass()
  t.end()
})
