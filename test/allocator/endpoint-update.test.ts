// Rates and delay of an endpoint, changed by a committed command.

import t from 'tap'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command, Outcome } from '#model/command.ts'
import { endpointKey } from '#model/endpoint.ts'
import { parseContainerId, parseIfName, type LogIndex } from '#model/ids.ts'
import { parseCommand } from '#model/parse-request.ts'
import * as f from './fixtures.ts'

const containerId = parseContainerId('c1')
const ifname = parseIfName('eth0')
const key = endpointKey(containerId, ifname)

function stateWith(commands: readonly Command[]): { state: ClusterState; run: (command: Command) => Outcome } {
  const state = new ClusterState()
  let seq = 0
  const run = (command: Command): Outcome => {
    const request = { session: 's', seq: seq++, settledBelow: 0, command }
    return state.apply((state.appliedIndex + 1) as LogIndex, request)
  }
  run({ kind: 'session-open' })
  for (const command of commands) t.ok(run(command).ok, command.kind)
  return { state, run }
}

const begin = (): ReturnType<typeof stateWith> =>
  stateWith([
    f.register(1),
    f.create('red'),
    f.attach('red', 'c1', { rate: 8e3 }),
    f.attach('red', 'c1', { ifname: 'eth1' })
  ])

t.test('only what is given is changed, in every view of the endpoint', async t => {
  const { state, run } = begin()
  const before = state.endpoint(key)
  const outcome = run({ kind: 'endpoint-update', containerId, ifname, egressRate: 5e6, delayUs: 10 })
  const expected = { ...before, egressRate: 5e6, delayUs: 10 }
  t.strictSame(outcome, { ok: true, result: { kind: 'endpoint', endpoint: expected, created: false } })
  t.strictSame(state.endpoint(key), expected)
  t.strictSame(
    state.endpointsOf(expected.network as never).filter(e => e.ifname === ifname),
    [expected]
  )
  t.strictSame(
    state.endpointsOnHost(expected.host as never).filter(e => e.ifname === ifname),
    [expected]
  )
  t.strictSame(
    state.endpointsOfContainer(containerId).filter(e => e.ifname === ifname),
    [expected]
  )
  t.equal(state.endpointCount, 2)
  t.ok(run(f.detach('c1')).ok)
  t.ok(run(f.detach('c1', 'eth1')).ok)
  t.equal(state.endpointCount, 0)
})

t.test('there and back gives the same state, on the way another one', async t => {
  const { state, run } = begin()
  const start = state.tables.hash.value
  run({ kind: 'endpoint-update', containerId, ifname, ingressRate: 1e9 })
  t.notSame(state.tables.hash.value, start)
  run({ kind: 'endpoint-update', containerId, ifname, ingressRate: 8e3 })
  t.strictSame(state.tables.hash.value, start)
})

t.test('an endpoint that is not there is refused', async t => {
  const { run } = begin()
  const outcome = run({ kind: 'endpoint-update', containerId: parseContainerId('nobody'), ifname, egressRate: 0 })
  t.match(outcome, { ok: false, error: { code: 'ERR_ENDPOINT_NOT_FOUND', field: 'containerId' } })
})

t.test('a repeated attach does not undo an update', async t => {
  const { state, run } = begin()
  run({ kind: 'endpoint-update', containerId, ifname, ingressRate: 1e9 })
  t.match(run(f.attach('red', 'c1', { rate: 8e3 })), { ok: true, result: { created: false } })
  t.match(state.endpoint(key), { ingressRate: 1e9 })
})

t.test('what comes from another host is checked before it enters the log', async t => {
  const good = { kind: 'endpoint-update', containerId: 'c1', ifname: 'eth0', egressRate: 0 }
  t.strictSame(parseCommand({ ...good, odd: 1 }), good)
  for (const bad of [
    { containerId: '' },
    { ifname: 'a/b' },
    { ingressRate: -1 },
    { ingressRate: 1 },
    { egressRate: '1mbit' },
    { delayUs: 61e6 },
    { delayUs: 0.5 }
  ]) {
    const field = Object.keys(bad)[0]
    t.throws(() => parseCommand({ ...good, ...bad }), { code: 'ERR_INVALID', field })
  }
})
