import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { SNAPSHOT_FORMAT, type PlainState } from '#allocator/plain-state.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import FIRST_JSON from './state-format-1.json' with { type: 'json' }
import { command, history } from './arbitraries.ts'
import { attach, Caller, create, detach, register, remove, removeHost, update } from './fixtures.ts'

function grown(commands: readonly Command[]): Caller {
  const caller = new Caller()
  for (const each of commands) caller.try(each)
  return caller
}

/** As the release before wrote it. */
const FIRST = FIRST_JSON as unknown as PlainState

const bytesOf = (state: ClusterState): Buffer => encodeMsgpack(encodeState(state))

/** Everything that a snapshot can hold: all kinds of rows and answers, and a session without answers. */
function rich(): ClusterState {
  const caller = Caller.ready()
  caller.send({ session: 'idle', seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  caller.send({ session: 'full', seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  const commands = [
    register(3),
    create('blue', { subnet: '10.0.0.0/8', vni: 7, requestId: 'r', egressRate: 1e9 }),
    attach('blue', 'c1', { mac: '02:aa:00:00:00:01', rate: 8_000, requestId: 'r' }),
    attach('red', 'c1', { ifname: 'eth1', host: 2 }),
    attach('red', 'c2', { host: 3 }),
    create('gone'),
    remove('gone'),
    detach('c9'),
    detach('c2'),
    update('red', 5_000_000),
    removeHost('h3')
  ]
  commands.forEach((each, at) => caller.send({ session: 'full', seq: at + 1, settledBelow: 0, command: each }))
  return caller.state
}

t.test('a restored state equals the original and continues like it', t => {
  const property = fc.property(history(60), fc.array(command, { maxLength: 30 }), (before, after) => {
    const caller = grown(before)
    const restored = decodeState(decodeMsgpack(bytesOf(caller.state)))
    assert.equal(digestOf(restored), digestOf(caller.state))
    assert.deepEqual(verify(restored), [])
    after.forEach((each, at) => {
      const request = { session: 's1', seq: 1_000 + at, settledBelow: 1_000 + at, command: each }
      const index = (caller.index + 1) as LogIndex
      assert.deepEqual(restored.apply(index, request), caller.state.apply(index, request))
      assert.equal(digestOf(restored), digestOf(caller.state))
    })
    assert.deepEqual(bytesOf(restored), bytesOf(caller.state))
  })
  fc.assert(property, { numRuns: 250 })
  t.pass()
  t.end()
})

t.test('remembered answers are restored: a retry after a restart gets its first answer', t => {
  const state = rich()
  const restored = decodeState(decodeMsgpack(bytesOf(state)))
  for (let seq = 1; seq <= 11; seq++) {
    const request = { session: 'full', seq, settledBelow: 0, command: detach('nobody') }
    const index = (state.appliedIndex + 1) as LogIndex
    t.same(restored.apply(index, request), state.apply(index, request))
  }
  t.equal(digestOf(restored), digestOf(state))
  t.end()
})

t.test('equal states have equal bytes, regardless of the order in which rows were created', t => {
  const made = [
    register(1),
    register(2),
    create('a', { vni: 10, subnet: '10.0.0.0/24' }),
    create('b', { vni: 20, subnet: '10.0.0.0/24' })
  ]
  const attached = [2, 3, 4, 5, 6].flatMap(n => [
    attach('a', `a${n}`, { address: `10.0.0.${n}` }),
    attach('b', `a${n}`, { address: `10.0.0.${n}`, ifname: 'eth1' })
  ])
  const [forward, ...others] = [
    [...made, ...attached],
    [...made.toReversed(), ...attached.toReversed()],
    [...made.toReversed(), ...attached.slice(4), ...attached.slice(0, 4)]
  ].map(commands => {
    const caller = grown(commands)
    // The same last request, since remembered answers are part of the state.
    caller.do(update('a'))
    return caller.state
  })
  if (forward === undefined) throw new Error('no state')
  t.equal(forward.endpointCount, 10)
  for (const other of others) {
    t.equal(digestOf(other), digestOf(forward))
    t.same(bytesOf(other), bytesOf(forward))
  }
  t.end()
})

t.test('the release before wrote format 1, which is read and has the same answers', t => {
  const state = decodeState(FIRST)
  t.same(verify(state), [])
  t.same({ ...encodeState(state), format: 1, digest: FIRST.digest }, FIRST, 'nothing but its digest is another')
  t.equal(digestOf(decodeState(encodeState(state))), digestOf(state))
  for (const [id, , , answers] of FIRST.sessions) {
    for (const [seq, outcome] of answers) {
      const request = { session: id, seq, settledBelow: 0, command: detach('nobody') }
      t.same(state.apply((state.appliedIndex + 1) as LogIndex, request), outcome)
    }
  }
  t.end()
})

t.test('an empty state can be restored', t => {
  const restored = decodeState(decodeMsgpack(bytesOf(new ClusterState())))
  t.equal(digestOf(restored), digestOf(new ClusterState()))
  t.end()
})

/** Either a typed error, or exactly the original state. */
function assertRefusedOrEqual(bytes: Uint8Array, digest: string): 'refused' | 'equal' {
  let value: unknown
  try {
    value = decodeMsgpack(bytes)
  } catch {
    return 'refused'
  }
  try {
    const state = decodeState(value)
    assert.equal(digestOf(state), digest)
    assert.deepEqual(verify(state), [])
    return 'equal'
  } catch (err) {
    assert.ok(err instanceof VxmeshError && err.code === 'ERR_STORAGE', String(err))
    return 'refused'
  }
}

t.test('a truncated snapshot is refused', t => {
  const state = rich()
  const [bytes, digest] = [bytesOf(state), digestOf(state)]
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(assertRefusedOrEqual(bytes.subarray(0, length), digest), 'refused', `${length} bytes`)
  }
  t.equal(assertRefusedOrEqual(bytes, digest), 'equal')
  t.end()
})

t.test('a snapshot with changed bytes is refused, or restores the same state', t => {
  const state = rich()
  const [bytes, digest] = [bytesOf(state), digestOf(state)]
  const before = process.memoryUsage().rss
  let refused = 0
  for (let at = 0; at < bytes.length; at++) {
    for (const flip of [0x01, 0xff]) {
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] ?? 0) ^ flip
      if (assertRefusedOrEqual(changed, digest) === 'refused') refused += 1
    }
  }
  const place = fc.nat(bytes.length - 1)
  const property = fc.property(fc.array(fc.tuple(place, fc.nat(255)), { minLength: 2, maxLength: 20 }), changes => {
    const changed = Buffer.from(bytes)
    for (const [at, value] of changes) changed[at] = value
    assertRefusedOrEqual(changed, digest)
  })
  fc.assert(property, { numRuns: 3_000 })
  t.ok(refused > bytes.length)
  t.ok(process.memoryUsage().rss - before < 256 * 2 ** 20, 'and cost no memory')
  t.end()
})

/** Without the last answer of its first session that has answers. */
function withoutLastAnswer(state: PlainState): PlainState {
  const at = state.sessions.findIndex(([, , , answers]) => answers.length > 0)
  const sessions = state.sessions.map((one, n) => (n === at ? one.with(3, one[3].slice(0, -1)) : one))
  return { ...state, sessions: sessions as unknown as PlainState['sessions'] }
}

const sound = encodeState(rich())
const [host1, host2] = sound.hosts
const [blue, red] = sound.networks
const session = sound.sessions[0]
if (!host1 || !host2 || !blue || !red || !session) throw new Error('the state is not rich')
const endpoint = red.endpoints[0]
if (!endpoint) throw new Error('the state is not rich')
const [idle, lastUsed] = session

const hostile: readonly { what: string; value: unknown }[] = [
  { what: 'nothing', value: null },
  { what: 'a text', value: 'snapshot' },
  { what: 'an empty object', value: {} },
  { what: 'a format of the future', value: { ...sound, format: SNAPSHOT_FORMAT + 1 } },
  { what: 'a format that is no number', value: { ...sound, format: 'constructor' } },
  { what: 'the digest of another format', value: { ...sound, format: 1 } },
  { what: 'an altered row of an earlier format', value: { ...FIRST, vniCursor: FIRST.vniCursor + 1 } },
  { what: 'an altered answer of an earlier format', value: withoutLastAnswer(FIRST) },
  { what: 'no format', value: { ...sound, format: undefined } },
  { what: 'no digest', value: { ...sound, digest: undefined } },
  { what: 'the digest of another state', value: { ...sound, digest: '0'.repeat(16) } },
  { what: 'a missing host', value: { ...sound, hosts: [host1] } },
  { what: 'a host twice', value: { ...sound, hosts: [host1, host1, host2] } },
  { what: 'hosts that are not a list', value: { ...sound, hosts: 7 } },
  { what: 'a host that is not a list', value: { ...sound, hosts: [7] } },
  { what: 'an applied index below zero', value: { ...sound, appliedIndex: -1 } },
  { what: 'an applied index that is not a number', value: { ...sound, appliedIndex: '5' } },
  { what: 'an applied index lower than the last use of a session', value: { ...sound, appliedIndex: 3 } },
  { what: 'a VNI cursor below the automatic ones', value: { ...sound, vniCursor: 1 } },
  { what: 'a VNI cursor that is not a number', value: { ...sound, vniCursor: null } },
  { what: 'a network twice', value: { ...sound, networks: [blue, red, red] } },
  { what: 'a missing network', value: { ...sound, networks: [red] } },
  { what: 'VNI 0', value: { ...sound, networks: [blue, { ...red, vni: 0 }] } },
  { what: 'a VNI twice', value: { ...sound, networks: [blue, { ...red, vni: 7 }] } },
  { what: 'a gateway outside', value: { ...sound, networks: [blue, { ...red, gateway: 1 }] } },
  { what: 'a cursor outside', value: { ...sound, networks: [blue, { ...red, cursor: 0 }] } },
  { what: 'a subnet of /40', value: { ...sound, networks: [blue, { ...red, subnet: [red.subnet[0], 40] }] } },
  { what: 'endpoints of text', value: { ...sound, networks: [blue, { ...red, endpoints: 'abc' }] } },
  { what: 'no endpoints, as a text', value: { ...sound, networks: [blue, { ...red, endpoints: '' }] } },
  { what: 'an endpoint twice', value: { ...sound, networks: [blue, { ...red, endpoints: [endpoint, endpoint] }] } },
  {
    what: 'an endpoint on an unknown host',
    value: { ...sound, networks: [blue, { ...red, endpoints: [endpoint.with(5, 9)] }] }
  },
  {
    what: 'an endpoint on host -1',
    value: { ...sound, networks: [blue, { ...red, endpoints: [endpoint.with(5, -1)] }] }
  },
  {
    what: 'an endpoint outside its subnet',
    value: { ...sound, networks: [blue, { ...red, endpoints: [endpoint.with(0, 5)] }] }
  },
  {
    what: 'an endpoint with the address of the gateway',
    value: { ...sound, networks: [blue, { ...red, endpoints: [endpoint.with(0, red.gateway)] }] }
  },
  { what: 'a session twice', value: { ...sound, sessions: [session, session] } },
  { what: 'a missing session', value: { ...sound, sessions: sound.sessions.slice(1) } },
  { what: 'a session without an id', value: { ...sound, sessions: [[7, lastUsed, 1, []]] } },
  { what: 'an answer of seq 0.5', value: { ...sound, sessions: [[idle, lastUsed, 1, [[0.5, { ok: true }]]]] } },
  { what: 'a malformed answer', value: { ...sound, sessions: [[idle, lastUsed, 1, [[5, { ok: 1 }]]]] } }
]
for (const { what, value } of hostile) {
  t.test(`refused with ERR_STORAGE: ${what}`, t => {
    t.throws(() => decodeState(value), { code: 'ERR_STORAGE', message: /the snapshot cannot be used: / })
    t.end()
  })
}

t.test('the snapshot that these cases modify is valid', t => {
  t.equal(digestOf(decodeState(sound)), digestOf(rich()))
  t.end()
})
