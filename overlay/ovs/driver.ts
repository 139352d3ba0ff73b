// The Open vSwitch driver: one integration bridge a host. Devices, filters and routers are those of overlay/linux; the
// bridge has them as ports and forwards between them.

import { dirname, join } from 'node:path'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { ChangeListener, Feature, GuardKind, OverlayDriver } from '../driver.ts'
import { forwardingPart } from '../forwarding-part.ts'
import { LinuxDevices } from '../linux/devices.ts'
import { LinuxHost, type LinuxHostOptions } from '../linux/host.ts'
import type { Doors } from '../plan/filter/ruleset.ts'
import type { Sender, SerfPort } from '../plan/filter/serf-limits.ts'
import type { Part } from '../pass.ts'
import type { Drop } from '../plan/programs/entries.ts'
import { SWITCH } from '../plan/network/names.ts'
import { Bridge, type Datapath } from './bridge.ts'
import { RouterPorts, SwitchConnector } from './connector.ts'
import { switchDevices } from './devices.ts'
import { SwitchForwarding } from './forwarding.ts'
import { countHandlers } from './handlers.ts'
import { Ofctl } from './ofctl.ts'
import { Ovsdb } from './ovsdb.ts'
import { watchSwitch } from './watch.ts'

export type OvsDriverOptions = LinuxHostOptions & {
  /** UDP port of VXLAN. */
  readonly port: number
  /** Path of ovsdb-server's socket; the switch's own is in the same folder. */
  readonly socket: string
  readonly datapath: Datapath
}

export class OvsDriver implements OverlayDriver {
  readonly name = 'ovs'
  readonly devices: LinuxDevices
  readonly forwarding: SwitchForwarding
  readonly #options: OvsDriverOptions
  readonly #host: LinuxHost
  readonly #db: Ovsdb
  readonly #bridge: Bridge
  readonly #ofctl: Ofctl
  readonly #stops = new Set<() => void>()

  private constructor(options: OvsDriverOptions, p: { readonly host: LinuxHost; readonly db: Ovsdb }) {
    const { underlay, port, datapath, socket } = options
    const { host, db } = p
    this.#options = options
    this.#host = host
    this.#db = db
    this.#bridge = new Bridge(db, { vtep: underlay.local, port, datapath })
    this.#ofctl = new Ofctl(join(dirname(socket), `${SWITCH}.mgmt`))
    this.forwarding = new SwitchForwarding({
      devices: switchDevices(host),
      bridge: this.#bridge,
      ofctl: this.#ofctl,
      port
    })
    const connector = new SwitchConnector({ bridge: this.#bridge, datapath, forwarding: this.forwarding })
    this.devices = new LinuxDevices(host, connector)
  }

  /**
   * Connects, creates the bridge if there is none, and reads its flows, so that a host that cannot run it fails at once.
   * @throws ERR_UNSUPPORTED naming `overlay.driver`, ERR_NETNS, ERR_KERNEL
   */
  static async open(options: OvsDriverOptions): Promise<OvsDriver> {
    const { socket, datapath, clock } = options
    const host = new LinuxHost(options, datapath === 'netdev' ? 'userspace-switch' : 'switch')
    let db: Ovsdb | null = null
    try {
      db = await Ovsdb.connect({ path: socket, clock })
      const driver = new OvsDriver(options, { host, db })
      await driver.#bridge.ensure()
      await driver.#ofctl.flows()
      return driver
    } catch (err) {
      db?.close()
      await host.close()
      throw new VxmeshError(
        'ERR_UNSUPPORTED',
        `overlay.driver: this host cannot run ovs (${asVxmeshError(err).message}); it needs Open vSwitch 2.13 or later ` +
          `with ovsdb-server at ${socket}, ovs-vswitchd and ovs-ofctl`,
        { field: 'overlay.driver', cause: err }
      )
    }
  }

  get parts(): readonly Part[] {
    const { filterParts, programParts, gateways } = this.#host
    return [
      ...filterParts,
      forwardingPart(this.forwarding),
      ...programParts,
      gateways,
      new RouterPorts(this.forwarding)
    ]
  }

  get guard(): GuardKind {
    return this.#host.guardKind
  }

  get noPrograms(): string | null {
    return this.#host.noPrograms
  }

  setGuard(port: number | null): Promise<void> {
    return this.#host.setGuard(port)
  }

  setDoors(doors: Doors): Promise<string | null> {
    return this.#host.setDoors(doors)
  }

  setSerfLimits(serf: SerfPort): Promise<string | null> {
    return this.#host.setSerfLimits(serf)
  }

  guardDrops(): Readonly<Record<Drop, number>> | null {
    return this.#host.programs()?.drops() ?? null
  }

  serfDrops(): Readonly<Record<Sender, number>> | null {
    return this.#host.serfDrops()
  }

  async features(): Promise<readonly Feature[]> {
    const rest = (await this.#host.features()).filter(({ name }) => !BRIDGED.includes(name))
    const failure = await this.#failure()
    return [{ name: 'open-vswitch', present: failure === null, required: true, detail: failure ?? 'works' }, ...rest]
  }

  onChange(listener: ChangeListener): () => void {
    const stopSwitch = watchSwitch({
      clock: this.#options.clock,
      db: this.#db,
      socket: this.#options.socket,
      changed: () => this.#ofctl.invalidate(),
      settled: () => listener(null)
    })
    const stopHost = this.#host.onChange(listener)
    const stop = (): void => {
      if (!this.#stops.delete(stop)) return
      stopSwitch()
      stopHost()
    }
    this.#stops.add(stop)
    return stop
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop()
    this.#db.close()
    await this.#host.close()
  }

  /** Why the switch forwards nothing, or null. */
  async #failure(): Promise<string | null> {
    try {
      if (!this.#bridge.isRight(await this.#bridge.read())) return `the bridge ${SWITCH} is not as it should be`
      await this.#ofctl.matchesFragments()
    } catch (err) {
      return asVxmeshError(err).message
    }
    const { datapath, socket } = this.#options
    if (datapath === 'netdev' || countHandlers(dirname(socket)) !== 0) return null
    return 'ovs-vswitchd has no handler threads, and loses every packet that is new to the kernel: restart openvswitch-switch'
  }
}

/** Kernel features that bridges need and a switch does not. */
const BRIDGED: readonly string[] = ['bridge', 'vxlan', 'neigh-suppress']
