// A kernel backend of the overlay. The agent knows only this; nothing here decides what ought to exist.

import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { VxmeshError } from '#model/errors.ts'
import type { IfName, Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import type { DesiredFilter } from './plan/filter/desired-filter.ts'
import { endpointAlias, vethName } from './plan/network/names.ts'
import type { DesiredHost } from './plan/network/desired.ts'
import type { Observed } from './plan/network/observed.ts'
import type { Plan } from './plan/network/plan-network.ts'
import type { Op } from './plan/network/op.ts'
import type { DesiredGateways } from './plan/gateway/desired-gateway.ts'
import type { ShapingSupport } from './plan/shaping/queue.ts'

export type OpFailure = { readonly op: Op; readonly error: VxmeshError }

/** One failing network does not stop the others; its remaining ops are skipped when a device of it failed. */
export type ExecuteResult = {
  readonly done: number
  readonly skipped: number
  readonly failures: readonly OpFailure[]
}

/** Everything that the kernel must know about a local endpoint. */
export type AttachRequest = {
  readonly vni: Vni
  /** Name of the veth on the host. */
  readonly hostInterface: IfName
  /** Name of the interface in the container. */
  readonly ifname: IfName
  /** Absolute path of the container's network namespace. */
  readonly netns: string
  readonly address: Ipv4
  readonly prefixLength: number
  readonly mac: Mac
  readonly mtu: number
  /** Null: no default route. */
  readonly gateway: Ipv4 | null
  /** Mark of the host side. */
  readonly alias: string
  /** Holds from the first packet. */
  readonly shaping: Shaping
  /** The number of the port on the switch, where there is one: to be had if nobody has it. */
  readonly portNumber?: number
}

/** What shaping of an endpoint that exists must know. */
export type ShapeRequest = Pick<AttachRequest, 'hostInterface' | 'alias' | 'mtu' | 'shaping'>

export type AttachResult = {
  /** False when the endpoint was found and adopted. */
  readonly created: boolean
  readonly hostInterface: IfName
  readonly ifindex: number
}

/** The interface of a container that is attached, to be brought to another MTU. */
export type ContainerMtuRequest = Pick<AttachRequest, 'hostInterface' | 'ifname' | 'netns' | 'mtu'>

/** Hears of changes by others: in these networks, or (null) in any. */
export type ChangeListener = (networks: ReadonlySet<Vni> | null) => void

export type DetachRequest = { readonly hostInterface: IfName; readonly alias: string }

/** Seen from the container: rx is what it received. Bytes and packets since the device was made. */
export type Counters = {
  /** Index of the device that counts. Another one has begun anew. */
  readonly ifindex: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly rxPackets: number
  readonly txPackets: number
}

export type GatewayOptions = {
  /** One network alone; `desired` has all of them nevertheless. */
  readonly scope?: Vni
  /** Do not look again at what the last look found right: for attach. */
  readonly trust?: boolean
  readonly mayRemove: boolean
}

export type GatewayReport = {
  /** What was done, in words. */
  readonly done: readonly string[]
  /** Of that, what somebody else had changed. */
  readonly repaired: readonly { readonly kind: string; readonly what: string }[]
  /** What could not be, by network; null is the host's own. */
  readonly problems: readonly {
    readonly vni: Vni | null
    readonly message: string
    /** It is the way from the host in that fails, not the way out. */
    readonly hostAccess?: boolean
  }[]
}

/** What this kernel can do, for `doctor`. */
export type Feature = {
  readonly name: string
  readonly present: boolean
  /** Is the driver unable to work without it? */
  readonly required: boolean
  /** What follows from its absence, or the kernel's own words. */
  readonly detail: string
}

export type OverlayDriver = {
  readonly name: 'linux' | 'ovs'
  /** The whole host, or one network (cheap: for one attach). Compute desired() after it, never before. */
  observe(scope?: Vni): Promise<Observed>
  /** What makes the one the other. Pure. */
  plan(desired: DesiredHost, observed: Observed): Plan
  /** Never throws for a failing op: it is in the result. */
  execute(ops: readonly Op[]): Promise<ExecuteResult>
  /** Port security and the underlay guard on this UDP port, or neither: then what an earlier run installed goes. @throws ERR_UNSUPPORTED, ERR_KERNEL */
  setGuard(port: number | null): Promise<void>
  /** Keeps the filters as desired; tells what there was to do. Without a guard, nothing. @throws ERR_KERNEL */
  guard(desired: DesiredFilter, options: { readonly mayRemove: boolean }): Promise<readonly string[]>
  /** The network's bridge must exist. Idempotent. @throws ERR_NETNS, ERR_IFNAME_IN_USE, ERR_KERNEL */
  attach(request: AttachRequest): Promise<AttachResult>
  /** Absent is success, also when the namespace is gone. @throws ERR_KERNEL */
  detach(request: DetachRequest): Promise<{ readonly removed: boolean }>
  /** Leaves a container alone that holds no end of this pair. Idempotent. @throws ERR_NETNS, ERR_KERNEL */
  setContainerMtu(request: ContainerMtuRequest): Promise<void>
  /**
   * Makes the queues of an endpoint as asked, without loss of what waits in them where only a rate changes. Idempotent.
   * Nothing is done when the interface is not there: attach will. @throws ERR_KERNEL
   */
  shape(request: ShapeRequest): Promise<void>
  /** What is enforced now, which may differ from what the request asks for; null when the interface is not there. */
  installedShaping(request: ShapeRequest): Promise<Shaping | null>
  /** What this kernel can enforce. */
  shapingSupport(): Promise<ShapingSupport>
  /**
   * Makes the routers as desired, whose bridges must exist. A network's trouble is in the report. @throws ERR_KERNEL when
   * the host cannot be read
   */
  settleGateways(desired: DesiredGateways, options: GatewayOptions): Promise<GatewayReport>
  /** Is the endpoint in the kernel as an attach leaves it? Changes nothing. @throws ERR_NETNS, ERR_CHECK_FAILED, ERR_KERNEL */
  check(request: AttachRequest): Promise<void>
  /** The number of a container's port: of the switch, or the device's index where there is none; 0: there is no such port. */
  portNumber(hostInterface: string): number
  /** By host interface. */
  counters(): Promise<ReadonlyMap<string, Counters>>
  /** The MTU that the underlay leaves to containers, in bytes. @throws ERR_CONFIG naming `bind` */
  overlayMtu(): Promise<number>
  features(): Promise<readonly Feature[]>
  /** Calls back (coalesced) after somebody else changed devices, entries or the underlay's MTU. Returns how to stop. */
  onChange(listener: ChangeListener): () => void
  /** Closes sockets. Nothing in the kernel is removed. */
  close(): Promise<void>
}

/** The kernel's facts of an endpoint of this host. `withRoute` asks for the default route, if the network has one. */
export function attachRequest(p: {
  readonly endpoint: Endpoint
  readonly network: Network
  readonly overlayMtu: number
  readonly netns: string
  readonly withRoute: boolean
}): AttachRequest {
  const { endpoint, network } = p
  return {
    ...shapeRequest(p),
    vni: network.vni,
    ifname: endpoint.ifname,
    netns: p.netns,
    address: endpoint.address,
    prefixLength: network.subnet.prefixLength,
    mac: endpoint.mac,
    gateway: p.withRoute && network.egress ? network.gateway : null
  }
}

export function shapeRequest(p: {
  readonly endpoint: Endpoint
  readonly network: Network
  readonly overlayMtu: number
}): ShapeRequest {
  const { ingressRate, egressRate, delayUs } = p.endpoint
  return {
    ...detachRequest(p.endpoint),
    mtu: p.network.mtu === 0 ? p.overlayMtu : p.network.mtu,
    shaping: { ingressRate, egressRate, delayUs }
  }
}

export function detachRequest(endpoint: Pick<Endpoint, 'containerId' | 'ifname'>): DetachRequest {
  return {
    hostInterface: vethName(endpoint.containerId, endpoint.ifname),
    alias: endpointAlias(endpoint.containerId, endpoint.ifname)
  }
}
