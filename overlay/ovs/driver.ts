// The Open vSwitch driver: one integration bridge a host. The devices (veths, their shaping, routers, the guard) are the
// Linux driver's; what they are ports of, and how packets go, is the switch's.

import { dirname, join } from 'node:path'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Shaping } from '#model/endpoint.ts'
import type { Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { systemClock } from '#platform/clock.ts'
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
import { LinuxDriver } from '../linux/driver.ts'
import type { DesiredHost, DesiredNetwork } from '../plan/network/desired.ts'
import { routerDevice, type DesiredGateways } from '../plan/gateway/desired-gateway.ts'
import { ifbName, routerPortName, SWITCH } from '../plan/network/names.ts'
import type { Observed } from '../plan/network/observed.ts'
import type { Op } from '../plan/network/op.ts'
import type { Plan } from '../plan/network/plan-network.ts'
import type { FlowOwner, Flows } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { Bridge, observedPort, type Datapath } from './bridge.ts'
import { executeSwitch } from './execute.ts'
import { countHandlers } from './handlers.ts'
import { Ofctl } from './ofctl.ts'
import { Ovsdb } from './ovsdb.ts'
import { needsPort, planSwitch } from '../plan/switch/plan-switch.ts'
import { watchSwitch } from './watch.ts'

export type OvsDriverOptions = {
  /** This host's tunnel address. */
  readonly bind: Ipv4
  /** UDP port of VXLAN. */
  readonly port: number
  /** Path of ovsdb-server's socket; the switch's own is in the same folder. */
  readonly socket: string
  readonly datapath: Datapath
  /** Path of the host's network namespace; the process's own by default. */
  readonly hostNetns?: string
}

export class OvsDriver implements OverlayDriver {
  readonly name = 'ovs'
  readonly #options: OvsDriverOptions
  readonly #linux: LinuxDriver
  readonly #db: Ovsdb
  readonly #bridge: Bridge
  readonly #ofctl: Ofctl
  /** What a network was to be when it was last planned: an attach makes its port and flows right at once. */
  readonly #desired = new Map<Vni, DesiredNetwork>()
  #vteps: ReadonlySet<Ipv4> = new Set()
  /** Numbers of ports by device, as last seen. */
  #numbers = new Map<string, number>()
  readonly #requested = new Map<string, number>()
  readonly #stops = new Set<() => void>()

  private constructor(options: OvsDriverOptions, p: { linux: LinuxDriver; db: Ovsdb }) {
    const { bind, port, datapath, socket } = options
    this.#options = options
    this.#linux = p.linux
    this.#db = p.db
    this.#bridge = new Bridge(p.db, { vtep: bind, port, datapath })
    this.#ofctl = new Ofctl(join(dirname(socket), `${SWITCH}.mgmt`))
  }

  /**
   * Connects, makes the bridge if there is none, and reads its flows: what is not possible now is said now.
   * @throws ERR_UNSUPPORTED naming `overlay.driver`, ERR_NETNS, ERR_KERNEL
   */
  static async open(options: OvsDriverOptions): Promise<OvsDriver> {
    const { bind, socket, datapath, hostNetns } = options
    const carrier = datapath === 'netdev' ? 'userspace-switch' : 'switch'
    const linux = LinuxDriver.open({ bind, carrier, ...(hostNetns === undefined ? {} : { hostNetns }) })
    let db: Ovsdb | null = null
    try {
      db = await Ovsdb.connect({ path: socket, clock: systemClock })
      const driver = new OvsDriver(options, { linux, db })
      await driver.#bridge.ensure()
      await driver.#ofctl.flows()
      return driver
    } catch (err) {
      db?.close()
      await linux.close()
      throw new VxmeshError(
        'ERR_UNSUPPORTED',
        `overlay.driver: this host cannot run ovs (${asVxmeshError(err).message}); it needs Open vSwitch 2.13 or later ` +
          `with ovsdb-server at ${socket}, ovs-vswitchd and ovs-ofctl`,
        { field: 'overlay.driver', cause: err }
      )
    }
  }

  async observe(scope?: Vni): Promise<Observed> {
    const rows = await this.#bridge.read()
    const ports = new Map([...rows.interfaces].map(([name, row]) => [name, observedPort(row)]))
    for (const [name, { number }] of ports) this.#numbers.set(name, number)
    if (scope === undefined) for (const name of this.#numbers.keys()) if (!ports.has(name)) this.#numbers.delete(name)
    const marked = [...ports].flatMap(([name, { mark }]) => (mark === null ? [] : [[name, mark.vni] as const]))
    const look = {
      names: scope === undefined ? [] : this.#namesOf(scope, marked),
      // The queues of one that has been a port for long are looked at with all others'.
      shaped: ({ name, ifindex }: { name: string; ifindex: number }) => needsPort(ports.get(name), ifindex)
    }
    const { links, shaping } = await this.#linux.observeDevices(scope === undefined ? null : look)
    const vnis = new Map(marked)
    this.#linux.learn(
      [...links.values()].flatMap(({ name, ifindex }) => {
        const vni = vnis.get(name)
        return vni === undefined ? [] : [[ifindex, vni] as const]
      })
    )
    const { flows, fragments } = await this.#look(rows.bridge !== null, scope)
    const right = this.#bridge.isRight(rows) && fragments
    return {
      links,
      scope: scope ?? null,
      ...(shaping === undefined ? {} : { shaping }),
      switch: { right, ports, routers: this.#routers(scope, ports.keys()), flows }
    }
  }

  plan(desired: DesiredHost, observed: Observed): Plan {
    const { scope } = observed
    if (scope === null) this.#desired.clear()
    else this.#desired.delete(scope)
    for (const [vni, network] of desired.networks) {
      if (scope === null || scope === vni) this.#desired.set(vni, network)
    }
    this.#vteps = desired.vteps
    return this.#plan(desired, observed)
  }

  execute(ops: readonly Op[]): Promise<ExecuteResult> {
    const hands = {
      bridge: this.#bridge,
      ofctl: this.#ofctl,
      devices: (some: readonly Op[]) => this.#linux.execute(some)
    }
    return executeSwitch(hands, ops)
  }

  setGuard(port: number | null): Promise<void> {
    return this.#linux.setGuard(port)
  }

  guard(desired: DesiredFilter, options: { readonly mayRemove: boolean }): Promise<readonly string[]> {
    return this.#linux.guard(desired, options)
  }

  /** The pair first, still down; then its port and its flows; then it is set up. */
  async attach(request: AttachRequest): Promise<AttachResult> {
    const { vni, hostInterface, alias, mac, address, shaping } = request
    const network = this.#desired.get(vni)
    if (network === undefined) {
      throw new VxmeshError('ERR_KERNEL', `attach ${hostInterface}: network ${vni} is not made here`)
    }
    const endpoint = { device: hostInterface, alias, mac, address, shaping }
    const endpoints = new Map(network.endpoints).set(hostInterface, endpoint)
    const neighbours = new Map(network.neighbours).set(address, mac)
    this.#desired.set(vni, { ...network, endpoints, neighbours })
    const result = await this.#linux.attach(request)
    this.#linux.learn([[result.ifindex, vni]])
    try {
      if (request.portNumber !== undefined) this.#requested.set(hostInterface, request.portNumber)
      await this.#connect(vni)
    } catch (err) {
      if (result.created) await this.#linux.detach(request).catch(() => undefined)
      throw err
    } finally {
      this.#requested.delete(hostInterface)
    }
    return result
  }

  detach(request: DetachRequest): Promise<{ readonly removed: boolean }> {
    return this.#linux.detach(request)
  }

  setContainerMtu(request: ContainerMtuRequest): Promise<void> {
    return this.#linux.setContainerMtu(request)
  }

  shape(request: ShapeRequest): Promise<void> {
    return this.#linux.shape(request)
  }

  installedShaping(request: ShapeRequest): Promise<Shaping | null> {
    return this.#linux.installedShaping(request)
  }

  /** The userspace datapath takes what a container sends before a queue has it: half of a rate is none. */
  async shapingSupport(): Promise<ShapingSupport> {
    const support = await this.#linux.shapingSupport()
    return this.#options.datapath === 'netdev' ? { ...support, rate: false, delay: false } : support
  }

  /** Routers as anywhere; then those that are new become ports of the switch. */
  async settleGateways(desired: DesiredGateways, options: GatewayOptions): Promise<GatewayReport> {
    const report = await this.#linux.settleGateways(desired, options)
    const problems = [...report.problems]
    for (const { vni, port } of desired.routers.values()) {
      if (options.scope !== undefined && options.scope !== vni) continue
      if ((this.#numbers.get(port) ?? 0) > 0 || !this.#desired.has(vni)) continue
      try {
        await this.#connect(vni)
      } catch (err) {
        problems.push({ vni, message: asVxmeshError(err).message })
      }
    }
    return { ...report, problems }
  }

  async check(request: AttachRequest): Promise<void> {
    await this.#linux.check(request)
    const { interfaces } = await this.#bridge.read()
    const row = interfaces.get(request.hostInterface)
    if (row === undefined || observedPort(row).number === 0) {
      throw new VxmeshError('ERR_CHECK_FAILED', `${request.hostInterface} is no port of the switch`)
    }
  }

  portNumber(hostInterface: string): number {
    return this.#numbers.get(hostInterface) ?? 0
  }

  counters(): Promise<ReadonlyMap<string, Counters>> {
    return this.#linux.counters()
  }

  overlayMtu(): Promise<number> {
    return this.#linux.overlayMtu()
  }

  async features(): Promise<readonly Feature[]> {
    const rest = (await this.#linux.features()).filter(({ name }) => !BRIDGED.includes(name))
    const rows = await this.#bridge.read().catch((err: unknown) => asVxmeshError(err))
    const failure =
      rows instanceof VxmeshError
        ? rows.message
        : this.#bridge.isRight(rows)
          ? await this.#ofctl.matchesFragments().then(
              () => this.#deafness(),
              (err: unknown) => asVxmeshError(err).message
            )
          : `the bridge ${SWITCH} is not as it should be`
    return [{ name: 'open-vswitch', present: failure === null, required: true, detail: failure ?? 'works' }, ...rest]
  }

  onChange(listener: ChangeListener): () => void {
    const stopSwitch = watchSwitch({
      clock: systemClock,
      db: this.#db,
      socket: this.#options.socket,
      changed: () => this.#ofctl.invalidate(),
      settled: () => listener(null)
    })
    const stopLinux = this.#linux.onChange(listener)
    const stop = (): void => {
      if (!this.#stops.delete(stop)) return
      stopSwitch()
      stopLinux()
    }
    this.#stops.add(stop)
    return stop
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop()
    this.#db.close()
    await this.#linux.close()
  }

  /** Why nothing passes although all is as it should be, or null. */
  #deafness(): string | null {
    const { datapath, socket } = this.#options
    if (datapath === 'netdev' || countHandlers(dirname(socket)) !== 0) return null
    return 'ovs-vswitchd has no handler threads, and loses every packet that is new to the kernel: restart openvswitch-switch'
  }

  /** How fragments are seen is asked only where all is. */
  async #look(
    present: boolean,
    scope: Vni | undefined
  ): Promise<{ flows: ReadonlyMap<FlowOwner, Flows>; fragments: boolean }> {
    if (!present) return { flows: new Map(), fragments: false }
    const [flows, fragments] = await Promise.all([
      scope === undefined ? this.#ofctl.flows() : this.#ofctl.flowsOf(scope),
      scope === undefined ? this.#ofctl.matchesFragments() : true
    ])
    return { flows, fragments }
  }

  /** One network right now, as it is desired. @throws ERR_KERNEL with the first thing that failed */
  async #connect(vni: Vni): Promise<void> {
    const network = this.#desired.get(vni)
    if (network === undefined) return
    const desired = { networks: new Map([[vni, network]]), vteps: this.#vteps }
    const { ops } = this.#plan(desired, await this.observe(vni))
    // What goes waits for a pass that knows whether it may.
    const { failures } = await this.execute(ops.filter(({ kind }) => !kind.endsWith('-delete')))
    for (const op of ops) if (op.kind === 'switch-port-set') this.#numbers.set(op.device, op.number)
    if (failures[0] !== undefined) throw failures[0].error
  }

  #plan(desired: DesiredHost, observed: Observed): Plan {
    return planSwitch(desired, observed, { port: this.#options.port, requested: this.#requested })
  }

  /** What may be a device of this network: what is marked so, and what is desired. */
  #namesOf(vni: Vni, marked: readonly (readonly [string, Vni])[]): readonly string[] {
    const known = marked.flatMap(([name, of]) => (of === vni ? [name] : []))
    const veths = new Set([...known, ...(this.#desired.get(vni)?.endpoints.keys() ?? [])])
    return [...veths].flatMap(name => (routerDevice(name) === null ? [name, ifbName(name as never)] : []))
  }

  /** The routers' devices: those that are ports already, and those that are to be. */
  #routers(scope: Vni | undefined, ports: Iterable<string>): ReadonlyMap<string, number> {
    const known = [...ports].flatMap(name => routerDevice(name)?.vni ?? [])
    const vnis = scope === undefined ? new Set([...known, ...this.#desired.keys()]) : [scope]
    const found = new Map<string, number>()
    for (const name of [...vnis].map(routerPortName)) {
      const ifindex = this.#linux.portNumber(name)
      if (ifindex > 0) found.set(name, ifindex)
    }
    return found
  }
}

/** What the Linux driver's bridges need, and a switch does not. */
const BRIDGED: readonly string[] = ['bridge', 'vxlan', 'neigh-suppress']
