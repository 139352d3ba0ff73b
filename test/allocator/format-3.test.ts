// A cluster that was not raised has the same answers, digests and snapshots as the release before, byte for byte: in it, hosts
// of that release run beside those of this one. state-format-3.json is what that release wrote after these commands.

import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { StateBuilder } from '#allocator/state-builder.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { StateSection } from '#allocator/state-sections.ts'
import type { Command } from '#model/command.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import THIRD_JSON from './state-format-3.json' with { type: 'json' }
import { attach, Caller, create, detach, map, open, register, remove, removeHost, unmap, update } from './fixtures.ts'

const access = (command: ReturnType<typeof create>): Command => ({ ...command, hostAccess: true })

/** With each kind of row and each refusal. */
const BEFORE: readonly Command[] = [
  register(1),
  register(2, { version: '0.2.0' }),
  register(3),
  register(4, { name: 'h1' }),
  register(4, { vtep: '192.0.2.2' }),
  create('red'),
  create('blue', { subnet: '10.0.0.0/8', vni: 7, requestId: 'r', egressRate: 1e9 }),
  create('blue', { requestId: 'r' }),
  create('blue', { requestId: 'q' }),
  create('low', { gateway: '10.1.0.0' }),
  create('same', { vni: 7 }),
  create('tiny', { subnet: '10.3.0.0/29' }),
  access(create('open', { subnet: '10.4.0.0/24' })),
  access(create('within', { subnet: '10.4.0.128/25' })),
  attach('red', 'c1'),
  attach('red', 'c1', { address: '10.1.0.9' }),
  attach('red', 'c2', { host: 2, mac: '02:aa:00:00:00:02', rate: 8_000, requestId: 'r' }),
  attach('red', 'c3', { address: '10.1.0.200' }),
  attach('red', 'x', { address: '10.1.0.200' }),
  attach('red', 'x', { address: '10.1.0.1' }),
  attach('red', 'x', { address: '10.1.0.0' }),
  attach('red', 'x', { address: '10.9.0.1' }),
  attach('red', 'x', { mac: '02:aa:00:00:00:02' }),
  attach('red', 'x', { mac: '02:00:0a:01:00:01' }),
  attach('red', 'x', { mac: '06:76:78:00:00:01' }),
  attach('red', 'x', { host: 9 }),
  attach('none', 'x'),
  attach('tiny', 't2', { mac: '02:01:0a:03:00:05' }),
  attach('tiny', 't3'),
  attach('tiny', 't4'),
  attach('tiny', 't5'),
  attach('tiny', 't6'),
  attach('tiny', 't6', { mac: '02:aa:00:00:00:06' }),
  attach('tiny', 't7'),
  detach('t3'),
  detach('nobody'),
  attach('blue', 'gone', { host: 3 }),
  update('red', 5_000_000),
  update('none', 1),
  map('x', 'red', 'blue', 'open'),
  map('y', 'none'),
  unmap('y'),
  open('z'),
  open('z'),
  open('full', '10.4.0.0/24', 24),
  remove('none'),
  remove('tiny'),
  remove('open'),
  removeHost('h3'),
  removeHost('h9'),
  {
    kind: 'endpoint-update',
    containerId: attach('red', 'c1').containerId,
    ifname: attach('red', 'c1').ifname,
    delayUs: 5
  }
]

function played(): ClusterState {
  const caller = new Caller()
  caller.send({ session: 'h/full', seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  BEFORE.forEach((command, at) => {
    caller.send({ session: 'h/full', seq: at + 1, settledBelow: 0, rules: 4, command })
  })
  return caller.state
}

function sectionsOf(state: ClusterState): StateSection[] {
  const cursor = new StateCursor(state, 5)
  const sections: StateSection[] = []
  for (let section = cursor.next(); section !== null; section = cursor.next()) sections.push(section)
  return sections
}

function restored(sections: readonly unknown[]): ClusterState {
  const builder = new StateBuilder()
  for (const section of sections) builder.add(section)
  return builder.finish()
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
const THIRD = THIRD_JSON as readonly unknown[]

t.test('before the rules are raised, a snapshot has the bytes that the release before wrote', t => {
  const state = played()
  t.same(verify(state), [])
  t.same(plain(sectionsOf(state)), THIRD)
  t.equal(
    Buffer.compare(encodeMsgpack(plain(sectionsOf(state))), encodeMsgpack(THIRD)),
    0,
    'also in the order of fields'
  )
  t.end()
})

t.test('what the release before wrote is read, has the same digest and is written again as it was', t => {
  const state = restored(THIRD)
  t.equal(digestOf(state), digestOf(played()))
  t.equal(state.rules, 4)
  t.same(verify(state), [])
  t.same(plain(sectionsOf(state)), THIRD)
  t.end()
})

t.test('while one host is old, snapshots keep their form', t => {
  const caller = new Caller(restored(THIRD), 'h/late')
  caller.do(register(5, { version: '0.2.0' }))
  t.match(sectionsOf(caller.state)[0], ['head', { format: 3 }])
  t.notMatch(sectionsOf(caller.state)[0], ['head', { rules: 4 }])
  t.end()
})

t.test('once they are raised, snapshots have format 4 and say so, and the digest covers the rules', t => {
  const caller = new Caller(restored(THIRD), 'h/late')
  caller.do(register(1, { version: '0.2.0' }))
  const [head] = sectionsOf(caller.state)
  t.match(head, ['head', { format: 4, rules: 5 }])
  const copy = restored(plain(sectionsOf(caller.state)) as readonly unknown[])
  t.equal(copy.rules, 5)
  t.equal(digestOf(copy), digestOf(caller.state))
  caller.state.tables.rules = 4
  t.not(digestOf(copy), digestOf(caller.state))
  t.end()
})
