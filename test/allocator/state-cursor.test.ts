import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { encodeState } from '#allocator/snapshot.ts'
import { StateBuilder } from '#allocator/state-builder.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { StateSection } from '#allocator/state-sections.ts'
import type { Command } from '#model/command.ts'
import { command, history } from './arbitraries.ts'
import { attach, Caller, create, detach, remove, removeHost, update } from './fixtures.ts'

function grown(commands: readonly Command[]): Caller {
  const caller = new Caller()
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
  const steps = fc.array(fc.tuple(command, fc.nat(2)), { maxLength: 60 })
  const property = fc.property(history(60), steps, fc.integer({ min: 1, max: 6 }), (before, during, rows) => {
    const caller = grown(before)
    const expected = encodeState(caller.state)
    const atOnce = rest(new StateCursor(caller.state, rows))
    const cursor = new StateCursor(caller.state, rows)
    const sections: StateSection[] = []
    for (const [change, count] of during) {
      caller.try(change)
      for (let n = 0; n < count; n++) {
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
  'another format': [changed('head', { format: 4 }), /format 4 is not known/],
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
