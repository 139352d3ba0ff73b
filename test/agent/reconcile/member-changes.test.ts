import t from 'tap'
import { affectsOverlay, affectsPeers } from '#agent/reconcile/member-changes.ts'
import { EMPTY_VIEW, reduceView } from '#membership/view/view.ts'
import { record } from '../../membership/fixtures.ts'

/** Does the overlay depend on the difference between these two records of one member? */
function affects(before: readonly object[], after: readonly object[]): boolean {
  const { changes } = reduceView(reduceView(EMPTY_VIEW, before).view, after)
  t.equal(changes.length, 1, 'one change')
  return changes.some(affectsOverlay)
}

t.test('the overlay depends on status, VTEP and address, and on members that appear or vanish', t => {
  for (const [what, before, after] of [
    ['appeared', [], [record(1)]],
    ['vanished', [record(1)], []],
    ['status', [record(1)], [record(1, { Status: 'failed' })]],
    ['VTEP', [record(1)], [record(1, { Tags: { vtep: '192.0.2.9' } })]],
    ['address', [record(1)], [record(1, { Addr: Uint8Array.from([192, 0, 2, 9]) })]]
  ] as const) {
    t.equal(affects(before, after), true, what)
  }
  t.end()
})

t.test('the set of peers depends on the address, on leaves, and on members that appear or vanish', t => {
  const left = record(1, { Status: 'left' })
  for (const [what, before, after, expected] of [
    ['appeared', [], [record(1)], true],
    ['vanished', [record(1)], [], true],
    ['address', [record(1)], [record(1, { Addr: Uint8Array.from([192, 0, 2, 9]) })], true],
    ['left', [record(1)], [left], true],
    ['returned', [left], [record(1)], true],
    ['failed', [record(1)], [record(1, { Status: 'failed' })], false],
    ['leaving', [record(1)], [record(1, { Status: 'leaving' })], false]
  ] as const) {
    const { changes } = reduceView(reduceView(EMPTY_VIEW, before).view, after)
    t.equal(changes.some(affectsPeers), expected, what)
  }
  t.end()
})

t.test('the overlay does not depend on the other tags of a member', t => {
  for (const [what, change] of [
    ['cluster', { Tags: { cluster: 'f'.repeat(16) } }],
    ['seed', { Tags: { seed: 'f'.repeat(16) } }],
    ['role', { Tags: { role: 'client' } }],
    ['libp2p port', { Tags: { p2p: '7999' } }],
    ['expected servers', { Tags: { expect: '5' } }],
    ['Serf port', { Port: 7_999 }]
  ] as const) {
    t.equal(affects([record(1)], [record(1, change)]), false, what)
  }
  t.end()
})
