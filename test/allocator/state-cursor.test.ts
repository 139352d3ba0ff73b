import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { encodeState } from '#allocator/snapshot.ts'
import { StateBuilder } from '#allocator/state-builder.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { StateSection } from '#allocator/state-sections.ts'
import { RULES, type Command } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { lives } from './arbitraries.ts'
import { addSubnet, attach, Caller, create, detach, NEW, register, remove, removeHost, update } from './fixtures.ts'

type EndpointName = Pick<Endpoint, 'containerId' | 'ifname'>

function grown(commands: readonly Command[], rules: number): Caller {
  const caller = new Caller()
  caller.rules = rules
  for (const each of commands) caller.try(each)
  return caller
}

function rest(cursor: StateCursor): StateSection[] {
  const sections: StateSection[] = []
  for (let section = cursor.next(); section !== null; section = cursor.next()) sections.push(section)
  return sections
}

/** As another host gets them. */
function restored(sections: readonly unknown[]): ClusterState {
  const builder = new StateBuilder()
  for (const section of sections) builder.add(JSON.parse(JSON.stringify(section)))
  return builder.finish()
}

t.test('read in slices with any changes in between, a state is as it was at the beginning', t => {
  const counts = fc.array(fc.nat(2), { minLength: 60, maxLength: 60 })
  const property = fc.property(lives(60), counts, fc.integer({ min: 1, max: 6 }), (life, counts, rows) => {
    const caller = grown(life.before, life.rules)
    const expected = encodeState(caller.state)
    const atOnce = rest(new StateCursor(caller.state, rows))
    const cursor = new StateCursor(caller.state, rows)
    const sections: StateSection[] = []
    for (const [at, change] of life.after.entries()) {
      caller.try(change)
      for (let n = 0; n < (counts[at] ?? 0); n++) {
        const section = cursor.next()
        if (section !== null) sections.push(section)
      }
    }
    sections.push(...rest(cursor))
    assert.deepEqual(sections, atOnce)
    const copy = restored(sections)
    assert.deepEqual(encodeState(copy), expected)
    assert.deepEqual(verify(copy), [])
    assert.equal(caller.state.tables.watchers.size, 0)
  })
  fc.assert(property, { numRuns: 400 })
  t.pass()
  t.end()
})

/** One network with endpoints c0 to c9 at .2 to .11, read up to the fifth of them. */
function halfway(): { readonly caller: Caller; readonly cursor: StateCursor; readonly sections: StateSection[] } {
  const caller = Caller.ready()
  for (let n = 0; n < 10; n++) caller.do(attach('red', `c${n}`))
  const cursor = new StateCursor(caller.state, 1)
  const sections: StateSection[] = []
  for (let section = cursor.next(); section !== null; section = cursor.next()) {
    sections.push(section)
    if (JSON.stringify(section).includes('"c4"')) break
  }
  return { caller, cursor, sections }
}

const CHANGES: Readonly<Record<string, readonly Command[]>> = {
  'an endpoint that was passed is released': [detach('c1')],
  'an endpoint ahead is released': [detach('c8')],
  'all endpoints ahead are released': ['c5', 'c6', 'c7', 'c8', 'c9'].map(id => detach(id)),
  'an address ahead goes to another container': [detach('c8'), attach('red', 'new', { address: '10.1.0.10' })],
  'an address ahead is taken and released': [attach('red', 'new'), detach('new')],
  'the network’s row changes': [update('red', 5_000_000)],
  'the network is deleted': [remove('red', true)],
  'the network is deleted and made again': [remove('red', true), create('red'), attach('red', 'c7')],
  'another network appears': [create('blue', { subnet: '10.9.0.0/24' }), attach('blue', 'b1')],
  'the host is removed with all of them': [removeHost('h1')]
}
for (const [what, commands] of Object.entries(CHANGES)) {
  t.test(`halfway through a network, ${what}`, t => {
    const { caller, cursor, sections } = halfway()
    const before = encodeState(caller.state)
    for (const each of commands) caller.try(each)
    t.not(JSON.stringify(encodeState(caller.state)), JSON.stringify(before), 'positive control')
    assert.deepEqual(encodeState(restored([...sections, ...rest(cursor)])), before)
    t.end()
  })
}

/**
 * A network of IPv6 with endpoints far0 to far3 beyond its pool, which are passed first, and c0 to c9; and one of both
 * families with d0, and d1, whose second address was chosen. Read up to an endpoint of the first.
 */
function halfway6(upTo: string): ReturnType<typeof halfway> {
  const caller = Caller.raised()
  caller.do(remove('red'))
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  for (let n = 0; n < 4; n++) caller.do(attach('six', `far${n}`, { address: `fd00:6::1:0:0:${n + 20}` }))
  for (let n = 0; n < 10; n++) caller.do(attach('six', `c${n}`))
  caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  caller.do(attach('both', 'd0'))
  caller.do(attach('both', 'd1', { address6: 'fd00:2::77' }))
  caller.do(create('plain', { subnet: '10.3.0.0/24' }))
  caller.do(attach('plain', 'e0'))
  const cursor = new StateCursor(caller.state, 1)
  const sections: StateSection[] = []
  for (let section = cursor.next(); section !== null; section = cursor.next()) {
    sections.push(section)
    if (JSON.stringify(section).includes(`"${upTo}"`)) break
  }
  return { caller, cursor, sections }
}

const CHANGES6: Readonly<Record<string, readonly Command[]>> = {
  'an address beyond the pool is released': [detach('far1')],
  'all of them are': ['far0', 'far1', 'far2', 'far3'].map(id => detach(id)),
  'another address beyond the pool is taken': [attach('six', 'new', { address: 'fd00:6::1:0:0:99' })],
  'one of them goes to another container': [detach('far3'), attach('six', 'new', { address: 'fd00:6::1:0:0:23' })],
  'a row beyond the pool changes': [
    { kind: 'endpoint-update', ...keyOf(attach('six', 'far2')), delayUs: 7 },
    { kind: 'endpoint-update', ...keyOf(attach('six', 'c8')), delayUs: 7 }
  ],
  'an address of the pool goes to another container': [detach('c8'), attach('six', 'new', { address: 'fd00:6::a' })],
  'the network is deleted and made again': [
    remove('six', true),
    create('six', { subnet: 'fd00:6::/64' }),
    attach('six', 'c7', { address: 'fd00:6::1:0:0:20' })
  ],
  'a network ahead gets a second subnet and uses it': [
    addSubnet('plain', 'fd00:3::/64'),
    attach('plain', 'e1', { address6: 'fd00:3::99' }),
    { kind: 'endpoint-update', ...keyOf(attach('plain', 'e0')), delayUs: 7 }
  ],
  'a network of IPv6 gets an IPv4 subnet and uses it': [
    ...['far0', 'far1', 'far2', 'far3', 'c8'].map(id => detach(id)),
    addSubnet('six', '10.6.0.0/24'),
    attach('six', 'new', { address: '10.6.0.10' }),
    attach('six', 'e2', { address6: 'fd00:6::1:0:0:20' }),
    { kind: 'endpoint-update', ...keyOf(attach('six', 'c9')), delayUs: 7 },
    detach('c0')
  ],
  'one gets an IPv4 subnet and is deleted': [
    ...['far0', 'far1', 'far2', 'far3'].map(id => detach(id)),
    addSubnet('six', '10.6.0.0/24'),
    remove('six', true)
  ],
  'chosen second addresses ahead are released and chosen again': [
    detach('d1'),
    attach('both', 'd9', { address6: 'fd00:2::77' })
  ],
  'the host is removed with all of them': [removeHost('h1')]
}
for (const upTo of ['h1', 'far1', 'c4', 'd0']) {
  for (const [what, commands] of Object.entries(CHANGES6)) {
    t.test(`in both families, read up to ${upTo}: ${what}`, t => {
      const { caller, cursor, sections } = halfway6(upTo)
      const before = encodeState(caller.state)
      for (const each of commands) caller.do(each)
      t.not(JSON.stringify(encodeState(caller.state)), JSON.stringify(before), 'positive control')
      assert.deepEqual(verify(caller.state), [])
      const copy = restored([...sections, ...rest(cursor)])
      assert.deepEqual(encodeState(copy), before)
      assert.deepEqual(verify(copy), [])
      t.end()
    })
  }
}

t.test('rules that are raised meanwhile are not in the snapshot, nor is what needs them', t => {
  const caller = Caller.ready()
  caller.rules = RULES
  caller.do(attach('red', 'c1'))
  const cursor = new StateCursor(caller.state, 1)
  const before = encodeState(caller.state)
  const sections = [cursor.next()]
  for (const n of [1, 2]) caller.do(register(n, { version: NEW }))
  caller.do(addSubnet('red', 'fd00:1::/64'))
  caller.do(attach('red', 'c2', { address6: 'fd00:1::77' }))
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  const all = [...sections, ...rest(cursor)]
  t.match(all[0], ['head', { format: 3 }])
  t.notMatch(JSON.stringify(all), /fd00|rules/)
  assert.deepEqual(encodeState(restored(all)), before)
  t.end()
})

t.test('two cursors of one state at different indexes do not disturb each other', t => {
  const { caller, cursor, sections } = halfway()
  const first = encodeState(caller.state)
  caller.do(detach('c7'))
  const second = encodeState(caller.state)
  const other = new StateCursor(caller.state, 2)
  const others = [other.next(), other.next()]
  caller.do(detach('c9'))
  assert.deepEqual(encodeState(restored([...sections, ...rest(cursor)])), first)
  caller.do(detach('c0'))
  assert.deepEqual(encodeState(restored([...others, ...rest(other)])), second)
  t.equal(caller.state.tables.watchers.size, 0)
  t.end()
})

t.test('a state that is replaced meanwhile is read to its end', t => {
  const { caller, cursor, sections } = halfway()
  const before = encodeState(caller.state)
  caller.state.become(new ClusterState())
  assert.deepEqual(encodeState(restored([...sections, ...rest(cursor)])), before)
  t.end()
})

t.test('only the rows that change are kept, and nothing after the end', t => {
  const { caller, cursor } = halfway()
  t.equal(caller.state.tables.watchers.size, 1)
  cursor.close()
  t.equal(caller.state.tables.watchers.size, 0)
  caller.do(detach('c8'))
  t.end()
})

/** Of an attach. */
function keyOf({ containerId, ifname }: EndpointName): EndpointName {
  return { containerId, ifname }
}

const whole = rest(new StateCursor(halfway().caller.state, 4)) as unknown as (readonly [string, ...unknown[]])[]
const without = (kind: string): unknown[] => whole.filter(([each]) => each !== kind)
const changed = (kind: string, to: unknown): unknown[] =>
  whole.map(section => (section[0] === kind ? [kind, to] : section))
const DAMAGED: Readonly<Record<string, readonly [sections: readonly unknown[], words: RegExp]>> = {
  nothing: [[], /truncated/],
  'no head': [without('head'), /it has no head/],
  'no hosts': [without('hosts'), /on a host that does not exist/],
  'no networks': [without('networks'), /digest does not match/],
  'no end': [without('end'), /truncated/],
  'two heads': [[...whole.slice(0, 1), ...whole], /two heads/],
  'two ends': [[...whole, ['end']], /goes on after its end/],
  'a section twice': [whole.flatMap(each => (each[0] === 'hosts' ? [each, each] : [each])), /a host twice/],
  'sections in another order': [[...whole.slice(0, 2), ...whole.slice(3, 4), ...whole.slice(2, 3)], /does not exist/],
  'another format': [changed('head', { format: 5 }), /format 5 is not known/],
  'a format that is gone': [changed('head', { format: 2 }), /format 2 is not known/],
  'format 4 without rules': [changed('head', { format: 4 }), /format 4 with rules undefined/],
  'format 4 of a cluster that was not raised': [changed('head', { format: 4, rules: 4 }), /rules 4 of its cluster/],
  'rules that this version does not know': [changed('head', { format: 4, rules: 9 }), /rules 9 .* upgrade this host/],
  'rules that are no number': [changed('head', { format: 4, rules: '5' }), /rules 5 of its cluster/],
  'rules that are no whole number': [changed('head', { format: 4, rules: 4.5 }), /rules 4.5 of its cluster/],
  'rules in format 3': [changed('head', { format: 3, rules: 5 }), /format 3 with rules 5/],
  'a kind that is not known': [changed('hosts', []).map((s, at) => (at === 1 ? ['guests', []] : s)), /guests/],
  'rows of something else': [changed('hosts', 7), /not iterable/],
  'a row of nothing': [changed('networks', [[null, []]]), /null/],
  'endpoints of no network': [changed('networks', [[9, []]]), /network 9, which does not exist/],
  'no section': [[whole[0], 'x'], /not a section/],
  'an old state in the middle': [[whole[0], {}], /not a section/]
}
for (const [what, [sections, words]] of Object.entries(DAMAGED)) {
  t.test(`sections that are no state are refused in words: ${what}`, t => {
    t.throws(() => restored(sections), { code: 'ERR_STORAGE', message: words })
    t.end()
  })
}
