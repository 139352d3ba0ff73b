// Rates and delay of an endpoint, changed by a committed command.

import t from 'tap'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Command, Outcome } from '#model/command.ts'
import { endpointKey } from '#model/endpoint.ts'
import { parseContainerId, parseIfName } from '#model/ids.ts'
import { parseCommand } from '#model/parse-request.ts'
import { attach, Caller, detach } from './fixtures.ts'

const containerId = parseContainerId('c1')
const ifname = parseIfName('eth0')
const key = endpointKey(containerId, ifname)

/** Container c1 with two interfaces. */
function begin(): { state: ClusterState; run: (command: Command) => Outcome } {
  const caller = Caller.ready()
  caller.do(attach('red', 'c1', { rate: 8e3 }))
  caller.do(attach('red', 'c1', { ifname: 'eth1' }))
  return { state: caller.state, run: command => caller.try(command) }
}

t.test('an update changes the given settings only, in every view of the endpoint', async t => {
  const { state, run } = begin()
  const before = state.endpoint(key)
  const outcome = run({ kind: 'endpoint-update', containerId, ifname, egressRate: 5e6, delayUs: 10 })
  if (before === undefined) throw new Error('no endpoint')
  const expected = { ...before, egressRate: 5e6, delayUs: 10 }
  t.strictSame(outcome, { ok: true, result: { kind: 'endpoint', endpoint: expected, created: false } })
  t.strictSame(state.endpoint(key), expected)
  t.strictSame(
    state.endpointsOf(expected.network).filter(e => e.ifname === ifname),
    [expected]
  )
  t.strictSame(
    state.endpointsOnHost(expected.host).filter(e => e.ifname === ifname),
    [expected]
  )
  t.strictSame(
    state.endpointsOfContainer(containerId).filter(e => e.ifname === ifname),
    [expected]
  )
  t.equal(state.endpointCount, 2)
  t.ok(run(detach('c1')).ok)
  t.ok(run(detach('c1', 'eth1')).ok)
  t.equal(state.endpointCount, 0)
})

t.test('an update and its reverse restore the digest; in between it differs', async t => {
  const { state, run } = begin()
  const start = state.tables.hash.value
  run({ kind: 'endpoint-update', containerId, ifname, ingressRate: 1e9 })
  t.notSame(state.tables.hash.value, start)
  run({ kind: 'endpoint-update', containerId, ifname, ingressRate: 8e3 })
  t.strictSame(state.tables.hash.value, start)
})

t.test('updating an unknown endpoint is refused', async t => {
  const { run } = begin()
  const outcome = run({ kind: 'endpoint-update', containerId: parseContainerId('nobody'), ifname, egressRate: 0 })
  t.match(outcome, { ok: false, error: { code: 'ERR_ENDPOINT_NOT_FOUND', field: 'containerId' } })
})

t.test('a repeated attach does not undo an update', async t => {
  const { state, run } = begin()
  run({ kind: 'endpoint-update', containerId, ifname, ingressRate: 1e9 })
  t.match(run(attach('red', 'c1', { rate: 8e3 })), { ok: true, result: { created: false } })
  t.match(state.endpoint(key), { ingressRate: 1e9 })
})

t.test('an update from another host is validated before it enters the log', async t => {
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
