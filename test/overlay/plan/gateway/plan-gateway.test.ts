// Planning of routers: which networks get one, which facts differ, and which rules guard it.

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { macOf } from '#model/mac.ts'
import { desiredFacts, differing } from '#overlay/plan/gateway/facts.ts'
import {
  describeGatewayOp,
  planGateways,
  removesGateway,
  type ObservedGateways,
  type ObservedHost
} from '#overlay/plan/gateway/plan-gateway.ts'
import { closedIn, FORWARD_REMEDY, foreignForwardDrops, hostRules, routerRules } from '#overlay/plan/gateway/rules.ts'
import { isPlainName } from '#overlay/plan/gateway/rule-text.ts'
import {
  desiredGateways,
  isRouterDevice,
  OUTSIDE_GROUP,
  parseRouterName,
  routerDevice,
  routerNames,
  type DesiredGateways,
  type DesiredRouter
} from '#overlay/plan/gateway/desired-gateway.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const red = makeNetwork('red', 0xabc, { egressRate: 1e6 })
const blue = makeNetwork('blue', 0xdef)
const shut = makeNetwork('shut', 0x123, { egress: false })
const transit = { base: 0xf0000000 as Ipv4, prefixLength: 8 }

function wanted(endpoints = [red, blue, shut].map(network => at(network, 1))): DesiredGateways {
  return desiredGateways({
    self: peer(1),
    selfVtep: parseIpv4('192.0.2.1'),
    networks: [red, blue, shut],
    endpoints: byNetwork(endpoints),
    hosts: [makeHost(1), makeHost(2, parseIpv4('198.18.0.2'))],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789,
    transit,
    bind: parseIpv4('192.0.2.201'),
    memberAddresses: [parseIpv4('192.0.2.77')]
  })
}

function at(network: typeof red, host: number): ReturnType<typeof makeEndpoint> {
  return makeEndpoint(network, { container: `${network.name}${host}`, host, address: '10.1.0.2' })
}

function router(vni = red.vni): DesiredRouter {
  const found = wanted().routers.get(vni)
  if (found === undefined) throw new Error('no router')
  return found
}

const host: ObservedHost = {
  uplinks: [
    { name: 'eth0', forwarding: false },
    { name: 'eth1', forwarding: true }
  ],
  ipForward: false,
  underlay: [{ base: parseIpv4('192.0.2.0'), prefixLength: 24 }],
  exits: ['eth0'],
  tableSize: 262_144,
  closed: [],
  rules: null,
  table: false,
  routes: { ours: new Map(), others: [] },
  v6: { exits: [], bridges: [], rules: null, table: false, forwards: false, isRouter: false, isClosed: false }
}

function observed(change: Partial<ObservedGateways> = {}): ObservedGateways {
  return { host, routers: new Map(), leftovers: [], ...change }
}

function found(r: DesiredRouter, change: ReadonlyMap<string, string> = new Map()): ObservedGateways['routers'] {
  const facts = new Map([...desiredFacts(r), ...change])
  return new Map([[r.vni, { found: 'vxr-000abc', conflict: null, facts }]])
}

t.test('a network has a router here exactly when it has egress and an endpoint here', t => {
  t.same([...wanted().routers.keys()], [red.vni, blue.vni])
  t.same([...wanted([at(red, 2), at(blue, 1)]).routers.keys()], [blue.vni])
  t.same([...wanted([]).routers.keys()], [])
  t.end()
})

t.test('two networks with one subnet differ in what the host sees of them', t => {
  const [a, b] = [router(red.vni), router(blue.vni)]
  const [[own], [other]] = [a.subnets, b.subnets]
  t.same([own?.gateway, own?.subnet], [other?.gateway, other?.subnet])
  t.not(own?.transit, other?.transit)
  for (const key of ['port', 'outside', 'outsideMac', 'transitMac', 'gatewayMac'] as const) {
    t.not(a[key], b[key], key)
  }
  t.equal(own?.transit, 0xf0000abc)
  t.equal(a.gatewayMac, macOf(red.vni, red.gateway), 'the MAC that no endpoint of the network can have')
  t.end()
})

t.test('only our own names and marks are recognised', t => {
  t.same(routerNames(red.vni, 255), ['vxr-000abc', 'vxr-000abc-ff'])
  for (const name of routerNames(red.vni, 255)) t.equal(parseRouterName(name), red.vni)
  for (const name of ['vxr-', 'vxr-000000', 'vxr-00abc', 'vxr-000ABC', 'vxr-000abcd', 'vxr-000abc-', 'xvxr-000abc']) {
    t.equal(parseRouterName(name), null, name)
  }
  t.same(routerDevice('vo000abc'), { vni: red.vni, role: 'outside' })
  t.same(routerDevice('vg000abc'), { vni: red.vni, role: 'port' })
  for (const name of ['voip0', 'vo00abc', 'vo000000', 'vg000ABC', 'vb000abc']) t.equal(routerDevice(name), null, name)
  const device = { name: 'vo000abc', alias: '', group: OUTSIDE_GROUP }
  t.ok(isRouterDevice(device, OUTSIDE_GROUP))
  t.notOk(isRouterDevice({ ...device, group: 0 }, OUTSIDE_GROUP), 'neither alias nor group')
  t.notOk(isRouterDevice({ ...device, alias: 'mine' }, OUTSIDE_GROUP), 'another alias')
  t.notOk(isRouterDevice({ ...device, alias: 'vxmesh network red vni 7' }, OUTSIDE_GROUP), 'another network')
  t.end()
})

t.test('the rules come before what they guard, and each router once', t => {
  const { ops } = planGateways(wanted(), observed({ routers: new Map() }))
  t.same(
    ops.map(op => op.kind),
    ['rules-set', 'forwarding-set'],
    'nothing is planned for what was not observed'
  )
  const absent = { found: null, conflict: null, facts: new Map<string, string>() }
  const plan = planGateways(wanted(), observed({ routers: new Map([[red.vni, absent]]) }))
  t.same(
    plan.ops.map(op => op.kind),
    ['rules-set', 'forwarding-set', 'router-create']
  )
  t.notOk(plan.ops.some(removesGateway))
  t.end()
})

t.test('a router that is right needs no op; a fact that differs gives a repair that names it', t => {
  const r = router()
  const text = hostRules(wanted(), { ...host, closed: ['eth0'] })
  const settled = {
    ...host,
    rules: text,
    table: true,
    closed: ['eth0'],
    uplinks: host.uplinks.map(u => ({ ...u, forwarding: true }))
  }
  t.same(planGateways(wanted(), observed({ host: settled, routers: found(r) })), {
    ops: [],
    conflicts: [],
    refused: []
  })
  for (const fact of desiredFacts(r).keys()) {
    const { ops } = planGateways(wanted(), observed({ host: settled, routers: found(r, new Map([[fact, 'x']])) }))
    t.same(ops.map(describeGatewayOp), [`repair router vxr-000abc (vni 2748): ${fact}`])
  }
  t.same(differing(desiredFacts(r), new Map()), [...desiredFacts(r).keys()], 'an absent fact differs')
  t.end()
})

t.test('a changed egress rate is a fact of the router that differs', t => {
  const facts = new Map([['router egress rate', 'differs']])
  t.same(differing(desiredFacts(router()), new Map([...desiredFacts(router()), ...facts])), ['router egress rate'])
  t.end()
})

t.test('something else under a name of ours is a conflict, and is left alone', t => {
  const taken = { found: null, conflict: 'device vo000abc is "x", not ours', facts: new Map() }
  const { ops, conflicts } = planGateways(wanted(), observed({ routers: new Map([[red.vni, taken]]) }))
  t.same(conflicts, [{ vni: red.vni, reason: 'device vo000abc is "x", not ours' }])
  t.notOk(ops.some(op => op.kind === 'router-create'))
  t.end()
})

t.test('a device whose forwarding vxmesh enabled forwards only our traffic', t => {
  const closedOf = (change: Partial<ObservedHost>): string => {
    const op = planGateways(wanted(), observed({ host: { ...host, ...change } })).ops.find(o => o.kind === 'rules-set')
    return /set closed \{([^}]*)/.exec(op?.kind === 'rules-set' ? op.text : '')?.[1]?.trim() ?? ''
  }
  t.match(closedOf({}), /elements = \{ "eth0"$/, 'eth1 was forwarding before')
  const opened = host.uplinks.map(u => ({ ...u, forwarding: true }))
  t.match(closedOf({ uplinks: opened, closed: ['eth0'] }), /"eth0"$/, 'remembered by the rules themselves')
  t.notMatch(closedOf({ uplinks: opened, closed: ['eth0'], ipForward: true }), /eth0/, 'somebody made it a router')
  t.notMatch(closedOf({ uplinks: opened, closed: ['gone'] }), /gone/)
  t.end()
})

t.test('with the last router the rules are deleted, and forwarding that vxmesh enabled is disabled', t => {
  const after = { ...host, table: true, closed: ['eth0'], rules: 'x' }
  const leftover = { vni: red.vni, namespaces: ['vxr-000abc'], devices: [{ name: 'vo000abc', ifindex: 5 }] }
  const { ops } = planGateways(wanted([]), observed({ host: after, leftovers: [leftover] }))
  t.same(ops.map(describeGatewayOp), [
    'delete router vxr-000abc (vni 2748)',
    'switch forwarding off on eth0',
    'delete the rules for routers'
  ])
  t.ok(ops.every(removesGateway))
  t.same(planGateways(wanted([]), observed()).ops, [], 'a host that never had one is not touched')
  const router = planGateways(wanted([]), observed({ host: { ...after, ipForward: true } })).ops
  t.same(router.map(describeGatewayOp), ['delete the rules for routers'], 'a host that is a router stays one')
  t.same(
    planGateways(wanted([]), observed({ host: after }), { all: wanted() }).ops,
    [],
    'nothing is deleted while another router exists'
  )
  t.end()
})

t.test('the rules guard the underlay, every known host and the transit range', t => {
  const text = hostRules(wanted(), { ...host, closed: [] })
  for (const guarded of ['192.0.2.0/24', '198.18.0.2/32', '192.0.2.77/32', '169.254.0.0/16', '240.0.0.0/8']) {
    t.match(text, guarded)
  }
  t.match(text, /table ip vxmesh_nat/)
  t.match(routerRules(router()), /snat to 240\.0\.10\.188/)
  t.end()
})

t.test('no ICMP error from a container reaches the stack of its router or of the host', t => {
  const [host1, router1] = [hostRules(wanted(), { ...host, closed: [] }), routerRules(router())]
  const rules = (text: string, chain: string): string[] =>
    (new RegExp(`chain ${chain} \\{(.*?)\n  \\}`, 's').exec(text)?.[1] ?? '').split('\n').map(line => line.trim())
  for (const text of [host1, router1]) t.notMatch(rules(text, 'input').join(), /related/)
  t.equal(rules(router1, 'forward')[2], 'ct state invalid drop', 'ahead of every accept')
  t.equal(rules(host1, 'forward')[2], `iifgroup ${OUTSIDE_GROUP} ct state invalid drop`)
  t.match(
    rules(router1, 'forward').join(),
    /oifname "inside" ct state established,related accept/,
    'PMTU discovery works'
  )
  t.end()
})

t.test('new connections of a container and of a network are limited before they are accepted', t => {
  const text = routerRules(router())
  const steps = [
    'ip saddr @full drop',
    'ip saddr & 255.255.0.0 @full drop',
    'numgen random mod 32 == 0 add @connections { ip saddr ct count over 1024 } add @full { ip saddr } drop',
    'numgen random mod 64 == 0 ct count over 1024 add @full { ip saddr & 255.255.0.0 } drop'
  ]
  const at = [...steps.map(step => `iifname "inside" ct state new ${step}`), 'iifname "inside" oifname "outside"'].map(
    rule => text.indexOf(rule)
  )
  t.ok((at[0] ?? -1) > 0)
  t.same(
    at,
    [...at].sort((a, b) => a - b),
    at.join()
  )
  t.end()
})

t.test('an entry without an answer gets a short timeout before it is created, on the host for our traffic alone', t => {
  const host1 = hostRules(wanted(), { ...host, closed: [] })
  const flags = 'tcp flags & (fin | syn | rst | ack)'
  for (const [text, from] of [
    [routerRules(router()), ''],
    [host1, 'iifgroup 7764079 ']
  ] as const) {
    t.match(text, 'ct timeout half_open { protocol tcp; l3proto ip; policy = { syn_sent : 10, syn_recv : 10 }; }')
    t.match(text, 'ct timeout unseen { protocol tcp; l3proto ip; policy = { syn_sent : 30, unack : 30 }; }')
    for (const rule of [`== syn ct timeout set "half_open"`, `!= syn ct timeout set "unseen"`]) {
      t.match(text, `\n    ${from}ct state new ${flags} ${rule}`)
    }
    t.ok(text.indexOf('ct timeout set') < text.indexOf(' accept', text.indexOf('chain forward')))
  }
  t.end()
})

t.test('whatever is behind a device that is no exit is closed, but for what is opened', t => {
  const rule = 'oifname != @exits ip daddr != @opened reject'
  for (const opened of [[], [{ base: parseIpv4('172.17.0.5'), prefixLength: 32 }]]) {
    const text = hostRules({ ...wanted(), opened }, { ...host, exits: ['wan', 'eth0'], closed: [] })
    t.match(text, 'set exits { type ifname; elements = { "eth0", "wan" }; }')
    t.match(
      text,
      `set opened { type ipv4_addr; flags interval; auto-merge;${opened.length === 0 ? '' : ' elements = { 172.17.0.5/32 };'} }`
    )
    t.ok(text.indexOf('@guarded reject') < text.indexOf(rule), 'what is guarded cannot be opened')
  }
  const none = hostRules(wanted(), { ...host, exits: ['a" }'], closed: [] })
  t.match(none, 'set exits { type ifname; }', 'without an exit everything is closed')
  t.match(none, rule)
  t.end()
})

t.test('a device name that could break out of a rule never gets into one', t => {
  for (const name of ['eth0', 'wan.100', 'br-lan', 'eth0:1']) t.ok(isPlainName(name), name)
  for (const name of ['a"b', 'a b', '', 'x}', 'äth', '0123456789abcdef']) t.notOk(isPlainName(name), name)
  const odd = [{ name: 'a" } ; flush', forwarding: false }]
  const { ops } = planGateways(wanted(), observed({ host: { ...host, uplinks: odd, closed: ['q"'] } }))
  t.notOk(ops.some(op => op.kind === 'forwarding-set'))
  t.notMatch(ops[0]?.kind === 'rules-set' ? ops[0].text : '', /flush|q"/)
  t.end()
})

t.test('a foreign chain that drops forwarded packets is named, and no other chain is', t => {
  const listing = (...chains: object[]): string =>
    JSON.stringify({ nftables: [{ metainfo: {} }, ...chains.map(chain => ({ chain }))] })
  const docker = { family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' }
  t.same(foreignForwardDrops(listing(docker)), ['ip filter FORWARD'])
  for (const harmless of [
    { ...docker, policy: 'accept' },
    { ...docker, hook: 'input' },
    { ...docker, family: 'ip6' },
    { ...docker, table: 'vxmesh_nat' },
    { family: 'ip', table: 'filter', name: 'DOCKER-USER' }
  ]) {
    t.same(foreignForwardDrops(listing(harmless)), [], JSON.stringify(harmless))
  }
  t.end()
})

t.test('the advice about such a chain opens the way to the uplink alone, and the documented rules say the same', t => {
  t.match(FORWARD_REMEDY, /by vo\* and goes out by the uplink, and replies the other way/)
  const page = readFileSync(resolve(import.meta.dirname, '../../../../docs/operations.md'), 'utf8')
  const rules = [...page.matchAll(/^iptables .* DOCKER-USER .*$/gm)].map(([rule]) => rule)
  t.equal(rules.length, 2)
  for (const rule of rules) t.match(rule, / -i \S+ -o \S+ /, rule)
  t.match(rules[1], /-o vo\+ -m conntrack --ctstate ESTABLISHED,RELATED/, 'nothing new comes in')
  t.end()
})

t.test('the closed devices are parsed from nft’s listing', t => {
  const listing = (elem?: unknown): string =>
    JSON.stringify({ nftables: [{ metainfo: {} }, { set: { name: 'closed', elem } }, { set: { name: 'guarded' } }] })
  t.same(closedIn(listing(['eth0', 'eth1'])), ['eth0', 'eth1'])
  t.same(closedIn(listing()), [])
  t.same(closedIn(null), [])
  t.end()
})

t.test('all routers together use three quarters of the host’s table at most, however large it is', t => {
  const limits = (tableSize: number): readonly [oneOf: number, over: number] => {
    const text = hostRules(wanted(), { ...host, tableSize })
    const [, oneOf, over] = /ct state new numgen random mod (\d+) == 0 ct count over (\d+) add @full/.exec(text) ?? []
    return [Number(oneOf), Number(over)]
  }
  t.same(limits(262_144), [192, 1_024])
  for (const size of [1, 100, 4_096, 65_536, 1_000_000, 4_194_304]) {
    const [oneOf, over] = limits(size)
    t.ok(oneOf >= 1 && over >= 1 && over < 2_048, `${size}: one of ${oneOf}, over ${over}`)
    t.ok(oneOf * over <= Math.max(1, (size * 3) / 4), `${size}: within the share`)
    t.ok(oneOf * over >= size / 2 || size < 10, `${size}: most of it`)
  }
  t.end()
})
