// One host's network namespace as a driver uses it: the sockets, the devices, the filters and the routers, which are the
// same under every driver.

import { asVxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { ipv4Of, type Ip } from '#model/ip.ts'
import type { Clock } from '#platform/clock.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { isSysctlWritable } from '#platform/netns.ts'
import type { ChangeListener, Feature, GuardKind } from '../driver.ts'
import { closeDatapath, type Datapath } from '../bpf/datapath.ts'
import { NoPrograms } from '../bpf/no-programs.ts'
import { Programs } from '../bpf/programs.ts'
import { Guard } from '../filter/guard.ts'
import { doorsTable, serfTable, type Doors, type FilterTable } from '../plan/filter/ruleset.ts'
import { SENDERS, type Sender, type SerfPort } from '../plan/filter/serf-limits.ts'
import { removeFilters, removePortFilters } from '../filter/remove-filters.ts'
import { Gateways } from '../gateway/gateways.ts'
import { readLink, type Kernel } from '../kernel/kernel.ts'
import { Removal } from '../kernel/removal.ts'
import { Sampling } from '../kernel/sampling.ts'
import type { Part } from '../pass.ts'
import type { Carrier } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { probeShaping } from '../shaping/probe.ts'
import type { SettingsEntry } from '../plan/programs/entries.ts'
import type { Underlay, UnderlaySpec } from '../plan/underlay/underlay.ts'
import type { DeviceHost } from './devices.ts'
import { probeFeatures, probeFilters } from './features.ts'
import { exitOf, linkPrefix, otherAddresses, readUnderlay, UNDERLAY_MTU_MAX, underlayDevices } from './underlay.ts'
import { Policies } from './policies.ts'
import { watchChanges, watchPolicies, watchTables } from './watch.ts'
import { Ways } from './ways.ts'

export type LinuxHostOptions = {
  readonly underlay: UnderlaySpec
  /** Path of the host's network namespace; the process's own by default. */
  readonly hostNetns?: string
  readonly clock: Clock
  /** Our programs, loaded: they take the place of port security by nftables. Null: not to run; text: why they cannot. */
  readonly programs?: Datapath | string | null
}

/** Of a container, in packets a second: far above what honest ones send. */
const FLOWS_RATE = 20_000
const BROADCASTS_RATE = 1_000

export class LinuxHost implements DeviceHost {
  readonly kernel: Kernel
  readonly removal: Removal
  readonly clock: Clock
  readonly carrier: Carrier
  readonly networks = new Map<number, Vni | null>()
  readonly indexes = new Map<string, number>()
  readonly sampling = new Sampling()
  readonly gateways: Gateways
  readonly #underlay: UnderlaySpec
  #lastUnderlay: Underlay | null = null
  #support: ShapingSupport | null = null
  #guard: Guard | null = null
  readonly #datapath: Datapath | null
  readonly noPrograms: string | null
  readonly #redirects: boolean
  #programs: Programs | null = null
  /** Read while programs run. */
  #policies: Policies | null = null
  readonly #withoutPrograms: NoPrograms
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

  readonly programs = (): Programs | null => this.#programs

  /** Opens the sockets. Changes nothing in the kernel. @throws ERR_NETNS, ERR_KERNEL */
  constructor(options: LinuxHostOptions, carrier: Carrier, redirects = false) {
    const netns = options.hostNetns ?? null
    const socket = NetlinkSocket.open(netns)
    const present = readLink(socket, 'lo')?.addrGenNone !== null
    const sysctl = present && isSysctlWritable(netns, 'net/ipv6/conf/lo/disable_ipv6')
    this.kernel = { socket, netns, ipv6: { present, sysctl } }
    this.carrier = carrier
    this.clock = options.clock
    this.#underlay = options.underlay
    const { programs = null } = options
    this.#datapath = typeof programs === 'string' ? null : programs
    this.noPrograms = typeof programs === 'string' ? programs : null
    this.#redirects = redirects
    this.#withoutPrograms = new NoPrograms(this.kernel)
    this.removal = new Removal(netns)
    this.gateways = new Gateways(this.kernel, { support: () => this.support(), carrier })
    this.gateways.onWrite = this.#follow
  }

  /** The filters as part of a pass; none when the guard is off. */
  get filterParts(): readonly Part[] {
    return [...(this.#guard === null ? [] : [this.#guard]), ...this.#tables.values()]
  }

  /** The programs as part of a pass, after the devices on which they run. */
  get programParts(): readonly Part[] {
    return [this.#programs ?? this.#withoutPrograms]
  }

  /** See OverlayDriver. */
  get guardKind(): GuardKind {
    if (this.#programs !== null) return 'bpf'
    return this.#guard === null ? 'off' : 'nft'
  }

  async setGuard(port: number | null): Promise<void> {
    this.#guard?.close()
    this.#guard = null
    this.#programs = null
    const { netns } = this.kernel
    const datapath = port === null ? null : this.#datapath
    if (port === null) {
      removeFilters(netns)
      return
    }
    const { local: vtep } = this.#underlay
    const parameters = { vtep, port, onLink: linkPrefix(this.kernel.socket, vtep) }
    if (datapath === null) {
      this.#guard = await Guard.open(netns, parameters)
      this.#guard.onWrite = this.#follow
      return
    }
    this.#guard = await Guard.open(netns, parameters, 'vteps').catch((err: unknown) => {
      // Without nftables only what arrives by the underlay's device is checked.
      if (asVxmeshError(err).code === 'ERR_UNSUPPORTED') return null
      throw err
    })
    if (this.#guard !== null) this.#guard.onWrite = this.#follow
    const ways = new Ways(this.kernel.socket, { vtep, port })
    this.#policies ??= Policies.open(netns)
    this.#programs = new Programs({
      ...{ kernel: this.kernel, datapath, redirects: this.#redirects, indexes: this.indexes, sampling: this.sampling },
      look: whole => {
        if (whole) ways.forget()
        const underlay = this.#lastUnderlay ?? this.readUnderlay()
        const underlays = underlayDevices(this.kernel.socket, underlay)
        const exit = exitOf(underlays)
        const isDirect = (to: Ip): boolean => exit === 0 || [exit, null].includes(ways.deviceTo(to))
        if (!whole) return { own: null, isDirect }
        const settings = this.#settings({ port, exit, underlayMtu: underlay.mtu })
        return { own: { settings, underlays, locals: otherAddresses(this.kernel.socket, vtep) }, isDirect }
      },
      settled: () => removePortFilters(netns)
    })
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
      ...probeFeatures(this.kernel, this.#underlay.local),
      ...(await probeFilters({ vtep: this.#underlay.local, required: this.#guard !== null })),
      this.#programsFeature(),
      ...(await this.gateways.features())
    ]
  }

  onChange(heard: ChangeListener): () => void {
    const listener: ChangeListener = networks => {
      // Of anything, or of more than can be told.
      if (networks === null) this.sampling.doubt()
      heard(networks)
    }
    const { netns, socket } = this.kernel
    const stopTables =
      this.#guard === null
        ? () => undefined
        : watchTables({ netns, clock: this.clock, own: this.#guard.portId, listener })
    const policies = this.#programs === null ? null : this.#policies
    const stopPolicies =
      policies?.supported === true
        ? watchPolicies({ netns, clock: this.clock, changed: () => policies.changed(), listener })
        : () => undefined
    const stopWatching = watchChanges({
      netns,
      clock: this.clock,
      own: [socket.portId, ...this.removal.portIds],
      networkOf: ifindex => this.networks.get(ifindex),
      underlay: () => this.#lastUnderlay?.ifindex ?? null,
      mattersToAll: ({ ifindex, mtu }) => {
        const underlay = this.#lastUnderlay
        return ifindex === underlay?.ifindex && Math.min(mtu, UNDERLAY_MTU_MAX) !== underlay.mtu
      },
      listener
    })
    this.sampling.notified = true
    const stop = (): void => {
      if (!this.#stops.delete(stop)) return
      this.sampling.notified = false
      stopWatching()
      stopTables()
      stopPolicies()
    }
    this.#stops.add(stop)
    return stop
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop()
    await this.removal.close()
    this.#guard?.close()
    for (const table of this.#tables.values()) table.close()
    this.#policies?.close()
    if (this.#datapath !== null) closeDatapath(this.#datapath)
    this.kernel.socket.close()
  }

  /** @param p.exit see exitOf */
  #settings(p: { readonly port: number; readonly exit: number; readonly underlayMtu: number }): SettingsEntry {
    const hasPolicies = this.#policies?.exist() ?? false
    return {
      ...{ vtep: ipv4Of(this.#underlay.local), vxlanPort: p.port, underlayMtu: p.underlayMtu },
      ...{ flowsRate: FLOWS_RATE, broadcastsRate: BROADCASTS_RATE },
      ...{ underlay: hasPolicies ? 0 : p.exit, unwraps: !hasPolicies }
    }
  }

  #programsFeature(): Feature {
    const detail = this.noPrograms ?? (this.#datapath === null ? 'not asked for: overlay.guard' : 'works')
    return { name: 'programs', present: this.noPrograms === null, required: false, detail }
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
