// What the gateways part decides: what may be trusted, what is a repair, what is left. No kernel is touched.

import t from 'tap'
import { changeSince, Gateways, isRepair, type GatewayReading } from '#overlay/gateway/gateways.ts'
import { VxmeshError } from '#model/errors.ts'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import type { Look } from '#overlay/pass.ts'
import { desiredGateways, type DesiredGateways, type DesiredRouter } from '#overlay/plan/gateway/desired-gateway.ts'
import type { GatewayOp, ObservedGateways, ObservedRouter } from '#overlay/plan/gateway/plan-gateway.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../fixtures.ts'

const open = makeNetwork('open', 1, { hostAccess: true })
const plain = makeNetwork('plain', 2)
const SUPPORT = { rate: true, fqCodel: true, delay: true }

/** Both networks with a container here; those of `open` have these addresses. */
function gatewaysOf(addresses: readonly string[], networks = [open, plain]): DesiredGateways {
  const endpoints = networks.flatMap(network =>
    (network.name === open.name ? addresses : ['10.1.0.2']).map((address, n) =>
      makeEndpoint(network, { container: `${network.name}${n}`, host: 1, address })
    )
  )
  return desiredGateways({
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks,
    endpoints: byNetwork(endpoints),
    hosts: [makeHost(1)],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789,
    transit: { base: parseIpv4('240.0.0.0'), prefixLength: 8 },
    bind: makeHost(1).vtep,
    memberAddresses: []
  })
}

function routerOf(gateways: DesiredGateways, vni: Vni): DesiredRouter {
  const router = gateways.routers.get(vni)
  if (router === undefined) throw new Error('no router')
  return router
}

function lookAt(gateways: DesiredGateways, change: Partial<Look> = {}): Look {
  const desired = { host: () => ({ networks: new Map(), peers: new Map<never, never>() }), gateways: () => gateways }
  return { scope: null, trust: false, mayRemove: true, desired, ...change }
}

function reading(wanted: DesiredGateways, change: Partial<GatewayReading> = {}): GatewayReading {
  return { wanted, before: new Map(), reading: { kind: 'nothing' }, support: SUPPORT, ...change }
}

function observed(routers: ReadonlyMap<Vni, ObservedRouter>): ObservedGateways {
  const routes = { ours: new Map(), others: [] }
  const host = { uplinks: [], ipForward: false, underlay: [], exits: [], closed: [], rules: null, table: false, routes }
  return { host, routers, leftovers: [] }
}

const absent: ObservedRouter = { found: null, free: 'vxr', conflict: null, facts: new Map() }

function make(t: { teardown: (close: () => void) => void }, rate = true): Gateways {
  const socket = NetlinkSocket.open(null)
  t.teardown(() => socket.close())
  const kernel = { socket, netns: null, ipv6: { present: false, sysctl: false } }
  return new Gateways(kernel, { support: () => ({ ...SUPPORT, rate }), carrier: 'bridge' })
}

t.test(
  'routers that are desired as before are not observed; an added container needs the host’s routes only',
  async t => {
    const [one, two] = [gatewaysOf(['10.1.0.2']), gatewaysOf(['10.1.0.2', '10.1.0.3'])]
    const other = gatewaysOf(['10.1.0.2'], [{ ...open, egressRate: 1_000_000 }, plain])
    const cases = [
      ['nothing is known', new Map<Vni, DesiredRouter>(), one, null, 'routers'],
      ['all is the same', one.routers, one, null, 'nothing'],
      ['a container more', one.routers, two, null, 'ways-in'],
      ['a container less', two.routers, one, null, 'ways-in'],
      ['another rate', one.routers, other, null, 'routers'],
      ['one of two is unknown', new Map([[open.vni, routerOf(one, open.vni)]]), one, null, 'routers'],
      [
        'no router is wanted or known here',
        new Map<Vni, DesiredRouter>(),
        { routers: new Map() },
        parseVni(9),
        'nothing'
      ],
      ['a router is left', one.routers, { routers: new Map() }, open.vni, 'routers'],
      ['no router at all, of the whole host', new Map<Vni, DesiredRouter>(), { routers: new Map() }, null, 'routers']
    ] as const
    for (const [title, before, wanted, scope, expected] of cases) {
      t.equal(changeSince(before, wanted, scope), expected, title)
    }
  }
)

t.test('an op is a repair when its router was right and is desired the same', async t => {
  const [one, two] = [gatewaysOf(['10.1.0.2']), gatewaysOf(['10.1.0.2', '10.1.0.3'])]
  const router = routerOf(one, open.vni)
  const repair: GatewayOp = { kind: 'router-repair', router, name: 'vxr', differs: ['port up'] }
  const create: GatewayOp = { kind: 'router-create', router, name: 'vxr' }
  const { vni, outside, transit } = router
  const routes: GatewayOp = { kind: 'host-routes-add', vni, outside, transit, addresses: router.reached }
  const remove: GatewayOp = { kind: 'router-delete', vni: parseVni(9), namespaces: ['vxr'], devices: [] }
  const rules: GatewayOp = { kind: 'rules-set', text: '' }
  const cases: readonly (readonly [string, GatewayOp, DesiredGateways, ReadonlyMap<Vni, DesiredRouter>, boolean])[] = [
    ['a broken router', repair, one, one.routers, true],
    ['a router that vanished', create, one, one.routers, true],
    ['a route that vanished', routes, one, one.routers, true],
    ['the first router', create, one, new Map(), false],
    ['a broken router, while a container comes', repair, two, one.routers, true],
    ['the route of a container that comes', routes, two, one.routers, false],
    ['a router that is left over', remove, one, one.routers, false],
    ['the host’s rules', rules, one, one.routers, false]
  ]
  for (const [title, op, wanted, before, expected] of cases) t.equal(isRepair(op, { wanted, before }), expected, title)
})

/** The networks whose routers it takes to be right. */
async function remembered(gateways: Gateways): Promise<readonly Vni[]> {
  const nowhere = { ...gatewaysOf([]), routers: new Map() }
  const { before, reading } = await gateways.observe(lookAt(nowhere, { scope: parseVni(9), trust: true }))
  if (reading.kind !== 'nothing') throw new Error('it has read the kernel')
  return [...before.keys()]
}

t.test('routers without problems are remembered and may be trusted by an attach; failed ones are not', async t => {
  const gateways = make(t)
  const wanted = gatewaysOf(['10.1.0.2'])
  const routers = new Map([...wanted.routers.keys()].map(vni => [vni, absent]))
  const read = reading(wanted, { reading: { kind: 'routers', observed: observed(routers) } })
  gateways.settled(lookAt(wanted), read, [])
  t.strictSame(await remembered(gateways), [open.vni, plain.vni])
  const trusted = await gateways.observe(lookAt(wanted, { scope: open.vni, trust: true }))
  t.strictSame(trusted.reading, { kind: 'nothing' })
  const error = new VxmeshError('ERR_KERNEL', 'no')
  gateways.settled(lookAt(wanted), read, [{ vni: open.vni, error }])
  t.strictSame(await remembered(gateways), [plain.vni])
  gateways.settled(lookAt(wanted), read, [{ vni: null, error }])
  t.strictSame(await remembered(gateways), [], 'what fails for the host fails for all')
})

t.test('a pass over one network changes only what is remembered of it', async t => {
  const gateways = make(t)
  const wanted = gatewaysOf(['10.1.0.2'])
  const routers = new Map([...wanted.routers.keys()].map(vni => [vni, absent]))
  gateways.settled(lookAt(wanted), reading(wanted, { reading: { kind: 'routers', observed: observed(routers) } }), [])
  const none = { ...wanted, routers: new Map() }
  gateways.settled(lookAt(none, { scope: plain.vni }), reading(none), [])
  t.strictSame(await remembered(gateways), [open.vni])
})

t.test('a router without its bridge is not right yet', async t => {
  const gateways = make(t)
  const wanted = gatewaysOf(['10.1.0.2'])
  const seen = observed(new Map([[plain.vni, absent]]))
  gateways.settled(lookAt(wanted), reading(wanted, { reading: { kind: 'routers', observed: seen } }), [])
  t.strictSame(await remembered(gateways), [plain.vni])
})

t.test('a problem names what the network lacks: the way out, or the way in from this host', async t => {
  const gateways = make(t)
  const wanted = gatewaysOf(['10.1.0.2'])
  const conflict = { ...absent, conflict: 'device vg000002 is "x", not ours' }
  const routers = new Map([
    [open.vni, absent],
    [plain.vni, conflict]
  ])
  const routes = { ours: new Map(), others: [{ base: parseIpv4('10.1.0.0'), prefixLength: 24 }] }
  const seen = { ...observed(routers), host: { ...observed(routers).host, routes } }
  const { ops, problems } = gateways.plan(
    lookAt(wanted),
    reading(wanted, { reading: { kind: 'routers', observed: seen } })
  )
  t.match(problems, [
    { vni: plain.vni, effect: 'no way to the outside', error: { message: /vg000002/ } },
    { vni: open.vni, effect: 'no way in from this host', error: { message: /10\.1\.0\.2: 10\.1\.0\.0\/24/ } }
  ])
  t.strictSame(
    ops.map(({ op }) => op.kind),
    ['rules-set', 'router-create']
  )
})

t.test('an egress rate that this kernel cannot enforce is a problem of its network', async t => {
  const gateways = make(t, false)
  const wanted = gatewaysOf(['10.1.0.2'], [{ ...open, egressRate: 1_000_000 }, plain])
  const read = reading(wanted, { reading: { kind: 'routes', routes: { ours: new Map(), others: [] } } })
  const unable = { ...read, support: { ...SUPPORT, rate: false } }
  t.match(gateways.plan(lookAt(wanted), unable).problems, [{ vni: open.vni, error: { message: /cannot shape/ } }])
  t.strictSame(gateways.plan(lookAt(wanted), read).problems, [])
})

t.test('without a reading nothing is planned; with routes alone, only routes', async t => {
  const gateways = make(t)
  const wanted = gatewaysOf(['10.1.0.2'])
  t.strictSame(gateways.plan(lookAt(wanted), reading(wanted)), { ops: [], problems: [] })
  const routes = { kind: 'routes', routes: { ours: new Map(), others: [] } } as const
  const { ops } = gateways.plan(lookAt(wanted), reading(wanted, { reading: routes, before: wanted.routers }))
  t.match(ops, [{ op: { kind: 'host-routes-add', addresses: [parseIpv4('10.1.0.2')] }, repairs: true }])
})

t.test('notes mark the ops that remove something', async t => {
  const gateways = make(t)
  const waits: Record<string, boolean> = {}
  const router = routerOf(gatewaysOf(['10.1.0.2']), open.vni)
  const leftover = { vni: open.vni, namespaces: ['vxr'], devices: [] }
  const routes = { vni: open.vni, outside: router.outside, transit: router.transit, addresses: [] }
  const ops: readonly GatewayOp[] = [
    { kind: 'rules-set', text: '' },
    { kind: 'rules-delete' },
    { kind: 'forwarding-set', device: 'eth0', on: false },
    { kind: 'router-create', router, name: 'vxr' },
    { kind: 'router-delete', ...leftover },
    { kind: 'host-routes-add', ...routes },
    { kind: 'host-routes-delete', ...routes }
  ]
  for (const op of ops) waits[op.kind] = gateways.note({ op, repairs: false }).removes
  t.strictSame(waits, {
    'rules-set': false,
    'rules-delete': true,
    'forwarding-set': true,
    'router-create': false,
    'router-delete': true,
    'host-routes-add': false,
    'host-routes-delete': true
  })
  const on: GatewayOp = { kind: 'forwarding-set', device: 'eth0', on: true }
  t.equal(gateways.note({ op: on, repairs: false }).removes, false)
})
