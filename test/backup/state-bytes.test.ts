import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { encodeState } from '#allocator/snapshot.ts'
import { stateFrom, stateSections } from '#backup/state-bytes.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { attach, Caller, create, detach, register, removeHost, update } from '../allocator/fixtures.ts'
import { sections } from '../replication/snapshots.ts'

/** Network sizes around which array headers and sections change. */
function grown(...sizes: readonly number[]): Caller {
  const caller = Caller.ready()
  for (const size of sizes) {
    caller.try(create(`n${size}`, { subnet: '10.0.0.0/8' }))
    for (let n = 0; n < size; n++) caller.try(attach(`n${size}`, `c${size}-${n}`))
  }
  return caller
}

t.test('the sections give the state back, whatever the sizes', async t => {
  for (const sizes of [[], [0], [1], [15, 16], [1_022], [1_023, 1], [1_024], [1_025, 0, 2_500], [9_000]]) {
    const { state } = grown(...sizes)
    assert.deepEqual(encodeState(await stateFrom(stateSections(state))), encodeState(state), sizes.join())
    t.pass(`${sizes.length} networks: ${sizes.join()}`)
  }
})

t.test('changes made while it is read are not in it, and other tasks run in between', async t => {
  const caller = grown(20_000, 3)
  const before = JSON.stringify(encodeState(caller.state))
  let turns = 0
  const making = stateFrom(stateSections(caller.state))
  const change = (): void => {
    turns += 1
    changing = setImmediate(change)
    if (turns > 90) return
    caller.try(detach(`c20000-${19_900 + turns}`))
    caller.try(attach('n20000', `late-${turns}`))
    caller.try(update('n3', 1_000_000 * turns))
    caller.try(register(10 + turns))
    if (turns > 1) caller.try(removeHost(`h${9 + turns}`))
  }
  let changing = setImmediate(change)
  const restored = await making
  clearImmediate(changing)
  t.ok(turns >= 20, `${turns} turns`)
  t.equal(JSON.stringify(encodeState(restored)), before)
  t.not(JSON.stringify(encodeState(caller.state)), before, 'positive control: the state has changed')
  t.equal(caller.state.tables.watchers.size, 0)
})

t.test('a reading that is given up, or never begun, stops watching the state', async t => {
  const { state } = grown(3_000)
  for await (const section of stateSections(state)) {
    t.ok(section.byteLength > 0)
    t.equal(state.tables.watchers.size, 1)
    break
  }
  t.equal(state.tables.watchers.size, 0)
  await stateSections(state).return?.()
  t.equal(state.tables.watchers.size, 0)
  await nextTurn()
})

t.test('a snapshot of format 1, one value, is still read', async () => {
  const { state } = grown(20)
  const restored = await stateFrom(sections(encodeMsgpack(encodeState(state))))
  assert.deepEqual(encodeState(restored), encodeState(state))
})
