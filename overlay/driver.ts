// What the agent knows of a kernel backend: `Devices`, which every backend shares, and `Forwarding`, which each brings itself.
// Nothing here decides what ought to exist.

import type { Doors } from './plan/filter/ruleset.ts'
import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { VxmeshError } from '#model/errors.ts'
import type { IfName, Vni } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import type { OpNote, Part } from './pass.ts'
import { endpointAlias, vethName } from './plan/network/names.ts'
import type { DesiredHost } from './plan/network/desired.ts'
import type { Plan } from './plan/network/plan-network.ts'
import type { ShapingSupport } from './plan/shaping/queue.ts'
import type { Underlay } from './plan/underlay/underlay.ts'

/** One failing network does not stop the others; its remaining ops are skipped when a device of it failed. */
export type ExecuteResult<Op> = {
  readonly done: number
  readonly skipped: number
  readonly failures: readonly { readonly op: Op; readonly error: VxmeshError }[]
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
  readonly address: Ip
  readonly prefixLength: number
  readonly mac: Mac
  readonly mtu: number
  /** Null: no default route. */
  readonly gateway: Ip | null
  /** Mark of the host side. */
  readonly alias: string
  /** Holds from the first packet. */
  readonly shaping: Shaping
  /** Requested number of the port on the switch; another one is used if it is taken. */
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

/** Called after changes by others: in these networks, or (null) in any. */
export type ChangeListener = (networks: ReadonlySet<Vni> | null) => void

export type DetachRequest = { readonly hostInterface: IfName; readonly alias: string }

/** Seen from the container: rx is what it received. Bytes and packets since the device was created. */
export type Counters = {
  /** Index of the counting device. A different one counts from zero. */
  readonly ifindex: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly rxPackets: number
  readonly txPackets: number
}

/** What this kernel can do, for `doctor`. */
export type Feature = {
  readonly name: string
  readonly present: boolean
  /** Is the driver unable to work without it? */
  readonly required: boolean
  /** What follows from its absence, or the kernel's error message. */
  readonly detail: string
}

/** Containers' interfaces on this host, whatever carries their packets. */
export type Devices = {
  /**
   * A pass must have created the network. Idempotent.
   * @param desired the host's desired state with this endpoint in it, for a backend that adds a port and its flows with it
   * @throws ERR_NETNS, ERR_IFNAME_IN_USE, ERR_KERNEL
   */
  attach(request: AttachRequest, desired: () => DesiredHost): Promise<AttachResult>
  /** Absent is success, also when the namespace is gone. @throws ERR_KERNEL */
  detach(request: DetachRequest): Promise<{ readonly removed: boolean }>
  /** Does nothing to a container that does not hold the other end of this pair. Idempotent. @throws ERR_NETNS, ERR_KERNEL */
  setContainerMtu(request: ContainerMtuRequest): Promise<void>
  /**
   * Sets the endpoint's queues. A change of rate alone loses no queued packet. Idempotent. Without the interface nothing is
   * done: attach will do it. @throws ERR_KERNEL
   */
  shape(request: ShapeRequest): Promise<void>
  /** What is enforced now, which may differ from the request; null without the interface. */
  installedShaping(request: ShapeRequest): Promise<Shaping | null>
  /** What this kernel can enforce. */
  shapingSupport(): Promise<ShapingSupport>
  /** Is the endpoint in the kernel as an attach leaves it? Changes nothing. @throws ERR_NETNS, ERR_CHECK_FAILED, ERR_KERNEL */
  check(request: AttachRequest): Promise<void>
  /** The number of a container's port: the switch's, or without a switch the device's index; 0: there is no such port. */
  portNumber(hostInterface: string): number
  /** By host interface. */
  counters(): Promise<ReadonlyMap<string, Counters>>
  /** The underlay as it is now. @throws ERR_CONFIG naming `bind` */
  underlay(): Promise<Underlay>
}

/** How packets get from the containers' interfaces to each other and to other hosts, in ops of its own. */
export type Forwarding<Observed, Op> = {
  /** The whole host, or one network (cheap: for one attach). */
  observe(look: ForwardingLook): Promise<Observed>
  /** What makes the one the other. Pure. */
  plan(desired: DesiredHost, observed: Observed): Plan<Op>
  /** Never throws for a failing op: it is in the result. */
  execute(ops: readonly Op[]): Promise<ExecuteResult<Op>>
  note(op: Op): OpNote
}

export type ForwardingLook = {
  readonly scope: Vni | null
  readonly desired: () => DesiredHost
}

export type OverlayDriver = {
  readonly name: 'linux' | 'ovs'
  readonly devices: Devices
  /** Everything that a pass keeps right, in order. */
  readonly parts: readonly Part[]
  /**
   * Port security and the underlay guard on this UDP port; null removes what an earlier run installed.
   * @throws ERR_UNSUPPORTED, ERR_KERNEL
   */
  setGuard(port: number | null): Promise<void>
  /**
   * Lets only these users' processes connect to these ports of the loopback device, from now on.
   * @returns why this kernel cannot, or null
   * @throws ERR_KERNEL
   */
  setDoors(doors: Doors): Promise<string | null>
  features(): Promise<readonly Feature[]>
  /** Calls back (debounced) after somebody else changed devices, entries or the underlay's MTU. Returns how to stop. */
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
