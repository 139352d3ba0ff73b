// The Linux driver: kernel bridge and VXLAN over rtnetlink.

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
  OverlayDriver
} from '../driver.ts'
import type { DesiredFilter } from '../filter/desired-filter.ts'
import { Guard, removeFilters } from '../filter/guard.ts'
import { getLinks } from '../netlink/link.ts'
import { isMarkedOurs, nameRole } from '../plan/names.ts'
import type { Observed } from '../plan/observed.ts'
import { linkNetwork } from '../plan/plan.ts'
import type { Op } from '../plan/op.ts'
import { attachContainer, detachContainer, setContainerMtu } from './attach.ts'
import { execute } from './execute.ts'
import { probeFeatures, probeFilters } from './features.ts'
import { readLink, readLinks, type Kernel } from './kernel.ts'
import { observe } from './observe.ts'
import { Removal } from './removal.ts'
import { readUnderlay, type Underlay } from './underlay.ts'
import { watchChanges, watchTables } from './watch.ts'

export type LinuxDriverOptions = {
  /** This host's tunnel address. */
  readonly bind: Ipv4
  /** Path of the host's network namespace; the process's own by default. */
  readonly hostNetns?: string
}

export class LinuxDriver implements OverlayDriver {
  readonly name = 'linux'
  readonly #bind: Ipv4
  readonly #kernel: Kernel
  readonly #removal: Removal
  readonly #stops = new Set<() => void>()
  /** The network of each device of ours by index, as last seen. */
  #ours = new Map<number, Vni | null>()
  #underlay: Underlay | null = null
  #guard: Guard | null = null

  private constructor(bind: Ipv4, kernel: Kernel) {
    this.#bind = bind
    this.#kernel = kernel
    this.#removal = new Removal(kernel.netns)
  }

  /** Opens the sockets. Changes nothing in the kernel. @throws ERR_NETNS, ERR_KERNEL */
  static open(options: LinuxDriverOptions): LinuxDriver {
    const netns = options.hostNetns ?? null
    const socket = NetlinkSocket.open(netns)
    const present = readLink(socket, 'lo')?.addrGenNone !== null
    const sysctl = present && isSysctlWritable(netns, 'net/ipv6/conf/lo/disable_ipv6')
    return new LinuxDriver(options.bind, { socket, netns, ipv6: { present, sysctl } })
  }

  // Async for the interface's sake, so that a thrown error is always a rejection.

  async observe(scope?: Vni): Promise<Observed> {
    const observed = await this.#run(() => observe(this.#kernel, scope ?? null))
    // A full look forgets what is gone; a look at one network only adds.
    if (scope === undefined) this.#ours = new Map()
    for (const link of observed.links.values()) this.#ours.set(link.ifindex, linkNetwork(link))
    return observed
  }

  execute(ops: readonly Op[]): Promise<ExecuteResult> {
    return execute({ kernel: this.#kernel, removal: this.#removal }, ops)
  }

  async setGuard(port: number | null): Promise<void> {
    this.#guard?.close()
    this.#guard = null
    const { netns } = this.#kernel
    if (port === null) removeFilters(netns)
    else this.#guard = await Guard.open(netns, { vtep: this.#bind, port })
  }

  async guard(desired: DesiredFilter, options: { readonly mayRemove: boolean }): Promise<readonly string[]> {
    return (await this.#guard?.reconcile(desired, options)) ?? []
  }

  async attach(request: AttachRequest): Promise<AttachResult> {
    const { hostInterface: device, mac, address } = request
    await this.#guard?.admit({ device, mac, address })
    const result = await attachContainer({ kernel: this.#kernel, removal: this.#removal }, request)
    this.#ours.set(result.ifindex, request.vni)
    return result
  }

  async detach(request: DetachRequest): Promise<{ readonly removed: boolean }> {
    const result = await detachContainer({ kernel: this.#kernel, removal: this.#removal }, request)
    await this.#guard?.dismiss(request.hostInterface)
    return result
  }

  setContainerMtu(request: ContainerMtuRequest): Promise<void> {
    return this.#run(() => setContainerMtu(this.#kernel, request))
  }

  counters(): Promise<ReadonlyMap<string, Counters>> {
    return this.#run(() => {
      const found = new Map<string, Counters>()
      for (const link of readLinks(this.#kernel.socket, getLinks({ kind: 'veth', counters: true }))) {
        const { counters } = link
        if (counters === null || nameRole(link.name) === null || !isMarkedOurs(link)) continue
        // What the host's end sends is what the container receives.
        found.set(link.name, {
          rxBytes: counters.txBytes,
          txBytes: counters.rxBytes,
          rxPackets: counters.txPackets,
          txPackets: counters.rxPackets
        })
      }
      return found
    })
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
      ...(await probeFilters({ vtep: this.#bind, required: this.#guard !== null }))
    ]
  }

  onChange(listener: ChangeListener): () => void {
    const { netns } = this.#kernel
    const stopTables =
      this.#guard === null ? () => undefined : watchTables({ netns, own: this.#guard.portId, listener })
    const stopWatching = watchChanges({
      netns,
      own: [this.#kernel.socket.portId, this.#removal.portId],
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

  async #run<T>(work: () => T): Promise<T> {
    await Promise.resolve()
    return work()
  }
}
