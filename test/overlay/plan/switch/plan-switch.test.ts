// The planner and the flows of the Open vSwitch driver, against a switch in memory.

import fc from 'fast-check'
import t from 'tap'
import type { IfName } from '#model/ids.ts'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { TC_H_ROOT } from '#overlay/netlink/tc-constants.ts'
import { handleOf } from '#overlay/netlink/tc.ts'
import { bundleOf, cookieOf, diffFlows, narrows, parseFlows } from '#overlay/plan/switch/flow.ts'
import { hostFlows, networkFlows } from '#overlay/plan/switch/pipeline.ts'
import { planSwitch } from '#overlay/plan/switch/plan-switch.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import type { Observed } from '#overlay/plan/network/observed.ts'
import type { Flows } from '#overlay/plan/network/switch.ts'
import { childParent } from '#overlay/plan/shaping/plan-shaping.ts'
import { queueFor } from '#overlay/plan/shaping/queue.ts'
import { vtepsOf } from '#overlay/plan/underlay/peers.ts'
import { anyInput46 } from '../../arbitraries.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'
import { MemorySwitch } from '../../memory-switch.ts'

const PORT = 4789
const red = makeNetwork('red', 0xabc)
const subnet6 = parseSubnet('fd00:1::/64')
const none = { port: PORT, requested: new Map<string, number>() }

/** The first network may have both families. */
const anyFamilies = fc.tuple(anyInput46, fc.boolean()).map(([input, both]): DesiredInput => {
  const [first, ...others] = input.networks
  return both && first !== undefined ? { ...input, networks: [{ ...first, subnet6 }, ...others] } : input
})

function inputOf(endpoints: readonly [string, number, string][]): DesiredInput {
  return {
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks: [red],
    endpoints: byNetwork(
      endpoints.map(([container, host, address]) => makeEndpoint(red, { container, host, address }))
    ),
    hosts: [makeHost(1), makeHost(2), makeHost(3)],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: PORT
  }
}

t.test('from any state one plan reaches the desired state, and the next is empty', t => {
  fc.assert(
    fc.property(anyFamilies, anyFamilies, fc.boolean(), (before, after, orderly) => {
      const memory = new MemorySwitch()
      const first = desired(before)
      memory.attach(first)
      memory.execute(planSwitch(first, memory.observe(), none).ops)
      // Changes by another program.
      if (!orderly) {
        memory.flows.delete(0)
        for (const flows of memory.flows.values()) {
          for (const key of [...flows.keys()].slice(0, 2)) flows.set(key, 'NORMAL')
          flows.set('table=7, priority=1', 'drop')
        }
        for (const [name, port] of [...memory.ports].slice(0, 2)) memory.ports.set(name, { ...port, number: 0 })
      }
      const second = desired(after)
      memory.attach(second)
      memory.execute(planSwitch(second, memory.observe(), none).ops)
      t.same(planSwitch(second, memory.observe(), none).ops, [])
      const numbers = [...memory.ports.values()].map(({ number }) => number)
      t.equal(new Set(numbers).size, numbers.length, 'no number twice')
    }),
    { numRuns: 200 }
  )
  t.end()
})

t.test('a container’s device is set up last, and flows to a port are deleted before the port', t => {
  const memory = new MemorySwitch()
  const host = desired(inputOf([['a', 1, '10.1.0.2']]))
  memory.attach(host)
  const { ops } = planSwitch(host, memory.observe(), none)
  t.same(
    ops.map(({ kind }) => kind),
    ['switch-set', 'switch-port-set', 'switch-port-set', 'flows-set', 'flows-set', 'link-set']
  )
  memory.execute(ops)
  memory.links.clear()
  memory.routers.clear()
  const gone = planSwitch(desired(inputOf([])), memory.observe(), none).ops
  t.same(
    gone.map(({ kind }) => kind),
    ['flows-delete', 'switch-port-delete', 'switch-port-delete']
  )
  t.end()
})

t.test('a device is shaped after it became a port, because the switch removes its queues', t => {
  const memory = new MemorySwitch()
  const shaping = { ingressRate: 10e6, egressRate: 0, delayUs: 0 }
  const endpoint = { ...makeEndpoint(red, { container: 'a', host: 1, address: '10.1.0.2' }), ...shaping }
  const host = desired({ ...inputOf([]), endpoints: byNetwork([endpoint]) })
  memory.attach(host)
  const [device = ''] = memory.links.keys()
  const support = { rate: true, fqCodel: false, delay: true }
  const specs = queueFor({ rate: shaping.ingressRate, delayUs: 0, mtu: 1450, support })
  const handles = { tbf: handleOf(0x7678), bfifo: handleOf(0x767b), netem: 0, fq_codel: 0 }
  const into = specs.map((spec, level) => {
    const parent = level === 0 ? TC_H_ROOT : childParent(handles.tbf)
    return { ifindex: 10, kind: spec.kind, handle: handles[spec.kind], parent, spec }
  })
  const observe = (): Observed => ({
    ...memory.observe(),
    shaping: { support, byVeth: new Map([[device, { into, redirect: 'none', ifb: null }]]) }
  })
  const { ops } = planSwitch(host, observe(), none)
  const kinds = ops.filter(op => op.device === device).map(({ kind }) => kind)
  t.same(kinds, ['switch-port-set', 'shape', 'link-set'])
  memory.execute(ops.filter(({ kind }) => kind !== 'shape'))
  t.same(planSwitch(host, observe(), none).ops, [], 'an existing port keeps its queues')
  const link = memory.links.get(device)
  if (link !== undefined) memory.links.set(device, { ...link, ifindex: 98 })
  const again = planSwitch(host, observe(), none).ops.map(({ kind }) => kind)
  t.same(again, ['switch-port-set', 'shape'], 'a new device of the same name needs a new port')
  t.end()
})

t.test('removals are in an op of their own, which can wait', t => {
  const memory = new MemorySwitch()
  const both = desired(
    inputOf([
      ['a', 1, '10.1.0.2'],
      ['b', 2, '10.1.0.3'],
      ['c', 3, '10.1.0.4']
    ])
  )
  memory.attach(both)
  memory.execute(planSwitch(both, memory.observe(), none).ops)
  const fewer = desired(
    inputOf([
      ['a', 1, '10.1.0.2'],
      ['b', 2, '10.1.0.3'],
      ['d', 2, '10.1.0.5']
    ])
  )
  const { ops } = planSwitch(fewer, memory.observe(), none)
  const adds = ops.filter(({ kind }) => kind === 'flows-set')
  memory.execute(adds)
  const flood = [...(memory.flows.get(red.vni) ?? [])].find(([key]) => /table=4.*dl_dst=01:00/.test(key))?.[1]
  t.match(flood, /192.0.2.3/, 'the host that may be gone is still flooded')
  memory.execute(ops.filter(({ kind }) => kind === 'flows-delete'))
  t.same(planSwitch(fewer, memory.observe(), none).ops, [])
  t.equal(narrows('output:1,output:2', 'output:1'), true)
  t.equal(narrows('output:1', 'output:2'), false, 'a moved entry takes no connectivity away')
  t.equal(narrows(undefined, 'drop'), false)
  t.end()
})

t.test('a foreign port is left alone, and its number is not assigned', t => {
  const memory = new MemorySwitch()
  const host = desired(
    inputOf([
      ['a', 1, '10.1.0.2'],
      ['b', 1, '10.1.0.3']
    ])
  )
  memory.attach(host)
  const [a, b] = [...memory.links.keys()] as [IfName, IfName]
  memory.ports.set(a, { number: 2, requested: 2, mark: null, ifindex: 1 })
  const { ops, conflicts } = planSwitch(host, memory.observe(), { ...none, requested: new Map([[b, 2]]) })
  t.match(conflicts, [{ device: a, reason: /not ours/ }])
  const numbers = ops.flatMap(op => (op.kind === 'switch-port-set' && op.device === b ? [op.number] : []))
  t.same(numbers.length, 1)
  t.not(numbers[0], 2)
  const asked = planSwitch(host, memory.observe(), { ...none, requested: new Map([[b, 500]]) }).ops
  t.match(
    asked.find(op => op.kind === 'switch-port-set' && op.device === b),
    { number: 500 }
  )
  t.end()
})

t.test('a missing interface is reported, and its port is deleted', t => {
  const memory = new MemorySwitch()
  const host = desired(inputOf([['a', 1, '10.1.0.2']]))
  memory.attach(host)
  memory.execute(planSwitch(host, memory.observe(), none).ops)
  memory.links.clear()
  const { ops, missing } = planSwitch(host, memory.observe(), none)
  t.match(missing, [{ vni: red.vni, endpoint: 'a/eth0' }])
  t.match(
    ops.map(({ kind }) => kind),
    ['flows-delete', 'switch-port-delete']
  )
  t.end()
})

t.test('no network has another’s flows, and every flow of a network names it or its port', t => {
  fc.assert(
    fc.property(anyFamilies, input => {
      const host = desired(input)
      let number = 2
      for (const network of host.networks.values()) {
        const devices = [...network.endpoints.keys(), ...(network.router === null ? [] : [network.router.port])]
        const ports = new Map(devices.map(device => [device, number++] as const))
        const vni = `0x${network.vni.toString(16)}`
        const own = new Set(ports.values())
        for (const [key, actions] of networkFlows(network, ports)) {
          const port = /in_port=(\d+)/.exec(key)?.[1]
          const named = key.includes(`metadata=${vni},`) || key.includes(`tun_id=${vni},`)
          t.ok(named || (port !== undefined && own.has(Number(port))), key)
          for (const [, output] of actions.matchAll(/output:(\d+)/g)) {
            t.ok(output === '1' || own.has(Number(output)), `${key} ${actions}`)
          }
          if (actions.includes('output:1,') || actions.endsWith('output:1')) {
            t.ok(actions.includes(`set_field:${vni}->tun_id`), 'packets into the tunnel carry their VNI')
          }
        }
      }
    }),
    { numRuns: 100 }
  )
  t.end()
})

t.test('only peers may send, and banned messages are dropped', t => {
  const flows = hostFlows({ vteps: vtepsOf(desired(inputOf([])).peers), port: 4790 })
  const keys = [...flows.keys()]
  t.same(
    keys.filter(key => key.includes('tun_src')),
    ['192.0.2.2', '192.0.2.3'].map(vtep => `priority=100,tun_src=${vtep},in_port=1`)
  )
  for (const port of ['tp_src=67', 'tp_dst=68', 'tp_dst=4789', 'tp_dst=4790']) {
    t.equal(flows.get(`table=3, priority=100,udp,${port}`), 'drop')
  }
  t.end()
})

t.test('over IPv6 the tunnel’s flows match and set the addresses of IPv6', t => {
  const hosts = [1, 2, 3].map(n => makeHost(n, parseIp(`fd00::${n}`)))
  const places = [
    ['c1', 1, '10.1.0.2'],
    ['c2', 2, '10.1.0.3']
  ] as [string, number, string][]
  const want = desired({ ...inputOf(places), hosts, selfVtep: parseIp('fd00::1') })
  const keys = [...hostFlows({ vteps: vtepsOf(want.peers), port: 4789 }).keys()]
  t.same(
    keys.filter(key => key.includes('src=fd')),
    [2, 3].map(n => `priority=100,tun_ipv6_src=fd00::${n},in_port=1`)
  )
  const network = want.networks.get(red.vni)
  if (network === undefined) throw new Error('no network')
  const actions = [...networkFlows(network, new Map()).values()].filter(text => text.includes('output:1'))
  t.ok(actions.length >= 2, 'to a container and to all')
  for (const text of actions) t.match(text, 'set_field:fd00::2->tun_ipv6_dst,output:1')
  t.end()
})

t.test('a port sends IPv6 from its own address alone, and is found by it', t => {
  const both = makeNetwork('red', 0xabc, { subnet6 })
  const endpoints = [
    makeEndpoint(both, { container: 'a', host: 1, address: '10.1.0.2' }),
    makeEndpoint(both, { container: 'b', host: 2, address: '10.1.0.3' })
  ]
  const host = desired({ ...inputOf([]), networks: [both], endpoints: byNetwork(endpoints) })
  const [network] = host.networks.values()
  const [device] = network?.endpoints.keys() ?? []
  const router = network?.router ?? null
  if (network === undefined || router === null || device === undefined) throw new Error('one container and a router')
  const flows = networkFlows(
    network,
    new Map([
      [device, 3],
      [router.port, 2]
    ] as const)
  )
  const own = 'in_port=3,dl_src=02:bc:0a:01:00:02,ipv6_src=fd00:1::2'
  const nd = `table=2, priority=110,icmp6,${own},nw_frag=no,icmp_type`
  t.strictSame(
    [...flows].filter(([key]) => key.includes('ipv6_src')),
    [
      [`table=2, priority=100,ipv6,${own}`, 'goto_table:3'],
      [`${nd}=135,icmp_code=0,nd_sll=02:bc:0a:01:00:02`, 'goto_table:3'],
      [`${nd}=136,icmp_code=0,nd_target=fd00:1::2,nd_tll=02:bc:0a:01:00:02`, 'goto_table:4'],
      [`${nd}=136,icmp_code=0,nd_target=fd00:1::2,nd_tll=00:00:00:00:00:00`, 'goto_table:4']
    ]
  )
  for (const [address, mac] of [
    ['fd00:1::1', router.mac],
    ['fd00:1::2', '02:bc:0a:01:00:02'],
    ['fd00:1::3', '02:bc:0a:01:00:03']
  ]) {
    const asked = `table=3, priority=100,icmp6,metadata=0xabc,icmp_type=135,icmp_code=0,nd_target=${address}`
    t.equal(flows.get(asked), `set_field:${mac}->eth_dst,goto_table:4`)
  }
  t.equal(flows.get(`table=2, priority=110,ipv6,in_port=2,dl_src=${router.mac}`), 'goto_table:5')
  const [plain] = desired(inputOf([['a', 1, '10.1.0.2']])).networks.values()
  if (plain === undefined) throw new Error('a network')
  const keys = [...networkFlows(plain, new Map([[device, 3]])).keys()]
  t.same(
    keys.filter(key => /ipv6|icmp6/.test(key)),
    [],
    'a port of a network without IPv6 sends none'
  )
  const shared = hostFlows({ vteps: new Set(), port: 4790 })
  for (const match of ['udp6,tp_src=547', 'udp6,tp_dst=546', 'udp6,tp_dst=4789', 'udp6,tp_dst=4790']) {
    t.equal(shared.get(`table=3, priority=100,${match}`), 'drop')
  }
  t.equal(shared.get('table=3, priority=80,ipv6'), 'drop', 'what no flow names')
  for (const type of [2, 133, 134, 136, 137]) {
    t.equal(
      shared.get(`table=3, priority=90,icmp6,icmp_type=${type}`),
      undefined,
      `ICMPv6 type ${type} is not among it`
    )
  }
  t.end()
})

t.test('a dump parses back as it was written, without flows of another cookie', t => {
  const flows: Flows = new Map([
    ['priority=100,in_port=2', 'write_metadata:0xabc,goto_table:2'],
    ['table=3, priority=0', 'goto_table:4']
  ])
  const dump = [...flows].map(([key, actions]) => ` cookie=${cookieOf(red.vni)}, ${key} actions=${actions}`)
  const foreign = [
    ' cookie=0x1, priority=1 actions=drop',
    ' cookie=0x76786e0000000abc, priority=1 actions=drop',
    'OFPST_FLOW reply',
    ''
  ]
  t.same(parseFlows([...foreign, ...dump].join('\n')), new Map([[red.vni, flows]]))
  t.equal(cookieOf(0), '0x76786d0000000000')
  const change = diffFlows(red.vni, flows, new Map([['priority=1', 'drop']]))
  t.equal(
    bundleOf([change]),
    [
      'delete_strict cookie=0x76786d0000000abc/-1, priority=1',
      'add cookie=0x76786d0000000abc, priority=100,in_port=2 actions=write_metadata:0xabc,goto_table:2',
      'add cookie=0x76786d0000000abc, table=3, priority=0 actions=goto_table:4',
      ''
    ].join('\n')
  )
  t.end()
})
