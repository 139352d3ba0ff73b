import t from 'tap'
import { digestOf, hashRows } from '#allocator/digest.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import type { LogIndex } from '#model/ids.ts'
import { attach, Caller, create, detach, register, remove, removeHost, update } from './fixtures.ts'

/** Applies the commands in order, then one more request, so that the remembered answers are the same. */
function grown(commands: readonly Command[]): ClusterState {
  const caller = new Caller()
  for (const command of commands) caller.do(command)
  caller.do(update('a'))
  return caller.state
}

const base: readonly Command[] = [
  register(1),
  register(2),
  create('a', { vni: 10, egressRate: 8_000 }),
  create('b', { vni: 20 }),
  attach('a', 'c1', { address: '10.1.0.5' }),
  attach('a', 'c2', { address: '10.1.0.6', host: 2 }),
  attach('b', 'c1', { address: '10.1.0.5', ifname: 'eth1' })
]

t.test('a digest is 16 hex digits', t => {
  for (const state of [new ClusterState(), grown(base)]) t.match(digestOf(state), /^[0-9a-f]{16}$/)
  t.end()
})

const sameEnd: readonly { what: string; commands: readonly Command[] }[] = [
  {
    what: 'the other way round',
    commands: [base[3], base[2], base[1], base[0], base[6], base[5], base[4]] as Command[]
  },
  {
    what: 'hosts last and first',
    commands: [base[1], base[2], base[0], base[4], base[3], base[5], base[6]] as Command[]
  }
]
for (const { what, commands } of sameEnd) {
  t.test(`the same state has the same digest: ${what}`, t => {
    t.equal(digestOf(grown(commands)), digestOf(grown(base)))
    t.end()
  })
}

t.test('what was created and deleted affects only the applied index and the cursors', t => {
  const there = [create('x', { vni: 30 }), attach('x', 'c9', { address: '10.1.0.9' }), register(3)]
  const back = [detach('c9'), remove('x'), removeHost('h3')]
  const forced = [removeHost('h3'), remove('x', true), update('b')]
  const idle = [update('a'), update('a'), update('a')]
  t.equal(digestOf(grown([...base, ...there, ...back])), digestOf(grown([...base, ...idle, ...idle])))
  t.equal(digestOf(grown([...base, ...there, ...forced])), digestOf(grown([...base, ...idle, ...idle])))
  t.end()
})

t.test('any single change alters the digest', t => {
  const last: Command[] = [
    update('a'),
    update('a', 9_000),
    update('b', 9_000),
    create('x', { vni: 30 }),
    create('x', { vni: 31 }),
    create('y', { vni: 30 }),
    create('x', { vni: 30, subnet: '10.1.0.0/25' }),
    create('x', { vni: 30, gateway: '10.1.0.9' }),
    create('x', { vni: 30, requestId: 'r' }),
    create('x'),
    remove('b', true),
    attach('a', 'x', { address: '10.1.0.9' }),
    attach('a', 'x', { address: '10.1.0.10' }),
    attach('a', 'x', { address: '10.1.0.9', host: 2 }),
    attach('a', 'x', { address: '10.1.0.9', ifname: 'eth1' }),
    attach('a', 'x', { address: '10.1.0.9', rate: 8_000 }),
    attach('a', 'x', { address: '10.1.0.9', mac: '02:aa:00:00:00:01' }),
    attach('b', 'x', { address: '10.1.0.9' }),
    attach('a', 'x'),
    detach('c1'),
    detach('c1', 'eth1'),
    detach('c2'),
    register(1, { bootId: 'boot-2' }),
    register(1, { vtep: '192.0.2.9' }),
    register(1, { name: 'x' }),
    register(3),
    removeHost('h1'),
    removeHost('h2')
  ]
  const digests = last.map(command => digestOf(grown([...base, command])))
  t.equal(new Set(digests).size, digests.length)
  t.end()
})

t.test('the digest covers cursors, which decide the next allocation', t => {
  const moved = [create('x', { vni: 30 }), attach('x', 'c9', { host: 1 }), detach('c9')]
  const still = [create('x', { vni: 30 }), attach('x', 'c9', { address: '10.1.0.2' }), detach('c9')]
  t.not(digestOf(grown([...base, ...moved])), digestOf(grown([...base, ...still])))
  t.not(
    digestOf(grown([...base, create('x', { vni: 4_096 }), remove('x')])),
    digestOf(grown([...base, create('x'), remove('x')]))
  )
  t.end()
})

t.test('the digest covers sessions and their order of use', t => {
  const open = (state: ClusterState, session: string): void => {
    const request = { session, seq: 0, settledBelow: 0, command: { kind: 'session-open' } as const }
    state.apply((state.appliedIndex + 1) as LogIndex, request)
  }
  const digests = [['s1'], ['s2'], ['s1', 's2'], ['s2', 's1'], ['s1', 's1'], ['s1', 's2', 's1']].map(ids => {
    const state = new ClusterState()
    for (const id of ids) open(state, id)
    while (state.appliedIndex < 3) state.skip((state.appliedIndex + 1) as LogIndex)
    return digestOf(state)
  })
  t.equal(new Set(digests).size, digests.length)
  t.end()
})

t.test('the sum of rows does not depend on their order', t => {
  t.same(hashRows(grown(base).tables), grown(sameEnd[0]?.commands ?? []).tables.hash.value)
  t.end()
})
