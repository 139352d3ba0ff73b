// Which devices lead beyond the host, by its tables of routes. No kernel is touched.

import t from 'tap'
import { formatSubnet, parseIp, type Family } from '#model/ip.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { readBridges, readExits, readHostRoutes, underlayPrefixes } from '#overlay/gateway/observe.ts'
import type { RouteTables } from '#overlay/kernel/tables.ts'
import type { NextHop, RouteInfo } from '#overlay/netlink/address.ts'
import type { LinkInfo } from '#overlay/netlink/link-info.ts'
import { OUTSIDE_GROUP, TRANSIT_V6 } from '#overlay/plan/gateway/desired-gateway.ts'
import { OVERLAY_GROUP } from '#overlay/plan/network/names.ts'

const TRANSIT = { base: parseIpv4('240.0.0.0'), prefixLength: 8 }
const GATEWAY = parseIpv4('198.51.100.254')
const ROUTER = parseIpv4('240.0.0.7')

/** Devices by index, which is the position in the list. */
const DEVICES = ['', 'lo', 'eth0', 'eth1', 'docker0', 'vo000007', 'renamed', 'wg0', 'vb000007'] as const
type Device = Exclude<(typeof DEVICES)[number], ''>

function tables(p: { main?: readonly RouteInfo[]; other?: readonly RouteInfo[] }): RouteTables {
  const links = DEVICES.map((name, ifindex) => {
    const group = name === 'vo000007' ? OUTSIDE_GROUP : name === 'vb000007' ? OVERLAY_GROUP : 0
    return [name, { name, ifindex, group, up: true } as LinkInfo] as const
  })
  return { links: new Map(links.slice(1)), addresses: [], routes: p.main ?? [], otherRoutes: p.other ?? [] }
}

function route(to: string | null, ...hops: readonly (readonly [Device, NextHop['gateway']])[]): RouteInfo {
  const [base, length] = to?.split('/') ?? []
  const known = hops.map(([device, gateway]) => ({ ifindex: DEVICES.indexOf(device), gateway }))
  const [only] = known.length === 1 ? known : []
  const gateway = only?.gateway === 'other' ? null : (only?.gateway ?? null)
  const destination = base === undefined || base === '::' ? null : parseIp(base)
  const family: Family = (base ?? '').includes(':') ? 'ipv6' : 'ipv4'
  const common = { family, table: 254, priority: 0, ifindex: only?.ifindex ?? 0, gateway, rejects: false, hops: known }
  return { ...common, destination, prefixLength: Number(length ?? 0) }
}

t.test('a default route and a route with a gateway make a device an exit, a connected network does not', t => {
  const none: Ipv4 | null = null
  const cases: readonly (readonly [title: string, main: readonly RouteInfo[], exits: readonly Device[]])[] = [
    ['no route', [], []],
    ['a default route', [route(null, ['eth0', GATEWAY])], ['eth0']],
    ['a default route without a gateway', [route(null, ['wg0', none])], ['wg0']],
    ['a route with a gateway', [route('10.0.0.0/8', ['eth1', GATEWAY])], ['eth1']],
    ['a gateway of IPv6', [route('10.0.0.0/8', ['eth1', 'other'])], ['eth1']],
    ['a default route with two hops', [route(null, ['eth0', GATEWAY], ['eth1', GATEWAY])], ['eth0', 'eth1']],
    ['a connected network', [route('172.17.0.0/16', ['docker0', none])], []],
    ['a single address', [route('172.17.0.9/32', ['docker0', none])], []],
    ['a default route to loopback', [route(null, ['lo', none])], []]
  ]
  for (const [title, main, exits] of cases) t.same(readExits(tables({ main }), TRANSIT), exits, title)
  t.same(readExits(tables({ other: [route(null, ['eth1', GATEWAY])] }), TRANSIT), ['eth1'], 'of another table')
  t.end()
})

t.test('nothing of ours is an exit, whatever was done to it', t => {
  const cases = [
    ['a route to a container', route('10.1.0.2/32', ['vo000007', ROUTER])],
    ['by a device that was renamed and lost its group', route('10.1.0.2/32', ['renamed', ROUTER])],
    ['a default route by a router', route(null, ['vo000007', GATEWAY])],
    ['a default route by a bridge of ours', route(null, ['vb000007', null])]
  ] as const
  for (const [title, foreign] of cases) t.same(readExits(tables({ main: [foreign] }), TRANSIT), [], title)
  t.end()
})

t.test('each family has exits of its own', t => {
  const main = [
    route(null, ['eth0', GATEWAY]),
    route('::/0', ['eth1', parseIp('fe80::9')]),
    route('2001:db8::/32', ['wg0', parseIp('fe80::9')]),
    route('fd00:9::/64', ['docker0', null]),
    route('fd00:1::5/128', ['renamed', parseIp('fd76:786d:6573:6800::7')])
  ]
  t.same(readExits(tables({ main }), TRANSIT), ['eth0'])
  t.same(readExits(tables({ main }), TRANSIT_V6), ['eth1', 'wg0'])
  t.end()
})

t.test('the underlay is guarded by the prefixes of IPv6 on its device, too', t => {
  const at = (ifindex: number, address: string, prefixLength: number): RouteTables['addresses'][number] => ({
    ...{ ifindex, address: parseIp(address), prefixLength }
  })
  const eth0 = DEVICES.indexOf('eth0')
  const addresses = [at(eth0, '192.0.2.1', 24), at(eth0, '198.51.100.1', 24), at(eth0, '2001:db8:1::5', 128)]
  const others = [at(DEVICES.indexOf('eth1'), '2001:db8:2::5', 64)]
  const main = [
    route('2001:db8:1::/64', ['eth0', null]),
    route('2001:db8:7::/64', ['eth0', parseIp('fe80::9')]),
    route('2001:db8:3::/64', ['eth1', null]),
    route('10.9.0.0/16', ['eth0', null]),
    route('::/0', ['eth0', null])
  ]
  const found = underlayPrefixes({ ...tables({ main }), addresses: [...addresses, ...others] }, [parseIp('192.0.2.1')])
  t.same(found.map(formatSubnet), ['192.0.2.0/24', '2001:db8:1::5/128', '2001:db8:1::/64'])
  t.end()
})

t.test('routes to containers of both families are ours; of what rejects, that of IPv4 keeps its prefix', t => {
  const main = [
    route('10.1.0.2/32', ['vo000007', ROUTER]),
    route('fd00:1::2/128', ['vo000007', parseIp('fd76:786d:6573:6800::7')]),
    route('fd00:1::3/128', ['vo000007', parseIp('fd00:9::1')]),
    { ...route('fd00:1::/48', ['lo', null]), rejects: true },
    { ...route('10.2.0.0/16', ['lo', null]), rejects: true },
    route('fd00:5::/64', ['eth0', null])
  ]
  const { ours, others } = readHostRoutes(tables({ main }), TRANSIT)
  t.same([...ours], [[7, [parseIpv4('10.1.0.2'), parseIp('fd00:1::2')]]])
  t.same(others.map(formatSubnet), ['10.2.0.0/16', 'fd00:5::/64'])
  t.end()
})

t.test('bridges of other software are known, ours are not among them', t => {
  const links = new Map([...tables({}).links].map(([name, link]) => [name, { ...link, kind: 'bridge' }]))
  for (const name of ['lo', 'eth0', 'eth1', 'renamed', 'wg0']) links.delete(name)
  t.same(readBridges({ ...tables({}), links }), ['docker0'])
  t.end()
})
