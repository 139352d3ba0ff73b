// The Linux driver: kernel bridges and VXLAN devices over rtnetlink.

import type { ChangeListener, Feature, OverlayDriver } from '../driver.ts'
import { forwardingPart } from '../forwarding-part.ts'
import type { Doors } from '../plan/filter/ruleset.ts'
import type { Sender, SerfPort } from '../plan/filter/serf-limits.ts'
import type { Part } from '../pass.ts'
import { LinuxDevices } from './devices.ts'
import { BridgeForwarding } from './forwarding.ts'
import { LinuxHost, type LinuxHostOptions } from './host.ts'

export class LinuxDriver implements OverlayDriver {
  readonly name = 'linux'
  readonly devices: LinuxDevices
  readonly forwarding: BridgeForwarding
  readonly #host: LinuxHost

  private constructor(host: LinuxHost) {
    this.#host = host
    this.devices = new LinuxDevices(host, null)
    this.forwarding = new BridgeForwarding(host)
  }

  /** Opens the sockets. Changes nothing in the kernel. @throws ERR_NETNS, ERR_KERNEL */
  static open(options: LinuxHostOptions): LinuxDriver {
    return new LinuxDriver(new LinuxHost(options, 'bridge'))
  }

  get parts(): readonly Part[] {
    return [...this.#host.filterParts, forwardingPart(this.forwarding), this.#host.gateways]
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
