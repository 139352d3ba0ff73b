import assert from 'node:assert/strict'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { SNAPSHOT_FORMAT, type PlainState } from '#allocator/plain-state.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { FIRST_RULES, RULES, type Command } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import FIRST_JSON from './state-format-1.json' with { type: 'json' }
import { lives } from './arbitraries.ts'
import { addSubnet, attach, Caller, create, detach, register, remove, removeHost, update } from './fixtures.ts'

function grown(commands: readonly Command[], rules = FIRST_RULES): Caller {
  const caller = new Caller()
  caller.rules = rules
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

/** The same in both families, of a cluster whose rules were raised. */
function rich6(): ClusterState {
  const caller = Caller.raised()
  caller.send({ session: 'full', seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  const commands = [
    create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64', requestId: 'r' }),
    create('six', { subnet: 'fd00:6::/64', gateway: 'fd00:6::1:0:0:1' }),
    attach('both', 'b2'),
    attach('both', 'b3', { host: 2, address6: 'fd00:2::77', requestId: 'r' }),
    attach('six', 's1'),
    attach('six', 's2', { address: 'fd00:6::1:0:0:5', rate: 8_000 }),
    attach('six', 'x', { address: '10.0.0.1' }),
    addSubnet('red', 'fd00:1::/64'),
    attach('both', 'gone', { address6: 'fd00:2::99' }),
    detach('gone'),
    register(2, { version: '0.1.0' })
  ]
  commands.forEach((each, at) =>
    caller.send({ session: 'full', seq: at + 1, settledBelow: 0, rules: RULES, command: each })
  )
  return caller.state
}

t.test('a restored state equals the original and continues like it', t => {
  const property = fc.property(lives(60), ({ rules, before, after }) => {
    const caller = grown(before, rules)
    const restored = decodeState(decodeMsgpack(bytesOf(caller.state)))
    assert.equal(digestOf(restored), digestOf(caller.state))
    assert.deepEqual(verify(restored), [])
    after.forEach((each, at) => {
      const request = { session: 's1', seq: 1_000 + at, settledBelow: 1_000 + at, rules, command: each }
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

for (const [what, state] of [
  ['IPv4', rich()],
  ['both families', rich6()]
] as const) {
  t.test(`remembered answers are restored, with ${what}: a retry after a restart gets its first answer`, t => {
    const restored = decodeState(decodeMsgpack(bytesOf(state)))
    t.same(verify(restored), [])
    for (let seq = 1; seq <= 12; seq++) {
      const request = { session: 'full', seq, settledBelow: 0, command: detach('nobody') }
      const index = (state.appliedIndex + 1) as LogIndex
      t.same(restored.apply(index, request), state.apply(index, request))
    }
    t.equal(digestOf(restored), digestOf(state))
    t.end()
  })
}

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
  const state = rich6()
  const [bytes, digest] = [bytesOf(state), digestOf(state)]
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(assertRefusedOrEqual(bytes.subarray(0, length), digest), 'refused', `${length} bytes`)
  }
  t.equal(assertRefusedOrEqual(bytes, digest), 'equal')
  t.end()
})

for (const [what, state] of [
  ['IPv4', rich()],
  ['both families', rich6()]
] as const) {
  t.test(`a snapshot of ${what} with changed bytes is refused, or restores the same state`, t => fuzz(t, state))
}

function fuzz(t: Test, state: ClusterState): void {
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
  fc.assert(property, { numRuns: 1_500 })
  t.ok(refused > bytes.length)
  t.ok(process.memoryUsage().rss - before < 256 * 2 ** 20, 'and cost no memory')
  t.end()
}

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

const sound6 = encodeState(rich6())
const [red6, both, six] = sound6.networks
const [mirrored, chosen] = both?.endpoints ?? []
const [near] = six?.endpoints ?? []
if (!red6 || !both || !six || !mirrored || !chosen || !near) throw new Error('the state is not rich')
const networks6 = (change: { both?: object; six?: object }): unknown => ({
  ...sound6,
  networks: [red6, { ...both, ...change.both }, { ...six, ...change.six }]
})

const hostile6: readonly { what: string; value: unknown }[] = [
  { what: 'no rules', value: { ...sound6, rules: undefined } },
  { what: 'rules that this version does not know', value: { ...sound6, rules: RULES + 1 } },
  { what: 'rules that are no whole number', value: { ...sound6, rules: RULES + 0.5 } },
  { what: 'rules of a cluster that was not raised', value: { ...sound6, rules: 4 } },
  { what: 'rules as text', value: { ...sound6, rules: '5' } },
  { what: 'rules of null', value: { ...sound6, rules: null } },
  { what: 'an IPv4 address in an IPv6 network', value: networks6({ six: { endpoints: [near.with(0, 0x0a000005)] } }) },
  { what: 'a malformed IPv6 address', value: networks6({ six: { endpoints: [near.with(0, 'fd00:6::g')] } }) },
  { what: 'an IPv6 address outside', value: networks6({ six: { endpoints: [near.with(0, 'fd00:7::5')] } }) },
  { what: 'the IPv6 network address', value: networks6({ six: { endpoints: [near.with(0, 'fd00:6::')] } }) },
  {
    what: 'an IPv6 address in an IPv4 subnet',
    value: networks6({ both: { endpoints: [mirrored.with(0, 'fd00:2::2')] } })
  },
  { what: 'a second address outside', value: networks6({ both: { endpoints: [chosen.with(10, 'fd00:3::77')] } }) },
  { what: 'a malformed second address', value: networks6({ both: { endpoints: [chosen.with(10, 'fd00')] } }) },
  { what: 'a second address in an IPv6 network', value: networks6({ six: { endpoints: [[...near, 'fd00:6::9']] } }) },
  {
    what: 'the mirror of another endpoint as a second address',
    value: networks6({ both: { endpoints: [mirrored, chosen.with(10, 'fd00:2::2')] } })
  },
  {
    what: 'the same with that endpoint after it',
    value: networks6({ both: { endpoints: [chosen.with(10, 'fd00:2::2'), mirrored] } })
  },
  {
    what: 'another second address',
    value: networks6({ both: { endpoints: [mirrored, chosen.with(10, 'fd00:2::78')] } })
  },
  {
    what: 'an address beyond the pool twice',
    value: networks6({ six: { endpoints: [...six.endpoints, six.endpoints[1]] } })
  },
  { what: 'a second subnet too small for mirrors', value: networks6({ both: { subnet6: ['fd00:2::', 121] } }) },
  { what: 'a second subnet of IPv4', value: networks6({ both: { subnet6: [0x0a030000, 24] } }) },
  { what: 'a second subnet of an IPv6 network', value: networks6({ six: { subnet6: ['fd00:8::', 64] } }) },
  { what: 'no second subnet', value: networks6({ both: { subnet6: undefined } }) },
  { what: 'another second subnet', value: networks6({ both: { subnet6: ['fd00:3::', 64] } }) },
  { what: 'another MAC of the gateway', value: networks6({ both: { wasIpv6: true } }) },
  { what: 'another MAC of the only gateway', value: networks6({ six: { wasIpv6: true } }) },
  { what: 'a number for whether it was of IPv6', value: networks6({ both: { wasIpv6: 1 } }) },
  { what: 'an IPv6 gateway of an IPv4 subnet', value: networks6({ both: { gateway: 'fd00:2::1' } }) },
  { what: 'an IPv4 gateway of an IPv6 subnet', value: networks6({ six: { gateway: 0x0a000001 } }) },
  { what: 'an IPv6 cursor outside', value: networks6({ six: { cursor: 2 ** 24 } }) },
  { what: 'an IPv6 subnet of /127', value: networks6({ six: { subnet: ['fd00:6::', 127] } }) }
]

t.test('the snapshot in both families that these cases modify is valid', t => {
  t.equal(digestOf(decodeState(sound6)), digestOf(rich6()))
  t.same(verify(decodeState(sound6)), [])
  t.end()
})

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
for (const { what, value } of [...hostile, ...hostile6]) {
  t.test(`refused with ERR_STORAGE: ${what}`, t => {
    t.throws(() => decodeState(value), { code: 'ERR_STORAGE', message: /the snapshot cannot be used: / })
    t.end()
  })
}

t.test('the snapshot that these cases modify is valid', t => {
  t.equal(digestOf(decodeState(sound)), digestOf(rich()))
  t.end()
})
