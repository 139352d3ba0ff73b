// The Open vSwitch driver's composition: its forwarding, what an attach connects, and the ports of routers, over a switch
// in memory.

import fc from 'fast-check'
import t from 'tap'
import { RouterPorts, SwitchConnector } from '#overlay/ovs/connector.ts'
import { SwitchForwarding } from '#overlay/ovs/forwarding.ts'
import type { AttachRequest } from '#overlay/driver.ts'
import { attachRequest } from '#overlay/driver.ts'
import { forwardingPart } from '#overlay/forwarding-part.ts'
import { runPart, type Look } from '#overlay/pass.ts'
import { desiredGateways, type DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import { desired, type DesiredHost, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { routerPortName, vethName } from '#overlay/plan/network/names.ts'
import { anyInput46 } from '../arbitraries.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../fixtures.ts'
import { MemorySwitch, switchParts } from '../memory-switch.ts'

const PORT = 4789
const [red, blue] = [makeNetwork('red', 0xabc), makeNetwork('blue', 0xdef)]

function inputOf(...containers: readonly string[]): DesiredInput {
  const endpoints = containers.flatMap((container, n) =>
    [red, blue].map(network =>
      makeEndpoint(network, { container: `${container}-${network.name}`, host: 1, address: `10.1.0.${n + 2}` })
    )
  )
  return {
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks: [red, blue],
    endpoints: byNetwork(endpoints),
    hosts: [makeHost(1), makeHost(2)],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: PORT
  }
}

function gatewaysOf(input: DesiredInput): DesiredGateways {
  return desiredGateways({
    ...input,
    transit: { base: 0xf0000000 as never, prefixLength: 8 },
    bind: input.selfVtep,
    memberAddresses: []
  })
}

function look(input: DesiredInput, change: Partial<Look> = {}): Look {
  const state = { host: () => desired(input), gateways: () => gatewaysOf(input) }
  return { scope: null, trust: false, mayRemove: true, desired: state, ...change }
}

function make(refused?: ReadonlySet<string>) {
  const memory = new MemorySwitch()
  const parts = switchParts(memory, refused)
  const forwarding = new SwitchForwarding({ ...parts, port: PORT })
  const connector = new SwitchConnector({ bridge: parts.bridge, datapath: 'system', forwarding })
  return { memory, ...parts, forwarding, connector, part: forwardingPart(forwarding) }
}

function requestOf(input: DesiredInput, network = red): AttachRequest {
  const [endpoint] = input.endpoints.get(network.name) ?? []
  if (endpoint === undefined) throw new Error('no endpoint')
  return attachRequest({ endpoint, network, overlayMtu: 1450, netns: '/x', withRoute: false })
}

t.test('from any state, one pass reaches the desired state and the next has nothing to do', async () => {
  await fc.assert(
    fc.asyncProperty(anyInput46, anyInput46, async (before, after) => {
      const { memory, part } = make()
      for (const input of [before, after]) {
        memory.attach(desired(input))
        const { problems } = await runPart(part, look(input))
        const again = await runPart(part, look(input))
        if (problems.length + again.attempted.length > 0) return false
      }
      return true
    }),
    { numRuns: 200 }
  )
})

t.test('an attach adds the port and its flows before it sets the device up, and removes nothing', async t => {
  const { memory, connector, trace, part } = make()
  await runPart(part, look(inputOf()))
  const [one, both] = [inputOf('a'), inputOf('a', 'b')]
  memory.attach(desired(both))
  memory.ports.set('ve00000000000aa', {
    number: 9,
    requested: 9,
    mark: { vni: red.vni, alias: 'x', mac: 'x' },
    ifindex: 99
  })
  trace.splice(0)
  await connector.connect(requestOf(one), desired(one))
  const { hostInterface } = requestOf(one)
  t.strictSame(
    trace.filter(line => line.endsWith(hostInterface)),
    [`switch-port-set ${hostInterface}`, `link-set ${hostInterface}`]
  )
  t.ok(trace.some(line => line.startsWith('flows-set')))
  t.ok(trace.findIndex(line => line.startsWith('flows-set')) < trace.indexOf(`link-set ${hostInterface}`))
  t.notOk(
    trace.some(line => line.includes('delete')),
    'removals wait for a pass'
  )
  t.ok(memory.ports.has('ve00000000000aa'))
  t.equal(memory.links.get(hostInterface)?.up, true)
  t.equal(connector.portNumber(hostInterface), memory.ports.get(hostInterface)?.number)
})

t.test('a requested port number is used if it is free', async t => {
  const { memory, connector, part } = make()
  const input = inputOf('a')
  await runPart(part, look(inputOf()))
  memory.attach(desired(input))
  await connector.connect({ ...requestOf(input), portNumber: 42 }, desired(input))
  t.equal(connector.portNumber(requestOf(input).hostInterface), 42)
  await connector.connect({ ...requestOf(input, blue), portNumber: 42 }, desired(input))
  const second = connector.portNumber(requestOf(input, blue).hostInterface)
  t.ok(second > 1 && second !== 42, `the other gets ${second}`)
  await runPart(part, look(input))
  t.equal(connector.portNumber(requestOf(input).hostInterface), 42, 'and keeps it')
})

t.test('an attach fails in a network without desired state, or when its port cannot be added', async t => {
  const input = inputOf('a')
  const { hostInterface } = requestOf(input)
  const { memory, connector, part } = make(new Set([hostInterface]))
  await runPart(part, look(inputOf()))
  memory.attach(desired(input))
  const nothing: DesiredHost = { networks: new Map(), peers: new Map() }
  const unknown = connector.connect(requestOf(input), nothing)
  await t.rejects(unknown, { code: 'ERR_KERNEL', message: /network 2748 is not made here/ })
  const refused = connector.connect(requestOf(input), desired(input))
  await t.rejects(refused, { code: 'ERR_KERNEL', message: /could not open network device/ })
  t.equal(connector.portNumber(hostInterface), 0)
  await t.rejects(connector.check(requestOf(input)), { code: 'ERR_CHECK_FAILED' })
  await connector.connect(requestOf(input, blue), desired(input))
  await connector.check(requestOf(input, blue))
})

t.test('an attach fails when its interface has vanished, and not when another one has', async t => {
  const input = inputOf('a', 'b')
  const request = requestOf(input)
  for (const { containerId, ifname } of input.endpoints.get(red.name) ?? []) {
    const gone = vethName(containerId, ifname)
    const { memory, connector, part, devices } = make(new Set([gone]))
    await runPart(part, look(inputOf()))
    memory.attach(desired(input))
    const ifindexOf = devices.ifindexOf.bind(devices)
    devices.ifindexOf = (name: string) => (name === gone ? 0 : ifindexOf(name))
    const connecting = connector.connect(request, desired(input))
    if (gone === request.hostInterface) await t.rejects(connecting, { code: 'ERR_KERNEL', message: /vanished/ })
    else await t.resolves(connecting)
    t.equal(connector.portNumber(gone), 0)
  }
})

t.test('the userspace datapath enforces neither rate nor delay, the kernel datapath what the kernel can', async t => {
  const all = { rate: true, fqCodel: true, delay: true }
  const { bridge, forwarding, connector } = make()
  t.strictSame(connector.limit(all), all)
  const userspace = new SwitchConnector({ bridge, datapath: 'netdev', forwarding })
  t.strictSame(userspace.limit(all), { rate: false, fqCodel: true, delay: false })
})

t.test('new routers become ports, each with a number of its own; with ports for all, nothing is read', async t => {
  const { memory, part, forwarding, trace } = make()
  const input = inputOf('a')
  await runPart(part, look(input))
  const routers = new RouterPorts(forwarding)
  t.strictSame((await runPart(routers, look(input))).attempted, [], 'before they exist there is nothing to connect')
  memory.attach(desired(input))
  const { problems } = await runPart(routers, look(input))
  t.strictSame(problems, [])
  const numbers = [red, blue].map(({ vni }) => forwarding.portNumber(routerPortName(vni)))
  t.ok(numbers.every(number => number > 0))
  t.equal(new Set(numbers).size, 2)
  trace.splice(0)
  t.equal(await routers.observe(look(input)), null)
  memory.ports.set('ve00000000000aa', {
    number: 9,
    requested: 9,
    mark: { vni: red.vni, alias: 'x', mac: 'x' },
    ifindex: 99
  })
  memory.ports.delete(routerPortName(red.vni))
  await runPart(part, look(input, { mayRemove: false }))
  t.ok(memory.ports.has('ve00000000000aa'))
})

t.test('a pass over one network connects only its router, and a failure is a problem of its egress', async t => {
  const input = inputOf('a')
  const { memory, part, forwarding } = make(new Set([routerPortName(blue.vni)]))
  await runPart(part, look(input))
  memory.attach(desired(input))
  const routers = new RouterPorts(forwarding)
  await runPart(routers, look(input, { scope: red.vni }))
  t.ok(forwarding.portNumber(routerPortName(red.vni)) > 0)
  t.equal(forwarding.portNumber(routerPortName(blue.vni)), 0)
  t.match((await runPart(routers, look(input))).problems, [
    { vni: blue.vni, effect: 'no way to the outside', error: { message: /could not open network device/ } }
  ])
})
