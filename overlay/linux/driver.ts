// The Linux driver: kernel bridge and VXLAN over rtnetlink.

import type { Shaping } from '#model/endpoint.ts'
import type { Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { isSysctlWritable } from '#platform/netns.ts'
import type {
  AttachRequest,
  AttachResult,
  ChangeListener,
  ContainerMtuRequest,
  Counters,
  DetachRequest,
  ExecuteResult,
  Feature,
  GatewayOptions,
  GatewayReport,
  OverlayDriver,
  ShapeRequest
} from '../driver.ts'
import type { DesiredFilter } from '../plan/filter/desired-filter.ts'
import { Guard, removeFilters } from '../filter/guard.ts'
import { Gateways } from '../gateway/gateways.ts'
import type { DesiredGateways } from '../plan/gateway/desired-gateway.ts'
import type { DesiredHost } from '../plan/network/desired.ts'
import type { Observed } from '../plan/network/observed.ts'
import { linkNetwork, plan, type Plan } from '../plan/network/plan-network.ts'
import type { Op } from '../plan/network/op.ts'
import { readShaping, readVeth, shapeLink } from '../shaping/endpoint.ts'
import { probeShaping } from '../shaping/probe.ts'
import type { Carrier } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { attachContainer, checkContainer, detachContainer, setContainerMtu } from './attach.ts'
import { CounterReader } from './counters.ts'
import { execute } from './execute.ts'
import { probeFeatures, probeFilters } from './features.ts'
import { readLink, type Kernel } from '../kernel/kernel.ts'
import { observe, observeDevices, type DevicesLook } from './observe.ts'
import { Removal } from '../kernel/removal.ts'
import { readUnderlay, type Underlay } from './underlay.ts'
import { watchChanges, watchTables } from './watch.ts'

export type LinuxDriverOptions = {
  /** This host's tunnel address. */
  readonly bind: Ipv4
  /** Path of the host's network namespace; the process's own by default. */
  readonly hostNetns?: string
  /** Not the bridge, which is the default: the devices alone, whose ports are on a switch of somebody else's. */
  readonly carrier?: Carrier
}

export class LinuxDriver implements OverlayDriver {
  readonly name = 'linux'
  readonly #bind: Ipv4
  readonly #carrier: Carrier
  readonly #kernel: Kernel
  readonly #removal: Removal
  readonly #counters: CounterReader
  readonly #gateways: Gateways
  #support: ShapingSupport | null = null
  readonly #stops = new Set<() => void>()
  /** The network of each device of ours by index, as last seen. */
  #ours = new Map<number, Vni | null>()
  #underlay: Underlay | null = null
  #guard: Guard | null = null

  private constructor(bind: Ipv4, kernel: Kernel, carrier: Carrier) {
    this.#bind = bind
    this.#carrier = carrier
    this.#kernel = kernel
    this.#removal = new Removal(kernel.netns)
    this.#counters = new CounterReader(kernel.socket)
    this.#gateways = new Gateways(kernel, { support: () => this.#shapingSupport(), carrier })
  }

  /** Opens the sockets. Changes nothing in the kernel. @throws ERR_NETNS, ERR_KERNEL */
  static open(options: LinuxDriverOptions): LinuxDriver {
    const netns = options.hostNetns ?? null
    const socket = NetlinkSocket.open(netns)
    const present = readLink(socket, 'lo')?.addrGenNone !== null
    const sysctl = present && isSysctlWritable(netns, 'net/ipv6/conf/lo/disable_ipv6')
    return new LinuxDriver(options.bind, { socket, netns, ipv6: { present, sysctl } }, options.carrier ?? 'bridge')
  }

  // Async for the interface's sake, so that a thrown error is always a rejection.

  async observe(scope?: Vni): Promise<Observed> {
    const observed = await this.#run(() => observe(this.#kernel, scope ?? null, this.#shapingSupport()))
    // A full look forgets what is gone; a look at one network only adds.
    if (scope === undefined) this.#ours = new Map()
    for (const link of observed.links.values()) this.#ours.set(link.ifindex, linkNetwork(link))
    return observed
  }

  /** The host's devices of ours as they are, or some of them, for a driver that knows what each is a port of. */
  observeDevices(look: DevicesLook | null): Promise<Observed> {
    return this.#run(() => observeDevices(this.#kernel, look, this.#shapingSupport()))
  }

  /** The networks of the devices by index, for what changes of others concern. */
  learn(networks: Iterable<readonly [number, Vni]>): void {
    for (const [ifindex, vni] of networks) this.#ours.set(ifindex, vni)
  }

  plan(desired: DesiredHost, observed: Observed): Plan {
    return plan(desired, observed)
  }

  execute(ops: readonly Op[]): Promise<ExecuteResult> {
    return execute({ kernel: this.#kernel, removal: this.#removal }, ops)
  }

  async setGuard(port: number | null): Promise<void> {
    this.#guard?.close()
    this.#guard = null
    const { netns } = this.#kernel
    if (port === null) {
      removeFilters(netns)
      return
    }
    this.#guard = await Guard.open(netns, { vtep: this.#bind, port })
    this.#guard.onWrite = (from, to) => this.#gateways.follow(from, to)
  }

  async guard(desired: DesiredFilter, options: { readonly mayRemove: boolean }): Promise<readonly string[]> {
    return (await this.#guard?.reconcile(desired, options)) ?? []
  }

  async attach(request: AttachRequest): Promise<AttachResult> {
    const { hostInterface: device, mac, address } = request
    await this.#guard?.admit({ device, mac, address })
    const result = await attachContainer({ ...this.#place(), removal: this.#removal }, request)
    this.#ours.set(result.ifindex, request.vni)
    return result
  }

  async detach(request: DetachRequest): Promise<{ readonly removed: boolean }> {
    const result = await detachContainer({ kernel: this.#kernel, removal: this.#removal }, request)
    await this.#guard?.dismiss(request.hostInterface)
    return result
  }

  setContainerMtu(request: ContainerMtuRequest): Promise<void> {
    return this.#run(() => setContainerMtu(this.#place(), request))
  }

  settleGateways(desired: DesiredGateways, options: GatewayOptions): Promise<GatewayReport> {
    return this.#gateways.settle(desired, options)
  }

  check(request: AttachRequest): Promise<void> {
    return this.#run(() => checkContainer(this.#place(), request))
  }

  portNumber(hostInterface: string): number {
    return readLink(this.#kernel.socket, hostInterface)?.ifindex ?? 0
  }

  counters(): Promise<ReadonlyMap<string, Counters>> {
    return this.#run(() => this.#counters.read())
  }

  async shape(request: ShapeRequest): Promise<void> {
    const kernel = this.#kernel
    const support = (): ShapingSupport => this.#shapingSupport()
    const surplus = await this.#run(() => {
      const veth = readVeth(kernel, request)
      return veth === null ? null : shapeLink({ kernel, request, veth, support })
    })
    if (surplus !== null) await this.#removal.remove([surplus])
  }

  installedShaping(request: ShapeRequest): Promise<Shaping | null> {
    return this.#run(() => readShaping(this.#kernel, request))
  }

  shapingSupport(): Promise<ShapingSupport> {
    return this.#run(() => this.#shapingSupport())
  }

  overlayMtu(): Promise<number> {
    return this.#run(() => {
      this.#underlay = readUnderlay(this.#kernel.socket, this.#bind)
      return this.#underlay.overlayMtu
    })
  }

  async features(): Promise<readonly Feature[]> {
    return [
      ...probeFeatures(this.#kernel),
      ...(await probeFilters({ vtep: this.#bind, required: this.#guard !== null })),
      ...(await this.#gateways.features())
    ]
  }

  onChange(listener: ChangeListener): () => void {
    const { netns } = this.#kernel
    const stopTables =
      this.#guard === null ? () => undefined : watchTables({ netns, own: this.#guard.portId, listener })
    const stopWatching = watchChanges({
      netns,
      own: [this.#kernel.socket.portId, ...this.#removal.portIds],
      networkOf: ifindex => this.#ours.get(ifindex),
      mattersToAll: link => link.ifindex === this.#underlay?.ifindex && link.mtu !== this.#underlay.mtu,
      listener
    })
    const stop = (): void => {
      if (!this.#stops.delete(stop)) return
      stopWatching()
      stopTables()
    }
    this.#stops.add(stop)
    return stop
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop()
    await this.#removal.close()
    this.#guard?.close()
    this.#kernel.socket.close()
  }

  #place(): { kernel: Kernel; support: () => ShapingSupport; carrier: Carrier } {
    return { kernel: this.#kernel, support: () => this.#shapingSupport(), carrier: this.#carrier }
  }

  /** Asked once: a kernel does not unlearn. */
  #shapingSupport(): ShapingSupport {
    return (this.#support ??= probeShaping().support)
  }

  async #run<T>(work: () => T): Promise<T> {
    await Promise.resolve()
    return work()
  }
}
