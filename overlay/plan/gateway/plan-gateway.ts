// Diffs desired against observed: the ops that create and repair routers and delete leftover ones. Level-triggered. The
// host's rules are installed before the first router and deleted after the last one. Pure.

import type { Vni } from '#model/ids.ts'
import { formatIp, type Subnet } from '#model/ip.ts'
import type { DesiredGateways, DesiredRouter } from './desired-gateway.ts'
import type { Carrier } from '../network/switch.ts'
import { desiredFacts, differing, type Facts } from './facts.ts'
import { planHostRoutes, type HostRoutes, type ObservedHostRoutes } from './host-access.ts'
import { hostRules, isPlainName } from './rules.ts'

/** A device of the host with an address: replies from outside may arrive on it. */
export type Uplink = { readonly name: string; readonly forwarding: boolean }

export type ObservedHost = {
  readonly uplinks: readonly Uplink[]
  /** net.ipv4.ip_forward: the administrator has made this host a router. */
  readonly ipForward: boolean
  /** The prefixes of the underlay addresses. */
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
  | { readonly kind: 'rules-set'; readonly text: string }
  | { readonly kind: 'rules-delete' }
  | { readonly kind: 'forwarding-set'; readonly device: string; readonly on: boolean }
  | { readonly kind: 'router-create'; readonly router: DesiredRouter }
  | {
      readonly kind: 'router-repair'
      readonly router: DesiredRouter
      readonly name: string
      readonly differs: readonly string[]
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
  const egress = [...all.routers.values()].some(router => router.egress)
  if (desired.routers.size > 0) ops.push(...openHost(desired, observed.host, egress))
  const settled: DesiredRouter[] = []
  for (const router of desired.routers.values()) {
    const now = observed.routers.get(router.vni)
    if (now === undefined) continue
    if (now.conflict === null) settled.push(router)
    if (now.conflict !== null) conflicts.push({ vni: router.vni, reason: now.conflict })
    else if (now.found === null) ops.push({ kind: 'router-create', router })
    else {
      const differs = differing(desiredFacts(router, carrier), now.facts)
      if (differs.length > 0) ops.push({ kind: 'router-repair', router, name: now.found, differs })
    }
  }
  for (const leftover of observed.leftovers) ops.push({ kind: 'router-delete', ...leftover })
  const leaving = observed.leftovers.map(({ vni }) => vni)
  const routes = planHostRouteOps(all, { wanted: settled, leaving, observed: observed.host.routes })
  ops.push(...routes.ops)
  if (all.routers.size === 0) ops.push(...closeHost(observed.host))
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

/** The rules restrict a device before its forwarding is enabled. Packets that the host itself sends are not forwarded. */
function openHost(desired: DesiredGateways, host: ObservedHost, egress: boolean): readonly GatewayOp[] {
  const opening = host.uplinks
    .filter(({ name, forwarding }) => egress && !forwarding && isPlainName(name))
    .map(({ name }) => name)
  const ours = host.ipForward ? [] : host.closed.filter(name => host.uplinks.some(uplink => uplink.name === name))
  const closed = [...new Set([...ours, ...opening])].sort()
  const text = hostRules(desired, { ...host, closed })
  return [
    ...(text === host.rules ? [] : [{ kind: 'rules-set', text } as const]),
    ...opening.map(device => ({ kind: 'forwarding-set', device, on: true }) as const)
  ]
}

function closeHost(host: ObservedHost): readonly GatewayOp[] {
  if (!host.table) return []
  const shut = host.ipForward ? [] : host.closed.filter(name => host.uplinks.some(uplink => uplink.name === name))
  return [
    ...shut.map(device => ({ kind: 'forwarding-set', device, on: false }) as const),
    { kind: 'rules-delete' } as const
  ]
}

/** One line for the log and for `status`. */
export function describeGatewayOp(op: GatewayOp): string {
  switch (op.kind) {
    case 'rules-set':
      return 'set the rules for routers'
    case 'rules-delete':
      return 'delete the rules for routers'
    case 'forwarding-set':
      return `switch forwarding ${op.on ? 'on' : 'off'} on ${op.device}`
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
    case 'rules-set':
    case 'router-create':
    case 'router-repair':
    case 'host-routes-add':
      return false
  }
}
