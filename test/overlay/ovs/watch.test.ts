// What wakes the reconcile loop under Open vSwitch, with a clock that the test moves.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Ovsdb } from '#overlay/ovs/ovsdb.ts'
import { watchSwitch } from '#overlay/ovs/watch.ts'
import { SWITCH } from '#overlay/plan/network/names.ts'
import { scratch } from '#test/api/scratch.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'

function setUp(t: Test, dir = scratch(t)) {
  const time = new ManualClock()
  const db = {
    onChange: (reconnected: boolean): void => {
      t.fail(`nobody listens: ${reconnected}`)
    }
  }
  const calls: string[] = []
  const stop = watchSwitch({
    clock: time.clock,
    db: db as unknown as Ovsdb,
    socket: join(dir, 'db.sock'),
    changed: () => calls.push('changed'),
    settled: () => calls.push('settled')
  })
  t.teardown(stop)
  return { time, db, calls, stop, dir }
}

t.test('a burst of changes invalidates at once, and settles once after 250 ms', async t => {
  const { time, db, calls } = setUp(t)
  db.onChange(false)
  db.onChange(false)
  t.same(calls, ['changed', 'changed'])
  await time.advance(249)
  t.same(calls, ['changed', 'changed'])
  await time.advance(1)
  t.same(calls, ['changed', 'changed', 'settled'])
  db.onChange(false)
  await time.advance(250)
  t.same(calls.slice(3), ['changed', 'settled'], 'the next change settles again')
})

t.test('a new management socket of the switch is a change, other files are none', async t => {
  const { time, calls, dir } = setUp(t)
  writeFileSync(join(dir, 'other.mgmt'), '')
  writeFileSync(join(dir, `${SWITCH}.mgmt`), '')
  await waitFor('the socket is seen', () => calls.length > 0)
  await time.advance(250)
  t.equal(calls.at(-1), 'settled')
})

t.test('a folder that is recreated with the server is watched again', async t => {
  const dir = join(scratch(t), 'run')
  const { calls, db } = setUp(t, dir)
  mkdirSync(dir)
  db.onChange(true)
  const before = calls.length
  writeFileSync(join(dir, `${SWITCH}.mgmt`), '')
  await waitFor('the socket is seen', () => calls.length > before)
  rmSync(dir, { recursive: true })
  t.doesNotThrow(() => db.onChange(true), 'a folder that is gone is no error')
})

t.test('after stop nothing is called any more', async t => {
  const { time, db, calls, stop, dir } = setUp(t)
  db.onChange(false)
  stop()
  await time.advance(1_000)
  db.onChange(false)
  writeFileSync(join(dir, `${SWITCH}.mgmt`), '')
  await time.advance(1_000)
  t.same(calls, ['changed'])
  t.equal(time.pending, 0)
})
