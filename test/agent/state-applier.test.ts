// Entries applied through the agent's state machine: which networks a reconcile pass is asked for, and which events appear.

import t from 'tap'
import { StateApplier } from '#agent/state-applier.ts'
import { digestOf } from '#allocator/digest.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command, Outcome } from '#model/command.ts'
import type { UntimedEvent } from '#model/event.ts'
import type { LogIndex, Vni } from '#model/ids.ts'
import { attach, create, detach, makeHost, register, removeHost, update } from '#test/allocator/fixtures.ts'
import { sections } from '../replication/snapshots.ts'

type World = {
  readonly state: ClusterState
  readonly applier: StateApplier
  /** Networks of each request for a pass; null for all. */
  readonly passes: (readonly Vni[] | 'peers' | null)[]
  readonly events: { readonly kind: 'new' | 'past' | undefined; readonly event: UntimedEvent | null }[]
  readonly noted: number[]
  readonly reached: number[]
  current: boolean
  run(command: Command): Outcome
}

/** This host is h1; h1, h2 and network red (VNI 4096) exist. */
function world(): World {
  const state = new ClusterState()
  const own = { state, passes: [], events: [], noted: [], reached: [], current: true } as unknown as World
  const applier = new StateApplier({
    self: makeHost(1).peerId,
    state,
    directory: { nameOf: peer => `name of ${peer.slice(-1)}` },
    vteps: () => [],
    events: { publish: (describe, kind) => void own.events.push({ kind, event: describe?.() ?? null }) },
    digests: { applied: index => void own.noted.push(index), heard: () => undefined, latest: () => [] },
    current: () => own.current,
    changed: networks => void own.passes.push(networks === undefined ? null : [...networks]),
    peersChanged: () => void own.passes.push('peers'),
    reached: index => void own.reached.push(index)
  })
  let seq = 0
  const next = (): LogIndex => (state.appliedIndex + 1) as LogIndex
  const run = (command: Command): Outcome =>
    applier.apply(next(), { session: 's1', seq: seq++, settledBelow: seq, command })
  run({ kind: 'session-open' })
  for (const command of [register(1), register(2), create('red')]) run(command)
  for (const list of [own.passes, own.events, own.noted]) list.splice(0)
  return Object.assign(own, { applier, run })
}

t.test('a pass is asked for the networks of this host that a range of entries affects, once each', t => {
  const own = world()
  own.run(attach('red', 'web'))
  own.run(attach('red', 'db', { host: 2 }))
  t.same(own.passes, [], 'not before the range is applied')
  own.applier.applied(own.state.appliedIndex)
  t.same([own.passes, own.reached], [[[4096]], [own.state.appliedIndex]])
  own.applier.applied(own.state.appliedIndex)
  t.same(own.passes.at(-1), [], 'each range begins anew')
  t.end()
})

t.test('a network whose last endpoint here goes is affected, one without endpoints here is not', t => {
  const own = world()
  own.run(attach('red', 'web'))
  own.applier.applied(own.state.appliedIndex)
  own.run(detach('web'))
  own.applier.applied(own.state.appliedIndex)
  own.run(attach('red', 'db', { host: 2 }))
  own.run(update('red', 8_000))
  own.applier.applied(own.state.appliedIndex)
  t.same(own.passes, [[4096], [4096], []])
  t.end()
})

t.test('a host that comes or goes affects the peers, and only networks that it shares with this host', t => {
  const own = world()
  own.run(create('blue'))
  for (const [network, container, host] of [
    ['red', 'here', 1],
    ['red', 'there', 2],
    ['blue', 'far', 2]
  ] as const) {
    own.run(attach(network, container, { host }))
  }
  own.applier.applied(own.state.appliedIndex)
  own.passes.splice(0)
  own.run(register(3))
  own.run(register(3))
  own.run(removeHost('h3'))
  own.applier.applied(own.state.appliedIndex)
  t.same(own.passes, ['peers', 'peers', []], 'a host without containers; registered again it is the same')
  own.run(removeHost('h2'))
  own.applier.applied(own.state.appliedIndex)
  t.same(own.passes.slice(3), ['peers', [4096]])
  t.end()
})

t.test('each change is one event, new or replayed; a refusal is none', t => {
  const own = world()
  own.run(attach('red', 'web'))
  own.current = false
  own.run(detach('web'))
  own.run(detach('web'))
  t.match(own.events, [
    {
      kind: 'new',
      event: { kind: 'endpoint-attached', endpoint: { host: `name of ${makeHost(1).peerId.slice(-1)}` } }
    },
    { kind: 'past', event: { kind: 'endpoint-detached' } },
    { kind: 'past', event: null }
  ])
  t.end()
})

t.test('the digest check sees every index, also of entries without a command', t => {
  const own = world()
  const from = own.state.appliedIndex
  own.run(attach('red', 'web'))
  own.applier.skip((from + 2) as LogIndex)
  own.run(attach('none', 'web'))
  t.same(own.noted, [from + 1, from + 2, from + 3])
  t.throws(() => own.applier.skip((from + 9) as LogIndex), /applying index/)
  t.equal(own.noted.length, 3)
  t.end()
})

t.test('a snapshot restores the same state elsewhere, and asks for a pass over everything', async t => {
  const [from, to] = [world(), world()]
  from.run(attach('red', 'web'))
  const prepared = await to.applier.prepare(from.applier.snapshot())
  t.same(to.passes, [], 'nothing changes before it is adopted')
  prepared.adopt()
  t.equal(digestOf(to.state), digestOf(from.state))
  t.same(to.passes, [null])
})

t.test('bytes that encode no state are refused, and the state is unchanged', async t => {
  const own = world()
  const before = digestOf(own.state)
  for (const bytes of [Buffer.alloc(0), Buffer.from('garbage'), Buffer.from([0xc0])]) {
    await t.rejects(own.applier.prepare(sections(bytes)), { code: 'ERR_STORAGE' })
  }
  await t.rejects(own.applier.prepare(sections()), { code: 'ERR_STORAGE' })
  t.same([digestOf(own.state), own.passes], [before, []])
})
