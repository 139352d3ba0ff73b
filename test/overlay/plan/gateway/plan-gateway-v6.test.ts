// Planning of routers with IPv6: what they have of each family, which rules guard it, and when the host forwards.

import t from 'tap'
import { formatIp, formatSubnet, isIpv4, parseIp, parsePrefix, parseSubnet } from '#model/ip.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import type { Network } from '#model/network.ts'
import { desiredFacts } from '#overlay/plan/gateway/facts.ts'
import { planHostRoutes } from '#overlay/plan/gateway/host-access.ts'
import {
  describeGatewayOp,
  opensFamilies,
  planGateways,
  removesGateway,
  type ObservedGateways,
  type ObservedHost,
  type ObservedHostV6
} from '#overlay/plan/gateway/plan-gateway.ts'
import { hostRules, routerRules } from '#overlay/plan/gateway/rules.ts'
import { hostRulesV6, isClosedIn } from '#overlay/plan/gateway/rules-v6.ts'
import {
  desiredGateways,
  routerSubnet,
  type DesiredGateways,
  type DesiredRouter
} from '#overlay/plan/gateway/desired-gateway.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const SUBNET_V6 = parseSubnet('fd00:1::/64')
const plain = makeNetwork('plain', 1)
const dual = makeNetwork('dual', 0xabc, { subnet6: SUBNET_V6 })
const six = makeNetwork('six', 0x666, { subnet: SUBNET_V6, gateway: parseIp('fd00:1::1') })
const routed = makeNetwork('routed', 0x777, { subnet6: parseSubnet('2001:db8:7::/64'), egressV6: 'routed' })
const inner = makeNetwork('inner', 0x888, { subnet6: parseSubnet('fd00:8::/64'), hostAccess: true, egress: false })

function wanted(...networks: readonly Network[]): DesiredGateways {
  const endpoints = networks.flatMap(network => {
    const address = isIpv4(network.subnet.base) ? '10.1.0.5' : 'fd00:1::5'
    return [makeEndpoint(network, { container: network.name, host: 1, address })]
  })
  return desiredGateways({
    self: peer(1),
    selfVtep: parseIpv4('192.0.2.1'),
    networks,
    endpoints: byNetwork(endpoints),
    hosts: [makeHost(1), makeHost(2, parseIpv4('198.18.0.2'))],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789,
    transit: { base: 0xf0000000 as Ipv4, prefixLength: 8 },
    bind: parseIpv4('192.0.2.1'),
    memberAddresses: []
  })
}

function router(network: Network): DesiredRouter {
  const found = wanted(network).routers.get(network.vni)
  if (found === undefined) throw new Error('no router')
  return found
}

const v6: ObservedHostV6 = {
  ...{ exits: ['eth0'], bridges: ['br0', 'q"'], rules: null, table: false },
  ...{ forwards: false, isRouter: false, isClosed: false }
}
const host: ObservedHost = {
  uplinks: [{ name: 'eth0', forwarding: false }],
  ipForward: false,
  underlay: [parsePrefix('192.0.2.0/24'), parsePrefix('2001:db8:a::/64')],
  exits: ['eth0'],
  tableSize: 262_144,
  closed: [],
  rules: null,
  table: false,
  routes: { ours: new Map(), others: [] },
  v6
}

function kinds(desired: DesiredGateways, change: Partial<ObservedHostV6> = {}): readonly string[] {
  const observed: ObservedGateways = { host: { ...host, v6: { ...v6, ...change } }, routers: new Map(), leftovers: [] }
  return planGateways(desired, observed).ops.map(describeGatewayOp)
}

t.test('a router has a gateway, a transit address and a next hop for each subnet', t => {
  const texts = router(dual).subnets.map(({ family, subnet, gateway, transit, nextHop, isTranslated }) => [
    ...[family, formatSubnet(subnet), formatIp(gateway), formatIp(transit), formatIp(nextHop), isTranslated]
  ])
  t.same(texts, [
    ['ipv4', '10.1.0.0/16', '10.1.0.1', '240.0.10.188', '169.254.1.1', true],
    ['ipv6', 'fd00:1::/64', 'fd00:1::1', 'fd76:786d:6573:6800::abc', 'fd76:786d:6573:6800::100:0', true]
  ])
  t.same(
    router(six).subnets.map(({ family }) => family),
    ['ipv6']
  )
  t.same(
    [routerSubnet(router(routed), 'ipv4')?.isTranslated, routerSubnet(router(routed), 'ipv6')?.isTranslated],
    [true, false]
  )
  t.end()
})

t.test('a network of IPv4 alone has the facts and rules that it had, and no others', t => {
  const facts = [...desiredFacts(router(plain))].flat().join('\n')
  t.notMatch(facts, /IPv6|fe80|:.*:.*::/)
  t.notMatch(routerRules(router(plain)), /inet|ip6/)
  t.same(kinds(wanted(plain)), ['set the rules for routers', 'switch forwarding on on eth0'])
  const [before, after] = [wanted(plain), wanted(plain, dual, routed)].map(desired =>
    hostRules(desired, { ...host, closed: ['eth0'] })
  )
  t.equal(after, before, 'nor do other networks of its host change the rules of IPv4')
  t.notMatch(before, '::')
  t.end()
})

t.test('facts of both families are told apart', t => {
  const facts = desiredFacts(router(dual))
  t.equal(facts.get('router default route'), '169.254.1.1')
  t.equal(facts.get('router IPv6 default route'), 'fd76:786d:6573:6800::100:0')
  t.equal(facts.get('router inside addresses'), '10.1.0.1/16 fd00:1::1/64 fe80::1/64')
  t.equal(facts.get('outside addresses'), 'fd76:786d:6573:6800::100:0/128')
  t.equal(facts.get('router inside IPv6 accept_ra'), '0')
  t.equal(facts.get('outside IPv6 forwarding'), undefined, 'the host’s devices keep their own')
  t.notOk(
    [...desiredFacts(router(six)).keys()].some(fact => fact.endsWith('rp_filter')),
    'nothing of IPv4'
  )
  t.end()
})

t.test('IPv6 has tables of its own; those of IPv4 stay as they are', t => {
  const [both, alone] = [routerRules(router(dual)), routerRules(router(six))]
  t.ok(both.startsWith(routerRules(router(makeNetwork('dual', 0xabc)))), 'the rules of IPv4 come first, unchanged')
  t.match(both, /table inet vxmesh_router6 \{/)
  t.match(both, 'snat ip6 to fd76:786d:6573:6800::abc')
  t.match(
    alone,
    /^add table ip vxmesh_router\ndelete table ip vxmesh_router\nadd table inet/,
    'IPv6 alone has none of IPv4'
  )
  const passes = both.match(/meta nfproto ipv4 accept/g) ?? []
  t.equal(passes.length, 2, 'what IPv4 may is for its own table to say')
  t.notMatch(alone, 'ipv4 accept')
  t.notMatch(routerRules(router(routed)), 'snat ip6')
  t.match(routerRules(router(inner)), /oifname "inside" meta nfproto ipv6 snat ip6 to fd00:8::1/)
  t.match(routerRules(router(inner)), /ip6 saddr fd00:8::\/64 ct state established,related accept/, 'without egress')
  t.end()
})

t.test('limits of both families come before IPv4 is passed on', t => {
  const text = routerRules(router(dual)).split('chain forward').at(-1) ?? ''
  const steps = [
    'ct state invalid drop',
    'iifname "inside" ct state new ether saddr @full drop',
    'iifname "inside" ct state new iifname @crowded drop',
    'numgen random mod 32 == 0 add @connections { ether saddr ct count over 1024 } add @full { ether saddr } drop',
    'numgen random mod 64 == 0 ct count over 1024 add @crowded { iifname } drop',
    'meta nfproto ipv4 accept',
    'iifname "inside" oifname "outside" ip6 saddr fd00:1::/64 accept'
  ].map(step => text.indexOf(step))
  t.ok(
    steps.every(at => at >= 0),
    steps.join()
  )
  t.same(
    steps,
    steps.toSorted((a, b) => a - b)
  )
  const all = hostRulesV6(wanted(dual), { ...host, ...v6 })
  const forward = all.slice(all.indexOf('chain forward'))
  t.ok(forward.indexOf('ct count over') < forward.indexOf('meta nfproto ipv4 accept'))
  t.end()
})

t.test('the host guards the underlay, its own ranges, and what stands for IPv4 in either', t => {
  const text = hostRulesV6(
    { ...wanted(dual), opened: [parsePrefix('fd00:d0c::/64'), parsePrefix('172.17.0.0/16')] },
    {
      ...{ ...host, ...v6 }
    }
  )
  const guarded = /set guarded \{(.*)\}/.exec(text)?.[1] ?? ''
  for (const prefix of [
    ...['fe80::/10', 'ff00::/8', '::/96', '::ffff:0:0/96', 'fd76:786d:6573:6800::/64', '2001:db8:a::/64'],
    ...[
      '64:ff9b::c000:200/120',
      '64:ff9b::c612:2/128',
      '64:ff9b::7f00:0/104',
      '2002:c612:2::/48',
      '64:ff9b::f000:0/104'
    ]
  ]) {
    t.ok(guarded.includes(` ${prefix}`), prefix)
  }
  t.notMatch(guarded, /[^:.\d]192\.0\.2/, 'no address of IPv4 itself')
  t.match(text, 'set opened { type ipv6_addr; flags interval; auto-merge; elements = { fd00:d0c::/64 }; }')
  t.match(text, 'oifname != @exits ip6 daddr != @opened reject with icmpv6 type admin-prohibited')
  t.match(
    text,
    /set bridged \{ type ifname \. ifname; elements = \{ "br0" \. "br0" \}; \}/,
    'no name that breaks out of it'
  )
  t.end()
})

t.test('a router sends translated addresses, and those of networks that are routed', t => {
  const sources = (...networks: readonly Network[]): string =>
    /set sources \{ .*elements = \{ (.*) \}; \}/.exec(hostRulesV6(wanted(...networks), { ...host, ...v6 }))?.[1] ?? ''
  t.equal(sources(dual, inner), 'fd76:786d:6573:6800::/64')
  t.equal(sources(dual, routed), '2001:db8:7::/64, fd76:786d:6573:6800::/64')
  const scoped = planGateways(
    { ...wanted(dual, routed), routers: wanted(dual).routers },
    { host, routers: new Map(), leftovers: [] },
    { all: wanted(dual, routed) }
  )
  const [text = ''] = scoped.ops.flatMap(op => (op.kind === 'rules-set' && op.family === 'ipv6' ? [op.text] : []))
  t.match(text, '2001:db8:7::/64', 'also in a pass over another network')
  t.end()
})

t.test('the host forwards IPv6 while a router needs it, and only if somebody else does not make it', t => {
  const on = ['set the rules for routers (IPv6)', 'switch forwarding on for IPv6']
  t.same(kinds(wanted(six)), on, 'IPv6 alone opens nothing of IPv4')
  t.same(kinds(wanted(dual)), ['set the rules for routers', 'switch forwarding on on eth0', ...on])
  t.same(kinds(wanted(inner)).slice(1), on.slice(0, 1), 'hostAccess alone forwards nothing')
  const closed = (change: Partial<ObservedHostV6>): boolean => {
    const { ops } = planGateways(wanted(six), {
      ...{ host: { ...host, v6: { ...v6, ...change } }, routers: new Map(), leftovers: [] }
    })
    const [text = ''] = ops.flatMap(op => (op.kind === 'rules-set' ? [op.text] : []))
    return /chain closed \{\n {4}iifname \. oifname != @bridged drop/.test(text) && text.includes('jump closed')
  }
  t.ok(closed({}), 'for routers alone')
  t.ok(closed({ forwards: true, isClosed: true }), 'remembered by the rules themselves')
  t.notOk(closed({ forwards: true }), 'the host forwarded before')
  t.notOk(closed({ forwards: true, isRouter: true, isClosed: true }), 'somebody made it a router')

  const table = { table: true, rules: 'x' }
  t.same(kinds(wanted(plain), { ...table, forwards: true, isClosed: true }).slice(2), [
    'switch forwarding off for IPv6',
    'delete the rules for routers (IPv6)'
  ])
  t.same(kinds(wanted(plain), { ...table, forwards: true, isRouter: true, isClosed: true }).slice(2), [
    'delete the rules for routers (IPv6)'
  ])
  t.same(kinds(wanted(), { forwards: true }), [], 'a host that never had a router is not touched')
  t.end()
})

t.test('a router that is to lose a family is repaired only when that is certain', t => {
  const repair = (wants: Network, has: Network): readonly boolean[] => {
    const one = { found: 'vxr-000abc', conflict: null, facts: desiredFacts(router({ ...has, vni: dual.vni })) }
    const desired = wanted({ ...wants, vni: dual.vni })
    const { ops } = planGateways(desired, { host, routers: new Map([[dual.vni, one]]), leftovers: [] })
    return ops.filter(({ kind }) => kind === 'router-repair').map(removesGateway)
  }
  t.same(repair(plain, dual), [true], 'a restarted agent may not know the second subnet yet')
  t.same(repair({ ...six }, dual), [true])
  t.same(repair(dual, plain), [false])
  t.same(repair(dual, { ...dual, egressV6: 'routed', hostAccess: true }), [], 'what differs in rules alone')
  t.end()
})

t.test('the listing tells whether only vxmesh made the host forward', t => {
  const listing = (...chains: readonly string[]): string =>
    JSON.stringify({ nftables: [{ metainfo: {} }, ...chains.map(name => ({ chain: { name } }))] })
  t.ok(isClosedIn(listing('closed', 'forward')))
  t.notOk(isClosedIn(listing('forward')))
  t.notOk(isClosedIn(null))
  t.end()
})

t.test('what opens a family is known, so that it waits for the rules of that family', t => {
  const create = { kind: 'router-create', router: router(dual) } as const
  t.same(opensFamilies(create), ['ipv4', 'ipv6'])
  t.same(opensFamilies({ ...create, router: router(plain) }), ['ipv4'])
  t.same(opensFamilies({ kind: 'forwarding-set', device: null, on: true }), ['ipv6'])
  t.same(opensFamilies({ kind: 'forwarding-set', device: null, on: false }), [])
  t.same(opensFamilies({ kind: 'rules-delete', family: 'ipv6' }), [])
  t.end()
})

t.test('the host has routes to both addresses with hostAccess, and to the routed one without', t => {
  const all = wanted(inner, routed, dual)
  const observed = { ours: new Map(), others: [] }
  const { add, refused } = planHostRoutes(all, { wanted: [...all.routers.values()], leaving: [], observed })
  t.same(
    add.map(({ vni, transit, addresses }) => [vni, formatIp(transit), addresses.map(formatIp)]),
    [
      [0x888, '240.0.8.136', ['10.1.0.5']],
      [0x888, 'fd76:786d:6573:6800::888', ['fd00:8::5']],
      [0x777, 'fd76:786d:6573:6800::777', ['2001:db8:7::5']]
    ]
  )
  t.same(refused, [])
  const own = { ours: new Map(), others: [parsePrefix('fd00::/16'), parsePrefix('2001:db8:7::5/128')] }
  const blocked = planHostRoutes(all, { wanted: [...all.routers.values()], leaving: [], observed: own })
  t.same(
    blocked.refused.map(({ reason }) => reason),
    [
      "fd00:8::5: fd00::/16 is the host's own or the underlay's",
      "2001:db8:7::5: 2001:db8:7::5/128 is the host's own or the underlay's"
    ]
  )
  t.end()
})
