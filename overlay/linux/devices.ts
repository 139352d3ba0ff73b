// The interfaces of this host's containers over rtnetlink: attach, detach, shaping and counters, the same under every
// driver. A driver whose carrier is not the bridge connects the host's ends itself.

import type { Shaping } from '#model/endpoint.ts'
import type { Vni } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { AttachRequest, AttachResult, Counters, DetachRequest, Devices, ShapeRequest } from '../driver.ts'
import type { Programs } from '../bpf/programs.ts'
import type { Guard } from '../filter/guard.ts'
import { readLink, type Kernel } from '../kernel/kernel.ts'
import type { Removal } from '../kernel/removal.ts'
import type { Sampling } from '../kernel/sampling.ts'
import type { DesiredHost } from '../plan/network/desired.ts'
import type { Carrier } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { readShaping, readVeth, shapeLink } from '../shaping/endpoint.ts'
import type { Underlay } from '../plan/underlay/underlay.ts'
import { attachContainer, checkContainer, detachContainer, updateContainer, type AttachHost } from './attach.ts'
import { CounterReader } from './counters.ts'

/** How a carrier other than the bridge connects the host's end of a veth. */
export type Connector = {
  /** Called when the pair exists and is down: adds its port, then sets it up. @throws ERR_KERNEL */
  connect(request: AttachRequest, desired: DesiredHost): Promise<void>
  /** @throws ERR_CHECK_FAILED, ERR_KERNEL */
  check(request: AttachRequest): Promise<void>
  portNumber(hostInterface: string): number
  /** The part of the kernel's shaping that works with this carrier. */
  limit(support: ShapingSupport): ShapingSupport
}

/** One host as the parts of a driver share it. */
export type DeviceHost = {
  readonly kernel: Kernel
  readonly removal: Removal
  readonly clock: Clock
  readonly carrier: Carrier
  readonly support: () => ShapingSupport
  readonly guard: () => Guard | null
  readonly programs: () => Programs | null
  /** The network of each device of ours by index, as last seen. */
  readonly networks: Map<number, Vni | null>
  /** The index of each of them by name. */
  readonly indexes: Map<string, number>
  readonly sampling: Sampling
  /** @throws ERR_CONFIG naming `bind` */
  readonly readUnderlay: () => Underlay
}

const SHAPED: Shaping = { ingressRate: 1, egressRate: 1, delayUs: 0 }
const NOTHING: DesiredHost = { networks: new Map(), peers: new Map() }

export class LinuxDevices implements Devices {
  readonly #host: DeviceHost
  readonly #connector: Connector | null
  readonly #counters: CounterReader

  constructor(host: DeviceHost, connector: Connector | null) {
    this.#host = host
    this.#connector = connector
    this.#counters = new CounterReader(host.kernel.socket, () => host.programs()?.traffic() ?? new Map())
  }

  // Async methods, so that an error is always a rejection.

  async attach(request: AttachRequest, desired: () => DesiredHost = () => NOTHING): Promise<AttachResult> {
    const { hostInterface: device, mac, addresses, vni } = request
    const port = { device, mac, addresses: addresses.map(({ address }) => address) }
    const { removal, clock } = this.#host
    if (this.#host.programs() === null) await this.#host.guard()?.admit(port)
    const result = await attachContainer({ ...this.#attachHost(), removal, clock }, request)
    this.#host.networks.set(result.ifindex, vni)
    try {
      await this.#connector?.connect(request, desired())
    } catch (err) {
      if (result.created) await this.detach(request).catch(() => undefined)
      throw err
    }
    return result
  }

  async detach(request: DetachRequest): Promise<{ readonly removed: boolean }> {
    const result = await detachContainer(this.#host, request)
    this.#host.programs()?.dismiss(request.hostInterface)
    await this.#host.guard()?.dismiss(request.hostInterface)
    return result
  }

  async updateContainer(request: AttachRequest): Promise<void> {
    await Promise.resolve()
    updateContainer(this.#attachHost(), request)
  }

  async check(request: AttachRequest): Promise<void> {
    await Promise.resolve()
    checkContainer(this.#attachHost(), request)
    await this.#connector?.check(request)
  }

  portNumber(hostInterface: string): number {
    if (this.#connector !== null) return this.#connector.portNumber(hostInterface)
    return readLink(this.#host.kernel.socket, hostInterface)?.ifindex ?? 0
  }

  async counters(): Promise<ReadonlyMap<string, Counters>> {
    await Promise.resolve()
    return this.#counters.read()
  }

  async shape(request: ShapeRequest): Promise<void> {
    await Promise.resolve()
    const { kernel, support, removal } = this.#host
    const veth = readVeth(kernel, request)
    const programs = this.#host.programs()
    // By the queues while they change; around them only once there are none.
    if (veth !== null) programs?.shape(veth.ifindex, SHAPED)
    const surplus = veth === null ? null : shapeLink({ kernel, request, veth, support })
    if (veth !== null) programs?.shape(veth.ifindex, request.shaping)
    if (surplus !== null) await removal.remove([surplus])
  }

  async installedShaping(request: ShapeRequest): Promise<Shaping | null> {
    await Promise.resolve()
    return readShaping(this.#host.kernel, request)
  }

  async shapingSupport(): Promise<ShapingSupport> {
    await Promise.resolve()
    const support = this.#host.support()
    return this.#connector?.limit(support) ?? support
  }

  async underlay(): Promise<Underlay> {
    await Promise.resolve()
    return this.#host.readUnderlay()
  }

  #attachHost(): AttachHost {
    const { kernel, support, carrier, programs } = this.#host
    const secured = programs()
    const admit = secured === null ? null : (ifindex: number, request: AttachRequest) => secured.admit(ifindex, request)
    return { kernel, support, carrier, admit }
  }
}
