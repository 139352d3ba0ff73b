// What the gateways part decides: which routers it trusts, and which problems are left. No kernel is touched.

import t from 'tap'
import { Gateways, type GatewayReading } from '#overlay/gateway/gateways.ts'
import { VxmeshError } from '#model/errors.ts'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import type { Look } from '#overlay/pass.ts'
import type { DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import type { GatewayOp, ObservedGateways, ObservedRouter } from '#overlay/plan/gateway/plan-gateway.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { gatewaysOf, open, plain, routerOf } from './desired.ts'

const SUPPORT = { rate: true, fqCodel: true, delay: true }

function lookAt(gateways: DesiredGateways, change: Partial<Look> = {}): Look {
  const desired = { host: () => ({ networks: new Map(), peers: new Map<never, never>() }), gateways: () => gateways }
  return { scope: null, trust: false, mayRemove: true, desired, ...change }
}

function reading(wanted: DesiredGateways, change: Partial<GatewayReading> = {}): GatewayReading {
  return { wanted, before: new Map(), reading: { kind: 'nothing' }, support: SUPPORT, ...change }
}

function observed(routers: ReadonlyMap<Vni, ObservedRouter>): ObservedGateways {
  const routes = { ours: new Map(), others: [] }
  const host = {
    uplinks: [],
    ipForward: false,
    underlay: [],
    exits: [],
    closed: [],
    rules: null,
    table: false,
    tableSize: 1,
    routes,
    v6: { exits: [], bridges: [], rules: null, table: false, forwards: false, isRouter: false, isClosed: false }
  }
  return { host, routers, leftovers: [] }
}

const absent: ObservedRouter = { found: null, conflict: null, facts: new Map() }

function make(t: { teardown: (close: () => void) => void }, rate = true): Gateways {
  const socket = NetlinkSocket.open(null)
  t.teardown(() => socket.close())
  const kernel = { socket, netns: null, ipv6: { present: false, sysctl: false } }
  return new Gateways(kernel, { support: () => ({ ...SUPPORT, rate }), carrier: 'bridge' })
}

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
  const routes = { vni: open.vni, outside: router.outside, transit: parseIpv4('240.0.0.1'), addresses: [] }
  const ops: readonly GatewayOp[] = [
    { kind: 'rules-set', family: 'ipv4', text: '' },
    { kind: 'rules-delete', family: 'ipv4' },
    { kind: 'forwarding-set', device: 'eth0', on: false },
    { kind: 'router-create', router },
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
