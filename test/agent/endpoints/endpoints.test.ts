// Attach, update and detach over the real state machine, with devices in memory: what is committed, what the kernel
// gets, and what is left when either fails.

import t from 'tap'
import type { EndpointAttachRequest } from '#model/agent-port.ts'
import { endpointKey } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { attach as attachCommand } from '#test/allocator/fixtures.ts'
import { settle } from '#test/lab/manual-clock.ts'
import { MemoryHost } from '../memory-host.ts'

const [WEB, ETH0] = [parseContainerId('web'), parseIfName('eth0')]
const KEY = endpointKey(WEB, ETH0)
const VETH = vethName(WEB, ETH0)
const NETNS = '/run/netns/web'
const kernelError = new VxmeshError('ERR_KERNEL', 'EBUSY')

function request(p: Partial<EndpointAttachRequest> = {}): EndpointAttachRequest {
  const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
  return { network: parseNetworkName('red'), containerId: WEB, ifname: ETH0, name: '', netns: NETNS, ...unshaped, ...p }
}

/** An endpoint of the same container on host h2. */
function attachElsewhere(host: MemoryHost): void {
  host.caller.do(attachCommand('red', 'web', { host: 2 }))
}

t.test('attach commits the allocation, makes the network and the interface, and records the namespace', async t => {
  const host = new MemoryHost()
  const endpoint = await host.endpoints.attach(request({ egressRate: 8_000, portNumber: 70 }))
  t.same(host.caller.state.endpoint(KEY), endpoint)
  t.match(host.devices.interfaces.get(VETH), {
    vni: 4096,
    netns: NETNS,
    shaping: { egressRate: 8_000 },
    portNumber: 70
  })
  t.same(host.kernelTurns, ['withNetwork 4096', 'wake 4096'])
  t.match(host.records.get(KEY), { netns: NETNS, netnsId: `id of ${NETNS}`, bootId: 'boot-1' })
})

t.test('a repeated attach returns the same endpoint, unless a new one is required', async t => {
  const host = new MemoryHost()
  const first = await host.endpoints.attach(request())
  t.same(await host.endpoints.attach(request()), first)
  const refusal = { code: 'ERR_ENDPOINT_EXISTS', field: 'containerId' }
  await t.rejects(host.endpoints.attach(request({ exclusive: true })), refusal)
  t.same([host.caller.state.endpointCount, host.devices.interfaces.size], [1, 1])
})

t.test('an attach that requires a new endpoint evicts that of a container that is gone', async t => {
  const host = new MemoryHost()
  await host.endpoints.attach(request())
  host.goneNetns.add(NETNS)
  host.devices.interfaces.clear()
  const again = await host.endpoints.attach(request({ exclusive: true, netns: '/run/netns/new' }))
  t.equal(again.network, 'red')
  t.match(host.devices.interfaces.get(VETH), { netns: '/run/netns/new' })
})

t.test('an endpoint of another host is never evicted', async t => {
  const host = new MemoryHost()
  attachElsewhere(host)
  await t.rejects(host.endpoints.attach(request({ exclusive: true })), { code: 'ERR_ENDPOINT_EXISTS' })
  t.equal(host.caller.state.endpointCount, 1)
})

t.test('an attach that is refused changes neither the state nor the kernel', async t => {
  for (const [what, prepare, p, refusal] of [
    ['no namespace', host => host.goneNetns.add(NETNS), {}, { code: 'ERR_NETNS', field: 'netns' }],
    [
      'no network',
      () => undefined,
      { network: parseNetworkName('none') },
      { code: 'ERR_NETWORK_NOT_FOUND', field: 'network' }
    ],
    [
      'a rate that the kernel cannot enforce',
      host => (host.devices.support = { rate: false, fqCodel: false, delay: false }),
      { ingressRate: 8_000 },
      { code: 'ERR_UNSUPPORTED', field: 'ingressRate' }
    ],
    [
      'a delay that the kernel cannot enforce',
      host => (host.devices.support = { rate: true, fqCodel: true, delay: false }),
      { egressRate: 8_000, delayUs: 1_000 },
      { code: 'ERR_DELAY_UNSUPPORTED', field: 'delayUs' }
    ],
    [
      'too many changes in flight',
      host => (host.failProposal = () => new VxmeshError('ERR_BUSY', 'retry')),
      {},
      { code: 'ERR_BUSY' }
    ]
  ] as readonly (readonly [
    string,
    (host: MemoryHost) => unknown,
    Partial<EndpointAttachRequest>,
    { readonly code: string; readonly field?: string }
  ])[]) {
    const host = new MemoryHost()
    prepare(host)
    await t.rejects(host.endpoints.attach(request(p)), refusal, what)
    t.same([host.caller.state.endpointCount, host.devices.interfaces.size, host.records.size], [0, 0, 0], what)
    t.notOk(host.local.isBusy(KEY), what)
  }
})

t.test('a container that ends while it is attached leaves no endpoint, no interface and no record', async t => {
  const host = new MemoryHost()
  const attach = host.devices.attach.bind(host.devices)
  host.devices.attach = async (...args: Parameters<typeof attach>) => {
    const result = await attach(...args)
    host.goneNetns.add(NETNS)
    return result
  }
  await t.rejects(host.endpoints.attach(request()), { code: 'ERR_NETNS', message: /ended while it was attached/ })
  t.same([host.caller.state.endpointCount, host.devices.interfaces.size, host.records.size], [0, 0, 0])
  t.notOk(host.local.isBusy(KEY))
})

t.test('an unshaped endpoint does not need a kernel that can shape', async t => {
  const host = new MemoryHost()
  host.devices.support = { rate: false, fqCodel: false, delay: false }
  await host.endpoints.attach(request())
  t.notOk(host.devices.calls.includes('shapingSupport'))
})

t.test('if the kernel refuses, the allocation that was made for it is released, and no other', async t => {
  const host = new MemoryHost()
  host.devices.failures.set('attach', kernelError)
  await t.rejects(host.endpoints.attach(request()), kernelError)
  t.equal(host.caller.state.endpointCount, 0)
  host.devices.failures.clear()
  await host.endpoints.attach(request())
  host.devices.failures.set('attach', kernelError)
  await t.rejects(host.endpoints.attach(request()), kernelError)
  t.equal(host.caller.state.endpointCount, 1, 'it was there before')
})

t.test(
  'if the allocation cannot be released, the kernel’s error is reported and the release left to be finished',
  async t => {
    const host = new MemoryHost()
    host.devices.failures.set('attach', kernelError)
    host.failProposal = ({ kind }) =>
      kind === 'endpoint-detach' ? new VxmeshError('ERR_NO_QUORUM', 'no leader') : null
    await t.rejects(host.endpoints.attach(request()), kernelError)
    t.equal(host.caller.state.endpointCount, 1)
    t.equal(host.local.netnsState(KEY), 'unrecorded', 'so that the collector releases it')
  }
)

t.test('update commits and shapes the interface of this host', async t => {
  const host = new MemoryHost()
  await host.endpoints.attach(request())
  const endpoint = await host.endpoints.update(WEB, ETH0, { delayUs: 1_000 })
  t.match(endpoint, { delayUs: 1_000 })
  t.match(host.devices.interfaces.get(VETH)?.shaping, { delayUs: 1_000 })
  t.same(host.kernelTurns.slice(2), ['exclusively'])
})

t.test('an update of another host’s endpoint is committed alone, and its delay is refused', async t => {
  const host = new MemoryHost()
  attachElsewhere(host)
  t.match(await host.endpoints.update(WEB, ETH0, { egressRate: 8_000, delayUs: 0 }), { egressRate: 8_000 })
  t.same([host.devices.calls, host.kernelTurns], [[], []])
  await t.rejects(host.endpoints.update(WEB, ETH0, { delayUs: 1 }), {
    code: 'ERR_DELAY_UNSUPPORTED',
    message: /h2/,
    field: 'delayUs'
  })
})

t.test('labels are committed, and the kernel is asked for nothing: there are none in it', async t => {
  const host = new MemoryHost()
  host.caller.raise()
  t.same((await host.endpoints.attach(request({ labels: { app: 'web' } }))).labels, { app: 'web' })
  const [turns, calls] = [host.kernelTurns.length, host.devices.calls.length]
  host.devices.support = { rate: false, fqCodel: false, delay: false }
  t.same((await host.endpoints.update(WEB, ETH0, { labels: { tier: 'front' } })).labels, { app: 'web', tier: 'front' })
  t.same(host.caller.state.endpoint(KEY)?.labels, { app: 'web', tier: 'front' })
  t.same([host.kernelTurns.length, host.devices.calls.length], [turns, calls])
  t.notOk('labels' in (await host.endpoints.update(WEB, ETH0, { labels: { app: null, tier: null } })))
})

t.test('an update that is refused changes neither the state nor the kernel', async t => {
  const host = new MemoryHost()
  await t.rejects(host.endpoints.update(WEB, ETH0, { egressRate: 8_000 }), {
    code: 'ERR_ENDPOINT_NOT_FOUND',
    field: 'containerId'
  })
  await host.endpoints.attach(request())
  host.devices.support = { rate: false, fqCodel: false, delay: false }
  await t.rejects(host.endpoints.update(WEB, ETH0, { egressRate: 8_000 }), { code: 'ERR_UNSUPPORTED' })
  t.match(host.caller.state.endpoint(KEY), { egressRate: 0 })
  t.match(host.devices.interfaces.get(VETH), { shaping: { egressRate: 0 } })
})

t.test('detach removes the interface, then the record, then the allocation', async t => {
  const host = new MemoryHost()
  await host.endpoints.attach(request())
  const seen: unknown[] = []
  host.failProposal = () => {
    seen.push([host.devices.interfaces.size, host.records.size, host.caller.state.endpointCount])
    return null
  }
  t.equal(await host.endpoints.detach(WEB, ETH0, ({ network }) => network), 'red')
  t.same(seen, [[0, 0, 1]])
  t.equal(host.caller.state.endpointCount, 0)
})

t.test('detach of another host’s endpoint releases it without touching this kernel', async t => {
  const host = new MemoryHost()
  attachElsewhere(host)
  await host.endpoints.detach(WEB, ETH0, () => null)
  t.same([host.caller.state.endpointCount, host.devices.calls], [0, []])
})

t.test('a detach that fails skips its remaining steps', async t => {
  const host = new MemoryHost()
  await t.rejects(
    host.endpoints.detach(WEB, ETH0, () => null),
    { code: 'ERR_ENDPOINT_NOT_FOUND', field: 'containerId' }
  )
  await host.endpoints.attach(request())
  host.devices.failures.set('detach', kernelError)
  await t.rejects(
    host.endpoints.detach(WEB, ETH0, () => null),
    kernelError
  )
  t.same([host.records.size, host.caller.state.endpointCount], [1, 1])
})

t.test('operations of one container interface run in order, those of others in parallel', async t => {
  const host = new MemoryHost()
  const order: string[] = []
  let release: () => void = () => undefined
  const gate = new Promise<void>(resolve => (release = resolve))
  await host.endpoints.attach(request())
  const endpoint = host.caller.state.endpoint(KEY)
  if (endpoint === undefined) throw new Error('not attached')
  const first = host.endpoints.releaseIf(endpoint, async () => {
    order.push('first')
    await gate
    return false
  })
  const second = host.endpoints.detach(WEB, ETH0, () => order.push('second'))
  await host.endpoints.attach(request({ containerId: parseContainerId('other') }))
  await settle()
  t.same(order, ['first'])
  release()
  t.equal(await first, false)
  await second
  t.same(order, ['first', 'second'])
})

t.test('an endpoint is released only while the condition holds, on its own host', async t => {
  const host = new MemoryHost()
  const endpoint = await host.endpoints.attach(request())
  t.equal(await host.endpoints.releaseIf(endpoint, () => Promise.resolve(false)), false)
  t.equal(host.caller.state.endpointCount, 1)
  t.equal(await host.endpoints.releaseIf(endpoint, () => Promise.resolve(true)), true)
  t.equal(host.caller.state.endpointCount, 0)
  t.equal(await host.endpoints.releaseIf(endpoint, () => Promise.resolve(true)), false, 'already released')
  attachElsewhere(host)
  t.equal(await host.endpoints.releaseIf(endpoint, () => Promise.resolve(true)), false, 'it is on another host now')
})

t.test('an endpoint is busy exactly while it is attached or detached', async t => {
  const host = new MemoryHost()
  const busy: boolean[] = []
  host.failProposal = () => {
    busy.push(host.local.isBusy(KEY))
    return null
  }
  await host.endpoints.attach(request())
  await host.endpoints.detach(WEB, ETH0, () => null)
  t.same(
    [busy, host.local.isBusy(KEY), host.local.isBusy(endpointKey(parseContainerId('other'), ETH0))],
    [[true, true], false, false]
  )
})
