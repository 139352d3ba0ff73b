// One host's network namespace as a driver uses it: the sockets, the devices, the filters and the routers, which are the
// same under every driver.

import type { Vni } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { isSysctlWritable } from '#platform/netns.ts'
import type { ChangeListener, Feature } from '../driver.ts'
import { Guard } from '../filter/guard.ts'
import { doorsTable, serfTable, type Doors, type FilterTable } from '../plan/filter/ruleset.ts'
import { SENDERS, type Sender, type SerfPort } from '../plan/filter/serf-limits.ts'
import { removeFilters } from '../filter/remove-filters.ts'
import { Gateways } from '../gateway/gateways.ts'
import { readLink, type Kernel } from '../kernel/kernel.ts'
import { Removal } from '../kernel/removal.ts'
import type { Part } from '../pass.ts'
import type { Carrier } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { probeShaping } from '../shaping/probe.ts'
import type { Underlay, UnderlaySpec } from '../plan/underlay/underlay.ts'
import type { DeviceHost } from './devices.ts'
import { probeFeatures, probeFilters } from './features.ts'
import { readUnderlay, UNDERLAY_MTU_MAX } from './underlay.ts'
import { watchChanges, watchTables } from './watch.ts'

export type LinuxHostOptions = {
  readonly underlay: UnderlaySpec
  /** Path of the host's network namespace; the process's own by default. */
  readonly hostNetns?: string
  readonly clock: Clock
}

export class LinuxHost implements DeviceHost {
  readonly kernel: Kernel
  readonly removal: Removal
  readonly clock: Clock
  readonly carrier: Carrier
  readonly networks = new Map<number, Vni | null>()
  readonly gateways: Gateways
  readonly #underlay: UnderlaySpec
  #lastUnderlay: Underlay | null = null
  #support: ShapingSupport | null = null
  #guard: Guard | null = null
  readonly #tables = new Map<'doors' | 'serf', Guard>()
  readonly #stops = new Set<() => void>()

  // Arrow functions: callers destructure them.

  readonly readUnderlay = (): Underlay => {
    this.#lastUnderlay = readUnderlay(this.kernel.socket, this.#underlay)
    return this.#lastUnderlay
  }

  /** Probed once: a kernel does not lose a feature. */
  readonly support = (): ShapingSupport => (this.#support ??= probeShaping().support)

  readonly guard = (): Guard | null => this.#guard

  /** Opens the sockets. Changes nothing in the kernel. @throws ERR_NETNS, ERR_KERNEL */
  constructor(options: LinuxHostOptions, carrier: Carrier) {
    const netns = options.hostNetns ?? null
    const socket = NetlinkSocket.open(netns)
    const present = readLink(socket, 'lo')?.addrGenNone !== null
    const sysctl = present && isSysctlWritable(netns, 'net/ipv6/conf/lo/disable_ipv6')
    this.kernel = { socket, netns, ipv6: { present, sysctl } }
    this.carrier = carrier
    this.clock = options.clock
    this.#underlay = options.underlay
    this.removal = new Removal(netns)
    this.gateways = new Gateways(this.kernel, { support: () => this.support(), carrier })
    this.gateways.onWrite = this.#follow
  }

  /** The filters as part of a pass; none when the guard is off. */
  get filterParts(): readonly Part[] {
    return [...(this.#guard === null ? [] : [this.#guard]), ...this.#tables.values()]
  }

  async setGuard(port: number | null): Promise<void> {
    this.#guard?.close()
    this.#guard = null
    const { netns } = this.kernel
    if (port === null) {
      removeFilters(netns)
      return
    }
    this.#guard = await Guard.open(netns, { vtep: this.#underlay.local, port })
    this.#guard.onWrite = this.#follow
  }

  setDoors(doors: Doors): Promise<string | null> {
    return this.#install('doors', doorsTable(doors))
  }

  setSerfLimits(serf: SerfPort): Promise<string | null> {
    return this.#install('serf', serfTable(serf))
  }

  serfDrops(): Readonly<Record<Sender, number>> | null {
    const counters = this.#tables.get('serf')?.counters()
    if (counters === undefined) return null
    const [stranger = 0, member = 0] = SENDERS.map(sender => counters.get(sender))
    return { stranger, member }
  }

  async features(): Promise<readonly Feature[]> {
    return [
      ...probeFeatures(this.kernel),
      ...(await probeFilters({ vtep: this.#underlay.local, required: this.#guard !== null })),
      ...(await this.gateways.features())
    ]
  }

  onChange(listener: ChangeListener): () => void {
    const { netns, socket } = this.kernel
    const stopTables =
      this.#guard === null
        ? () => undefined
        : watchTables({ netns, clock: this.clock, own: this.#guard.portId, listener })
    const stopWatching = watchChanges({
      netns,
      clock: this.clock,
      own: [socket.portId, ...this.removal.portIds],
      networkOf: ifindex => this.networks.get(ifindex),
      mattersToAll: ({ ifindex, mtu }) => {
        const underlay = this.#lastUnderlay
        return ifindex === underlay?.ifindex && Math.min(mtu, UNDERLAY_MTU_MAX) !== underlay.mtu
      },
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
    await this.removal.close()
    this.#guard?.close()
    for (const table of this.#tables.values()) table.close()
    this.kernel.socket.close()
  }

  /** What one part writes, the others need not list again. */
  readonly #follow = (from: number, to: number): void => {
    for (const part of [this.#guard, ...this.#tables.values(), this.gateways]) part?.follow(from, to)
  }

  /** @returns why this kernel refuses the table; null when it stands */
  async #install(name: 'doors' | 'serf', table: FilterTable): Promise<string | null> {
    this.#tables.get(name)?.close()
    this.#tables.delete(name)
    const installed = await Guard.install(this.kernel.netns, table)
    if (typeof installed === 'string') return installed
    installed.onWrite = this.#follow
    this.#tables.set(name, installed)
    return null
  }
}
