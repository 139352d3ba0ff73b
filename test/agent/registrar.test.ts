import t, { type Test } from 'tap'
import { Registrar } from '#agent/registrar.ts'
import type { Command } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import { LEFT_BOOT_ID, type Host } from '#model/host.ts'
import { createLogger } from '#platform/log.ts'
import { makeHost } from '#test/allocator/fixtures.ts'
import { ManualClock, settle } from '#test/lab/manual-clock.ts'

const host = makeHost(1)
const noQuorum = new VxmeshError('ERR_NO_QUORUM', 'no leader')

type World = { registrar: Registrar; time: ManualClock; proposed: Command[]; recorded: Host | undefined }

/** @param answer the outcome of each proposal */
function world(t: Test, answer: (world: World) => Promise<unknown>): World {
  const time = new ManualClock()
  const own: World = {
    time,
    proposed: [],
    recorded: undefined,
    registrar: new Registrar({
      host,
      recorded: () => own.recorded,
      propose: command => {
        own.proposed.push(command)
        return answer(own)
      },
      clock: time.clock,
      logger: createLogger('silent')
    })
  }
  t.teardown(() => own.registrar.stop())
  return own
}

const commit = (own: World): Promise<void> => {
  own.recorded = host
  return Promise.resolve()
}

t.test('a host that the state does not hold is registered, once', async t => {
  const own = world(t, commit)
  t.equal(own.registrar.registered, false)
  own.registrar.check()
  own.registrar.check()
  await settle()
  t.equal(own.registrar.registered, true)
  own.registrar.check()
  t.same(own.proposed, [{ kind: 'host-register', host }])
  t.equal(own.registrar.problem, null)
})

for (const [what, recorded] of [
  ['another boot id', makeHost(1, { bootId: 'boot-2' })],
  ['another VTEP', makeHost(1, { vtep: '192.0.2.99' })],
  ['another name', makeHost(1, { name: 'old' })],
  ['another role', { ...host, role: 'client' }],
  ['another version', { ...host, version: '0.0.9' }]
] as const) {
  t.test(`a record with ${what} is replaced`, async t => {
    const own = world(t, commit)
    own.recorded = recorded
    t.equal(own.registrar.registered, false)
    own.registrar.check()
    await settle()
    t.equal(own.registrar.registered, true)
    t.equal(own.proposed.length, 1)
  })
}

t.test('a record that is up to date is left alone', t => {
  const own = world(t, commit)
  own.recorded = { ...host }
  own.registrar.check()
  t.same(own.proposed, [])
  t.end()
})

t.test(
  'a failed registration backs off and is retried until the state holds the host; its problem is shown meanwhile',
  async t => {
    const own = world(t, each => (each.proposed.length < 3 ? Promise.reject(noQuorum) : commit(each)))
    own.registrar.check()
    await own.time.advance(99)
    t.same([own.registrar.problem, own.proposed.length], [noQuorum, 1])
    await own.time.advance(1)
    t.same([own.registrar.problem, own.proposed.length], [noQuorum, 2], 'after 100 ms')
    await own.time.advance(200)
    t.same([own.registrar.registered, own.registrar.problem], [true, null])
    t.equal(own.proposed.length, 3, 'after twice the time')
  }
)

t.test('an unexpected exception is a problem, too, and is retried', async t => {
  const own = world(t, each => {
    if (each.proposed.length === 1) throw new TypeError('broken')
    return commit(each)
  })
  own.registrar.check()
  await settle()
  t.match(own.registrar.problem, { code: 'ERR_INTERNAL', message: 'broken' })
  await own.time.advance(100)
  t.equal(own.registrar.registered, true)
})

t.test('an attempt that failed here but was committed is no problem any more', async t => {
  const own = world(t, () => Promise.reject(noQuorum))
  own.registrar.check()
  await settle()
  t.equal(own.registrar.problem, noQuorum)
  own.recorded = host
  await own.time.advance(100)
  t.equal(own.registrar.problem, null)
  t.equal(own.proposed.length, 1, 'and it is not retried')
})

t.test('a host that was removed registers again', async t => {
  const own = world(t, commit)
  own.registrar.check()
  await settle()
  t.equal(own.registrar.registered, true)
  own.recorded = undefined
  own.registrar.check()
  await settle()
  t.equal(own.registrar.registered, true)
  t.equal(own.proposed.length, 2)
})

t.test('a host that leaves says so in its record once, and takes it back if it stays', async t => {
  const own = world(t, each => {
    const last = each.proposed.at(-1)
    if (last?.kind === 'host-register') own.recorded = last.host
    return Promise.resolve()
  })
  await own.registrar.leave()
  t.same(own.proposed, [], 'it had no record')
  own.registrar.stay()
  await settle()
  t.same(own.recorded, host)
  await own.registrar.leave()
  t.same(own.recorded, { ...host, bootId: LEFT_BOOT_ID })
  own.registrar.check()
  await settle()
  t.equal(own.proposed.length, 2, 'the record is as it must be')
  own.registrar.stay()
  await settle()
  t.same(own.recorded, host)
})

t.test('a leave that cannot be recorded is thrown', async t => {
  const own = world(t, () => Promise.reject(noQuorum))
  own.recorded = host
  await t.rejects(own.registrar.leave(), { code: 'ERR_NO_QUORUM' })
})

t.test('a stopped registrar proposes nothing more', async t => {
  const own = world(t, () => Promise.reject(noQuorum))
  own.registrar.check()
  await settle()
  t.equal(own.registrar.problem, noQuorum)
  own.registrar.stop()
  const { length } = own.proposed
  own.registrar.check()
  await own.time.advance(60_000)
  own.registrar.check()
  t.equal(own.proposed.length, length)
})
