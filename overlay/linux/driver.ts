// The Linux driver: kernel bridges and VXLAN devices over rtnetlink. As driver bpf, programs at the devices forward what they
// know, and leave the rest to the bridges.

import type { Datapath } from '../bpf/datapath.ts'
import type { ChangeListener, Feature, GuardKind, OverlayDriver } from '../driver.ts'
import { forwardingPart } from '../forwarding-part.ts'
import type { Doors } from '../plan/filter/ruleset.ts'
import type { Sender, SerfPort } from '../plan/filter/serf-limits.ts'
import type { Part } from '../pass.ts'
import type { Drop } from '../plan/programs/entries.ts'
import { LinuxDevices } from './devices.ts'
import { BridgeForwarding } from './forwarding.ts'
import { LinuxHost, type LinuxHostOptions } from './host.ts'

export class LinuxDriver implements OverlayDriver {
  readonly name: 'linux' | 'bpf'
  readonly devices: LinuxDevices
  readonly forwarding: BridgeForwarding
  readonly #host: LinuxHost

  private constructor(host: LinuxHost, name: 'linux' | 'bpf') {
    this.name = name
    this.#host = host
    this.devices = new LinuxDevices(host, null)
    this.forwarding = new BridgeForwarding(host)
  }

  /** Opens the sockets. Changes nothing in the kernel. @throws ERR_NETNS, ERR_KERNEL */
  static open(options: LinuxHostOptions): LinuxDriver {
    return new LinuxDriver(new LinuxHost(options, 'bridge'), 'linux')
  }

  /** The same, with programs that forward. Without its guard it is driver linux. @throws ERR_NETNS, ERR_KERNEL */
  static openFast(options: LinuxHostOptions & { readonly programs: Datapath }): LinuxDriver {
    return new LinuxDriver(new LinuxHost(options, 'bridge', true), 'bpf')
  }

  get parts(): readonly Part[] {
    const { filterParts, programParts, gateways } = this.#host
    return [...filterParts, forwardingPart(this.forwarding), ...programParts, gateways]
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

  features(): Promise<readonly Feature[]> {
    return this.#host.features()
  }

  onChange(listener: ChangeListener): () => void {
    return this.#host.onChange(listener)
  }

  close(): Promise<void> {
    return this.#host.close()
  }
}
