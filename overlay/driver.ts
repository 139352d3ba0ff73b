// The interface of an overlay driver: `Devices`, the same for all drivers, and `Forwarding`, which each implements. A
// driver observes the kernel and executes ops; what should exist is decided in plan/.

import type { Doors } from './plan/filter/ruleset.ts'
import type { Sender, SerfPort } from './plan/filter/serf-limits.ts'
import { addressesOf, gatewaysOf, subnetsOf } from '#model/addresses.ts'
import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { VxmeshError } from '#model/errors.ts'
import type { IfName, Vni } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import type { OpNote, Part } from './pass.ts'
import { endpointAlias, vethName } from './plan/network/names.ts'
import type { DesiredHost } from './plan/network/desired.ts'
import { Telling } from './plan/network/tells.ts'
import type { Plan } from './plan/network/plan-network.ts'
import type { ShapingSupport } from './plan/shaping/queue.ts'
import type { Drop } from './plan/programs/entries.ts'
import type { Underlay } from './plan/underlay/underlay.ts'

/**
 * A failure in one network does not stop the others. After a failed device op the rest of its network's ops are
 * skipped.
 */
export type ExecuteResult<Op> = {
  readonly done: number
  readonly skipped: number
  readonly failures: readonly { readonly op: Op; readonly error: VxmeshError }[]
}

/** An address of a container's interface. */
export type ContainerAddress = {
  readonly address: Ip
  readonly prefixLength: number
  /** Null: no default route. */
  readonly gateway: Ip | null
}

/** All parameters of a local endpoint's interface. */
export type AttachRequest = {
  readonly vni: Vni
  /** Name of the veth on the host. */
  readonly hostInterface: IfName
  /** Name of the interface in the container. */
  readonly ifname: IfName
  /** Absolute path of the container's network namespace. */
  readonly netns: string
  /** One for each subnet of the network. */
  readonly addresses: readonly ContainerAddress[]
  readonly mac: Mac
  /** Which of its addresses that tells: see plan/network/tells.ts. */
  readonly tells: number
  readonly mtu: number
  /** Interface alias of the host side; marks it as ours. */
  readonly alias: string
  /** In force from the first packet on. */
  readonly shaping: Shaping
  /** Requested number of the port on the switch; another one is used if it is taken. */
  readonly portNumber?: number
}

/** The parameters for shaping an existing endpoint. */
export type ShapeRequest = Pick<AttachRequest, 'hostInterface' | 'alias' | 'mtu' | 'shaping'>

export type AttachResult = {
  /** False when the endpoint was found and adopted. */
  readonly created: boolean
  readonly hostInterface: IfName
  readonly ifindex: number
}

/** Called after another program changed the kernel: in these networks, or (null) possibly in any. */
export type ChangeListener = (networks: ReadonlySet<Vni> | null) => void

export type DetachRequest = { readonly hostInterface: IfName; readonly alias: string }

/** Seen from the container: rx is what it received. Bytes and packets since the device was created. */
export type Counters = {
  /** Ifindex of the device that counts. A different device started from zero. */
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
  /** The consequence of its absence, or the kernel's error message. */
  readonly detail: string
}

/** The interfaces of this host's containers, the same for all drivers. */
export type Devices = {
  /**
   * A pass must have created the network. Idempotent.
   * @param desired the host's desired state with this endpoint in it, for a backend that adds a port and its flows with it
   * @throws ERR_NETNS, ERR_IFNAME_IN_USE, ERR_KERNEL
   */
  attach(request: AttachRequest, desired: () => DesiredHost): Promise<AttachResult>
  /** Absent is success, also when the namespace is gone. @throws ERR_KERNEL */
  detach(request: DetachRequest): Promise<{ readonly removed: boolean }>
  /**
   * Sets the MTU of a container's interface, and the addresses that it lacks, with their default routes; what it has stays.
   * Does nothing to a container that does not hold the other end of this pair. Idempotent. @throws ERR_NETNS, ERR_KERNEL
   */
  updateContainer(request: AttachRequest): Promise<void>
  /**
   * Sets the endpoint's queues; a mere change of rate keeps queued packets. Idempotent. Does nothing without the
   * interface, since attach sets the queues. @throws ERR_KERNEL
   */
  shape(request: ShapeRequest): Promise<void>
  /** What is enforced now, which may differ from the request; null without the interface. */
  installedShaping(request: ShapeRequest): Promise<Shaping | null>
  /** What this kernel can enforce. */
  shapingSupport(): Promise<ShapingSupport>
  /** Is the endpoint in the kernel as an attach leaves it? Changes nothing. @throws ERR_NETNS, ERR_CHECK_FAILED, ERR_KERNEL */
  check(request: AttachRequest): Promise<void>
  /**
   * The number of a container's port on the switch, or the ifindex if there is no switch; 0 if the port does not exist.
   */
  portNumber(hostInterface: string): number
  /** By host interface. */
  counters(): Promise<ReadonlyMap<string, Counters>>
  /** The underlay as it is now; passes go by what was read last. @throws ERR_CONFIG naming `bind` */
  underlay(): Promise<Underlay>
}

/** Forwarding between the containers' interfaces and to other hosts. Each driver has op types of its own. */
export type Forwarding<Observed, Op> = {
  /** See Part. */
  readonly holdsPeers?: boolean
  /** The whole host, or one network (cheap: for one attach). */
  observe(look: ForwardingLook): Promise<Observed>
  /** The ops that turn the observed state into the desired one. Pure. */
  plan(desired: DesiredHost, observed: Observed): Plan<Op>
  /** A failing op does not throw: it is reported in the result. */
  execute(ops: readonly Op[]): Promise<ExecuteResult<Op>>
  note(op: Op): OpNote
}

export type ForwardingLook = {
  readonly scope: Vni | null
  readonly desired: () => DesiredHost
}

/** By what containers' ports and the VXLAN port are guarded. */
export type GuardKind = 'bpf' | 'nft' | 'off'

export type OverlayDriver = {
  readonly name: 'linux' | 'bpf' | 'ovs'
  /** As `setGuard` has set it. */
  readonly guard: GuardKind
  /** Why this kernel cannot run our programs; null when it can, or when they are not to run. */
  readonly noPrograms: string | null
  readonly devices: Devices
  /** The parts of a pass, in order. */
  readonly parts: readonly Part[]
  /**
   * Port security and the underlay guard on this UDP port; null removes what an earlier run installed.
   * @throws ERR_UNSUPPORTED, ERR_KERNEL
   */
  setGuard(port: number | null): Promise<void>
  /**
   * From now on, lets only processes of the listed users connect to these ports of the loopback device.
   * @returns why this kernel cannot, or null
   * @throws ERR_KERNEL
   */
  setDoors(doors: Doors): Promise<string | null>
  /**
   * Limits what Serf's port accepts from each source, from now on; members of the cluster have far higher limits.
   * @returns why this kernel cannot, or null
   * @throws ERR_KERNEL
   */
  setSerfLimits(serf: SerfPort): Promise<string | null>
  /** Packets that the guard's programs dropped, by reason; null when they do not run. @throws ERR_KERNEL */
  guardDrops(): Readonly<Record<Drop, number>> | null
  /** Packets beyond those limits since they were installed; null without limits. @throws ERR_KERNEL */
  serfDrops(): Readonly<Record<Sender, number>> | null
  features(): Promise<readonly Feature[]>
  /**
   * Calls back (debounced) after another program changed devices, entries or the underlay's MTU. Returns a function
   * that stops it.
   */
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
  const [subnets, gateways] = [subnetsOf(network), gatewaysOf(network)]
  const hasRoute = p.withRoute && network.egress
  const addresses = addressesOf(network, endpoint).map((address, at) => {
    const gateway = hasRoute ? (gateways[at] ?? null) : null
    return { address, prefixLength: subnets[at]?.prefixLength ?? 0, gateway }
  })
  return {
    ...shapeRequest(p),
    vni: network.vni,
    ifname: endpoint.ifname,
    netns: p.netns,
    addresses,
    mac: endpoint.mac,
    tells: new Telling(network).of(endpoint)
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
