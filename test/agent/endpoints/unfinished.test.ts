// Attaches and detaches that end without an answer: whatever becomes of them, no address stays allocated without a
// container, also after a restart, and no container loses its own.

import t, { type Test } from 'tap'
import type { EndpointAttachRequest } from '#model/agent-port.ts'
import type { Command } from '#model/command.ts'
import { endpointKey } from '#model/endpoint.ts'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { attach as attachCommand } from '#test/allocator/fixtures.ts'
import { MemoryHost } from '../memory-host.ts'

const [WEB, ETH0] = [parseContainerId('web'), parseIfName('eth0')]
const KEY = endpointKey(WEB, ETH0)
const VETH = vethName(WEB, ETH0)
const CHECK_MS = 1_000
const SETTLED_MS = 30_000

function request(p: Partial<EndpointAttachRequest> = {}): EndpointAttachRequest {
  const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
  const facts = { network: parseNetworkName('red'), containerId: WEB, ifname: ETH0, name: '', ...unshaped }
  return { ...facts, netns: '/run/netns/web', ...p }
}

const failing =
  (code: ErrorCode, kind: Command['kind'] = 'endpoint-attach') =>
  (command: Command): Error | null =>
    command.kind === kind ? new VxmeshError(code, 'no answer') : null

/** A host whose attach of web was committed, and whose caller was told that it failed. */
async function abandoned(t: Test, code: ErrorCode = 'ERR_TIMEOUT'): Promise<MemoryHost> {
  const host = new MemoryHost()
  host.loseAnswer = failing(code)
  await t.rejects(host.endpoints.attach(request()), { code })
  host.loseAnswer = () => null
  return host
}

/** An attach ended without an answer, and nothing of it is committed yet. */
async function unproposed(t: Test): Promise<MemoryHost> {
  const host = new MemoryHost()
  host.failProposal = failing('ERR_NO_QUORUM')
  await t.rejects(host.endpoints.attach(request()), { code: 'ERR_NO_QUORUM' })
  host.failProposal = () => null
  return host
}

for (const code of ['ERR_TIMEOUT', 'ERR_NO_QUORUM', 'ERR_SESSION_EXPIRED', 'ERR_AGENT_UNREACHABLE'] as const) {
  t.test(`the address of an attach that was committed and ended with ${code} is released`, async t => {
    const host = await abandoned(t, code)
    t.equal(host.caller.state.endpointCount, 1)
    await host.time.advance(CHECK_MS)
    t.same([host.caller.state.endpointCount, host.records.size, host.time.pending], [0, 0, 0])
  })
}

t.test('an attach that is committed later, after its caller has gone, is released then', async t => {
  const host = await unproposed(t)
  await host.time.advance(SETTLED_MS / 2)
  t.equal(host.records.get(KEY), 'unfinished')
  host.caller.do(attachCommand('red', 'web'))
  await host.time.advance(CHECK_MS)
  t.same([host.caller.state.endpointCount, host.records.size, host.time.pending], [0, 0, 0])
})

t.test('an attach that was never made is forgotten, once the state is known to be current', async t => {
  const host = new MemoryHost()
  host.failProposal = failing('ERR_NO_QUORUM')
  await t.rejects(host.endpoints.attach(request()), { code: 'ERR_NO_QUORUM' })
  host.failRefresh = new VxmeshError('ERR_NO_QUORUM', 'no leader')
  await host.time.advance(2 * SETTLED_MS)
  t.equal(host.records.get(KEY), 'unfinished')
  host.failRefresh = null
  await host.time.advance(CHECK_MS)
  t.same([host.records.size, host.time.pending], [0, 0])
})

for (const code of ['ERR_BUSY', 'ERR_SUBNET_EXHAUSTED', 'ERR_NOT_ALLOWED'] as const) {
  t.test(`an attach that was refused with ${code} leaves nothing to finish`, async t => {
    const host = new MemoryHost()
    host.failProposal = failing(code)
    await t.rejects(host.endpoints.attach(request()), { code })
    t.same([host.records.size, host.time.pending], [0, 0])
  })
}

t.test('nothing is released while the state is stale', async t => {
  const host = await abandoned(t)
  host.standing = { ready: false, leader: null }
  await host.time.advance(2 * SETTLED_MS)
  t.equal(host.caller.state.endpointCount, 1)
  host.standing = { ready: true, leader: 'h1' }
  await host.time.advance(CHECK_MS)
  t.equal(host.caller.state.endpointCount, 0)
})

t.test('a release in flight is still unfinished, so that the agent may end in the middle of it', async t => {
  const host = await abandoned(t)
  const seen: unknown[] = []
  host.failProposal = () => {
    seen.push(host.records.get(KEY))
    return null
  }
  await host.time.advance(CHECK_MS)
  t.same([seen, host.records.size], [['unfinished'], 0])
})

t.test('a release that fails is tried until it succeeds, also after a restart', async t => {
  const host = await abandoned(t)
  host.failProposal = failing('ERR_NO_QUORUM', 'endpoint-detach')
  await host.time.advance(5 * CHECK_MS)
  t.same([host.caller.state.endpointCount, host.records.get(KEY)], [1, 'unfinished'])
  await host.unfinished.stop()
  t.equal(host.time.pending, 0)

  const next = new MemoryHost()
  next.caller.do(attachCommand('red', 'web'))
  next.records.set(KEY, 'unfinished')
  await next.local.load()
  next.unfinished.wake()
  await next.time.advance(CHECK_MS)
  t.same([next.caller.state.endpointCount, next.records.size, next.time.pending], [0, 0, 0])
})

t.test('an attach that is repeated before the release keeps the endpoint', async t => {
  const host = await abandoned(t)
  const endpoint = await host.endpoints.attach(request())
  t.match(host.records.get(KEY), { netns: '/run/netns/web' })
  await host.time.advance(2 * SETTLED_MS)
  t.same(host.caller.state.endpoint(KEY), endpoint)
  t.ok(host.devices.interfaces.has(VETH))
})

t.test(
  'a container that has its interface keeps its endpoint, although the agent ended before it was recorded',
  async t => {
    const host = await abandoned(t)
    await host.devices.attach({ hostInterface: VETH } as never)
    await host.time.advance(CHECK_MS)
    t.same([host.caller.state.endpointCount, host.records.size, host.time.pending], [1, 0, 0])
  }
)

t.test('the endpoint of another host is never released', async t => {
  const host = await unproposed(t)
  host.caller.do(attachCommand('red', 'web', { host: 2 }))
  await host.time.advance(2 * SETTLED_MS)
  t.same([host.caller.state.endpointCount, host.records.size, host.time.pending], [1, 0, 0])
})

t.test('an endpoint that this host had before an attach without an answer is kept for the next attempt', async t => {
  const host = new MemoryHost()
  host.caller.do(attachCommand('red', 'web'))
  host.failProposal = failing('ERR_NO_QUORUM')
  await t.rejects(host.endpoints.attach(request()), { code: 'ERR_NO_QUORUM' })
  await host.time.advance(2 * SETTLED_MS)
  t.same([host.caller.state.endpointCount, host.records.size], [1, 0])
})

t.test('a detach without an answer is finished', async t => {
  const host = new MemoryHost()
  await host.endpoints.attach(request())
  host.failProposal = failing('ERR_NO_QUORUM', 'endpoint-detach')
  await t.rejects(
    host.endpoints.detach(WEB, ETH0, () => null),
    { code: 'ERR_NO_QUORUM' }
  )
  t.same([host.caller.state.endpointCount, host.records.get(KEY)], [1, 'unfinished'])
  t.equal(await host.local.restore(KEY), 'pending', 'its interface is not made again')
  host.failProposal = () => null
  await host.time.advance(CHECK_MS)
  t.same([host.caller.state.endpointCount, host.records.size, host.time.pending], [0, 0, 0])
})

t.test('a failed attach whose address could not be released is finished', async t => {
  const host = new MemoryHost()
  host.devices.failures.set('attach', new VxmeshError('ERR_KERNEL', 'EBUSY'))
  host.failProposal = failing('ERR_NO_QUORUM', 'endpoint-detach')
  await t.rejects(host.endpoints.attach(request()), { code: 'ERR_KERNEL' })
  t.equal(host.caller.state.endpointCount, 1)
  host.failProposal = () => null
  await host.time.advance(CHECK_MS)
  t.same([host.caller.state.endpointCount, host.records.size, host.time.pending], [0, 0, 0])
})

t.test('an endpoint whose attach is in flight is left alone', async t => {
  const host = await abandoned(t)
  await host.local.handle(KEY, async () => {
    await host.time.advance(5 * CHECK_MS)
    t.equal(host.caller.state.endpointCount, 1)
  })
  await host.time.advance(CHECK_MS)
  t.equal(host.caller.state.endpointCount, 0)
})
