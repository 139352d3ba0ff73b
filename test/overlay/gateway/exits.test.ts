// Which devices lead beyond the host, by its tables of routes. No kernel is touched.

import t from 'tap'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { readExits } from '#overlay/gateway/observe.ts'
import type { RouteTables } from '#overlay/kernel/tables.ts'
import type { NextHop, RouteInfo } from '#overlay/netlink/address.ts'
import type { LinkInfo } from '#overlay/netlink/link-info.ts'
import { OUTSIDE_GROUP } from '#overlay/plan/gateway/desired-gateway.ts'
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
  const gateway = only?.gateway === 'ipv6' ? null : (only?.gateway ?? null)
  const common = { table: 254, priority: 0, ifindex: only?.ifindex ?? 0, gateway, hops: known }
  return { ...common, destination: base === undefined ? null : parseIpv4(base), prefixLength: Number(length ?? 0) }
}

t.test('a default route and a route with a gateway make a device an exit, a connected network does not', t => {
  const none: Ipv4 | null = null
  const cases: readonly (readonly [title: string, main: readonly RouteInfo[], exits: readonly Device[]])[] = [
    ['no route', [], []],
    ['a default route', [route(null, ['eth0', GATEWAY])], ['eth0']],
    ['a default route without a gateway', [route(null, ['wg0', none])], ['wg0']],
    ['a route with a gateway', [route('10.0.0.0/8', ['eth1', GATEWAY])], ['eth1']],
    ['a gateway of IPv6', [route('10.0.0.0/8', ['eth1', 'ipv6'])], ['eth1']],
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
