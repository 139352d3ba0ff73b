import t, { type Test } from 'tap'
import { Registrar } from '#agent/registrar.ts'
import type { Command } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { Host } from '#model/host.ts'
import { createLogger } from '#platform/log.ts'
import { makeHost } from '#test/allocator/fixtures.ts'
import { waitFor } from '#test/lab/wait.ts'

const host = makeHost(1)
const noQuorum = new VxmeshError('ERR_NO_QUORUM', 'no leader')

type World = { registrar: Registrar; proposed: Command[]; recorded: Host | undefined }

/** `answer` is what becomes of each proposal. */
function world(t: Test, answer: (world: World) => Promise<unknown>): World {
  const own: World = {
    proposed: [],
    recorded: undefined,
    registrar: new Registrar({
      host,
      recorded: () => own.recorded,
      propose: command => {
        own.proposed.push(command)
        return answer(own)
      },
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

t.test('a host that is not in the state is registered, once', async t => {
  const own = world(t, commit)
  t.equal(own.registrar.registered, false)
  own.registrar.check()
  own.registrar.check()
  await waitFor('registered', () => own.registrar.registered)
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
    await waitFor('registered', () => own.registrar.registered)
    t.equal(own.proposed.length, 1)
  })
}

t.test('a record that is right is left alone', t => {
  const own = world(t, commit)
  own.recorded = { ...host }
  own.registrar.check()
  t.same(own.proposed, [])
  t.end()
})

t.test('it is tried again until it holds, and the last problem is known meanwhile', async t => {
  const own = world(t, each => (each.proposed.length < 3 ? Promise.reject(noQuorum) : commit(each)))
  own.registrar.check()
  await waitFor('a problem', () => own.registrar.problem)
  t.equal(own.registrar.problem, noQuorum)
  await waitFor('registered', () => own.registrar.registered)
  await waitFor('no problem', () => own.registrar.problem === null)
  t.equal(own.proposed.length, 3)
})

t.test('whatever is thrown is a problem, not the end', async t => {
  const own = world(t, each => {
    if (each.proposed.length === 1) throw new TypeError('broken')
    return commit(each)
  })
  own.registrar.check()
  await waitFor('a problem', () => own.registrar.problem)
  t.match(own.registrar.problem, { code: 'ERR_INTERNAL', message: 'broken' })
  await waitFor('registered', () => own.registrar.registered)
})

t.test('a try that failed for this host and was committed all the same is no problem any more', async t => {
  const own = world(t, () => Promise.reject(noQuorum))
  own.registrar.check()
  await waitFor('a problem', () => own.registrar.problem)
  own.recorded = host
  await waitFor('no problem', () => own.registrar.problem === null)
  t.equal(own.proposed.length, 1, 'and it is not tried again')
})

t.test('a host that was removed registers again', async t => {
  const own = world(t, commit)
  own.registrar.check()
  await waitFor('registered', () => own.registrar.registered)
  own.recorded = undefined
  await waitFor('registered again', () => {
    own.registrar.check()
    return own.registrar.registered
  })
  t.equal(own.proposed.length, 2)
})

t.test('after its end nothing more is proposed', async t => {
  const own = world(t, () => Promise.reject(noQuorum))
  own.registrar.check()
  await waitFor('a problem', () => own.registrar.problem)
  own.registrar.stop()
  const { length } = own.proposed
  own.registrar.check()
  await new Promise(resolve => setImmediate(resolve))
  own.registrar.check()
  t.equal(own.proposed.length, length)
})
