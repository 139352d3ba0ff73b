import assert from 'node:assert/strict'
import t from 'tap'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { stateBytes } from '#agent/state-bytes.ts'
import { decodeMsgpack } from '#platform/msgpack.ts'
import { attach, Caller, create, detach, register, removeHost, update } from '../allocator/fixtures.ts'

/** Network sizes around which array headers and slices change. */
function grown(...sizes: readonly number[]): Caller {
  const caller = Caller.ready()
  for (const size of sizes) {
    caller.try(create(`n${size}`, { subnet: '10.0.0.0/8' }))
    for (let n = 0; n < size; n++) caller.try(attach(`n${size}`, `c${size}-${n}`))
  }
  return caller
}

t.test('the bytes decode to the state, whatever the sizes', async t => {
  for (const sizes of [[], [0], [1], [15, 16], [4_095], [4_096], [4_097, 0, 5_000], [9_000]]) {
    const { state } = grown(...sizes)
    const plain: unknown = decodeMsgpack(await stateBytes(state))
    assert.deepEqual(plain, JSON.parse(JSON.stringify(encodeState(state))), sizes.join())
    assert.deepEqual(encodeState(decodeState(plain)), encodeState(state), sizes.join())
    t.pass(`${sizes.length} networks: ${sizes.join()}`)
  }
})

t.test('changes made during serialisation are not in the bytes', async t => {
  const caller = grown(20_000, 3)
  const before = JSON.stringify(encodeState(caller.state))
  let turns = 0
  const making = stateBytes(caller.state)
  const change = (): void => {
    turns += 1
    caller.try(detach(`c20000-${19_000 + turns}`))
    caller.try(attach('n20000', `late-${turns}`))
    caller.try(update('n3', 1_000_000 * turns))
    caller.try(register(10 + turns))
    if (turns > 1) caller.try(removeHost(`h${9 + turns}`))
    changing = setImmediate(change)
  }
  let changing = setImmediate(change)
  const bytes = await making
  clearImmediate(changing)
  t.ok(turns >= 2, 'other tasks run in between')
  t.equal(JSON.stringify(encodeState(decodeState(decodeMsgpack(bytes)))), before)
  t.not(JSON.stringify(encodeState(caller.state)), before, 'positive control: the state has changed')
})
