// Diffs desired against observed: the ops that create and repair routers and delete leftover ones. Level-triggered. The
// host's rules are installed before the first router and deleted after the last one. Pure.

import type { Vni } from '#model/ids.ts'
import { familyOf, formatIp, type Family, type Subnet } from '#model/ip.ts'
import { routerSubnet, type DesiredGateways, type DesiredRouter } from './desired-gateway.ts'
import type { Carrier } from '../network/switch.ts'
import { desiredFacts, differing, FAMILY_FACT, type Facts } from './facts.ts'
import { planHostRoutes, type HostRoutes, type ObservedHostRoutes } from './host-access.ts'
import { isPlainName } from './rule-text.ts'
import { hostRules } from './rules.ts'
import { hostRulesV6 } from './rules-v6.ts'

/** A device of the host with an IPv4 address: replies from outside may arrive on it. */
export type Uplink = { readonly name: string; readonly forwarding: boolean }

export type ObservedHost = {
  readonly uplinks: readonly Uplink[]
  /** net.ipv4.ip_forward: the administrator has made this host a router. */
  readonly ipForward: boolean
  /** The prefixes of the underlay addresses; of IPv6, all of the devices that have these. */
  readonly underlay: readonly Subnet[]
  /** Devices that lead beyond the host. Behind any other device are networks of the host itself, such as docker0's. */
  readonly exits: readonly string[]
  /** Most connections that the kernel tracks. */
  readonly tableSize: number
  /** Devices that forward only because vxmesh enabled it. */
  readonly closed: readonly string[]
  /** The text of the installed rules; null when it is unknown or the rules have been changed since. */
  readonly rules: string | null
  /** Does our table exist? */
  readonly table: boolean
  readonly routes: ObservedHostRoutes
  readonly v6: ObservedHostV6
}

/** The same of IPv6, which a host forwards on all devices or on none. */
export type ObservedHostV6 = Pick<ObservedHost, 'exits' | 'rules' | 'table'> & {
  /** net.ipv6.conf.all.forwarding */
  readonly forwards: boolean
  /** It forwards, and new devices are set to it as well: the administrator has made this host a router. */
  readonly isRouter: boolean
  /** It forwards only because vxmesh enabled it. */
  readonly isClosed: boolean
  /** Bridges that are not ours. */
  readonly bridges: readonly string[]
}

export type ObservedRouter = {
  /** Name of the router's namespace; null when it does not exist yet. */
  readonly found: string | null
  /** Why it cannot be created: a device or namespace that is not ours has the name. */
  readonly conflict: string | null
  readonly facts: Facts
}

/** Our namespaces, their name files, and devices that no local network needs. */
export type Leftover = {
  readonly vni: Vni
  readonly namespaces: readonly string[]
  readonly devices: readonly { readonly name: string; readonly ifindex: number }[]
}

export type ObservedGateways = {
  readonly host: ObservedHost
  /** Of the desired networks. */
  readonly routers: ReadonlyMap<Vni, ObservedRouter>
  readonly leftovers: readonly Leftover[]
}

export type GatewayOp =
  | { readonly kind: 'rules-set'; readonly family: Family; readonly text: string }
  | { readonly kind: 'rules-delete'; readonly family: Family }
  /** Without a device: of the whole host, which is how IPv6 is forwarded. */
  | { readonly kind: 'forwarding-set'; readonly device: string | null; readonly on: boolean }
  | { readonly kind: 'router-create'; readonly router: DesiredRouter }
  | {
      readonly kind: 'router-repair'
      readonly router: DesiredRouter
      readonly name: string
      readonly differs: readonly string[]
      /** Does it lose a family? */
      readonly shrinks: boolean
    }
  | ({ readonly kind: 'router-delete' } & Leftover)
  | ({ readonly kind: 'host-routes-add' | 'host-routes-delete' } & HostRoutes)

export type GatewayPlan = {
  readonly ops: readonly GatewayOp[]
  readonly conflicts: readonly { readonly vni: Vni; readonly reason: string }[]
  /** Containers without a host route although their network has hostAccess. */
  readonly refused: readonly { readonly vni: Vni; readonly reason: string }[]
}

/** What a network lacks when its router, or the host's routes through it, are not right. */
export const NO_WAY_OUT = 'no way to the outside'
export const NO_WAY_IN = 'no way in from this host'

/** @param options `all`: the complete desired state, when `desired` holds only some of the routers */
export function planGateways(
  desired: DesiredGateways,
  observed: ObservedGateways,
  { all = desired, carrier = 'bridge' }: { readonly all?: DesiredGateways; readonly carrier?: Carrier } = {}
): GatewayPlan {
  const ops: GatewayOp[] = []
  const conflicts: { vni: Vni; reason: string }[] = []
  const opened = { guarded: desired.guarded, opened: desired.opened, transit: desired.transit, routers: all.routers }
  if (hasFamily(desired, 'ipv4')) ops.push(...openHost(opened, observed.host))
  if (hasFamily(desired, 'ipv6')) ops.push(...openHostV6(opened, observed.host))
  const settled: DesiredRouter[] = []
  for (const router of desired.routers.values()) {
    const now = observed.routers.get(router.vni)
    if (now === undefined) continue
    if (now.conflict === null) settled.push(router)
    if (now.conflict !== null) conflicts.push({ vni: router.vni, reason: now.conflict })
    else if (now.found === null) ops.push({ kind: 'router-create', router })
    else {
      const differs = differing(desiredFacts(router, carrier), now.facts)
      if (differs.length === 0) continue
      const had = now.facts.get(FAMILY_FACT)?.split(' ') ?? []
      const shrinks = had.some(family => !router.subnets.some(one => one.family === family))
      ops.push({ kind: 'router-repair', router, name: now.found, differs, shrinks })
    }
  }
  for (const leftover of observed.leftovers) ops.push({ kind: 'router-delete', ...leftover })
  const leaving = observed.leftovers.map(({ vni }) => vni)
  const routes = planHostRouteOps(all, { wanted: settled, leaving, observed: observed.host.routes })
  ops.push(...routes.ops)
  if (!hasFamily(all, 'ipv4')) ops.push(...closeHost(observed.host))
  if (!hasFamily(all, 'ipv6')) ops.push(...closeHostV6(observed.host.v6))
  return { ops, conflicts, refused: routes.refused }
}

/** Ops for the host's routes only, through routers that are in order. See planHostRoutes. */
export function planHostRouteOps(
  all: DesiredGateways,
  p: Parameters<typeof planHostRoutes>[1]
): Pick<GatewayPlan, 'ops' | 'refused'> {
  const { remove, add, refused } = planHostRoutes(all, p)
  const ops = [
    ...remove.map(routes => ({ kind: 'host-routes-delete', ...routes }) as const),
    ...add.map(routes => ({ kind: 'host-routes-add', ...routes }) as const)
  ]
  return { ops, refused }
}

function hasFamily({ routers }: Pick<DesiredGateways, 'routers'>, family: Family): boolean {
  return [...routers.values()].some(router => routerSubnet(router, family) !== undefined)
}

function hasEgress({ routers }: Pick<DesiredGateways, 'routers'>, family: Family): boolean {
  return [...routers.values()].some(router => router.egress && routerSubnet(router, family) !== undefined)
}

type Opened = Omit<DesiredGateways, 'underlay'>

/** The rules restrict a device before its forwarding is enabled. Packets that the host itself sends are not forwarded. */
function openHost(desired: Opened, host: ObservedHost): readonly GatewayOp[] {
  const egress = hasEgress(desired, 'ipv4')
  const opening = host.uplinks
    .filter(({ name, forwarding }) => egress && !forwarding && isPlainName(name))
    .map(({ name }) => name)
  const ours = host.ipForward ? [] : host.closed.filter(name => host.uplinks.some(uplink => uplink.name === name))
  const closed = [...new Set([...ours, ...opening])].sort()
  const text = hostRules(desired, { ...host, closed })
  return [
    ...(text === host.rules ? [] : [{ kind: 'rules-set', family: 'ipv4', text } as const]),
    ...opening.map(device => ({ kind: 'forwarding-set', device, on: true }) as const)
  ]
}

function closeHost(host: ObservedHost): readonly GatewayOp[] {
  if (!host.table) return []
  const shut = host.ipForward ? [] : host.closed.filter(name => host.uplinks.some(uplink => uplink.name === name))
  return [
    ...shut.map(device => ({ kind: 'forwarding-set', device, on: false }) as const),
    { kind: 'rules-delete', family: 'ipv4' } as const
  ]
}

/** The same of IPv6. */
function openHostV6(desired: Opened, host: ObservedHost): readonly GatewayOp[] {
  const { v6, underlay, tableSize } = host
  const opens = hasEgress(desired, 'ipv6') && !v6.forwards
  const isClosed = opens || (v6.isClosed && !v6.isRouter)
  const text = hostRulesV6(desired, { underlay, tableSize, exits: v6.exits, bridges: v6.bridges, isClosed })
  return [
    ...(text === v6.rules ? [] : [{ kind: 'rules-set', family: 'ipv6', text } as const]),
    ...(opens ? [{ kind: 'forwarding-set', device: null, on: true } as const] : [])
  ]
}

function closeHostV6({ table, forwards, isClosed, isRouter }: ObservedHostV6): readonly GatewayOp[] {
  if (!table) return []
  const shuts = forwards && isClosed && !isRouter
  return [
    ...(shuts ? [{ kind: 'forwarding-set', device: null, on: false } as const] : []),
    { kind: 'rules-delete', family: 'ipv6' } as const
  ]
}

/** The families of what an op opens. Deletions open nothing. */
export function opensFamilies(op: GatewayOp): readonly Family[] {
  switch (op.kind) {
    case 'forwarding-set':
      return !op.on ? [] : [op.device === null ? 'ipv6' : 'ipv4']
    case 'router-create':
    case 'router-repair':
      return op.router.subnets.map(({ family }) => family)
    case 'host-routes-add':
      return op.addresses.map(familyOf)
    case 'rules-set':
    case 'rules-delete':
    case 'router-delete':
    case 'host-routes-delete':
      return []
  }
}

/** One line for the log and for `status`. */
export function describeGatewayOp(op: GatewayOp): string {
  switch (op.kind) {
    case 'rules-set':
      return `set the rules for routers${ofFamily(op.family)}`
    case 'rules-delete':
      return `delete the rules for routers${ofFamily(op.family)}`
    case 'forwarding-set':
      return `switch forwarding ${op.on ? 'on' : 'off'} ${op.device === null ? 'for IPv6' : `on ${op.device}`}`
    case 'router-create':
      return `create a router (vni ${op.router.vni})`
    case 'router-repair':
      return `repair router ${op.name} (vni ${op.router.vni}): ${op.differs.join(', ')}`
    case 'router-delete': {
      const names = op.namespaces.length > 0 ? op.namespaces : op.devices.map(({ name }) => name)
      return `delete router ${names.join(', ')} (vni ${op.vni})`
    }
    case 'host-routes-add':
    case 'host-routes-delete': {
      const doing = op.kind === 'host-routes-add' ? 'add' : 'delete'
      return `${doing} routes to ${op.addresses.map(formatIp).join(', ')} by ${op.outside} (vni ${op.vni})`
    }
  }
}

function ofFamily(family: Family): string {
  return family === 'ipv4' ? '' : ' (IPv6)'
}

/** The network of an op; null for an op on the host itself. */
export function networkOf(op: GatewayOp): Vni | null {
  switch (op.kind) {
    case 'router-create':
    case 'router-repair':
      return op.router.vni
    case 'router-delete':
    case 'host-routes-add':
    case 'host-routes-delete':
      return op.vni
    default:
      return null
  }
}

/** Does the op set a route from the host to containers? */
export function isHostRoute(op: GatewayOp): boolean {
  return op.kind === 'host-routes-add' || op.kind === 'host-routes-delete'
}

/** Does the op remove something? Such ops wait while the replicated state may be stale. */
export function removesGateway(op: GatewayOp): boolean {
  switch (op.kind) {
    case 'rules-delete':
    case 'router-delete':
    case 'host-routes-delete':
      return true
    case 'forwarding-set':
      return !op.on
    case 'router-repair':
      return op.shrinks
    case 'rules-set':
    case 'router-create':
    case 'host-routes-add':
      return false
  }
}
