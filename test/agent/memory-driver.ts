// A driver over a kernel in memory that outlives it, as a kernel outlives the agent. Every change of the kernel is recorded.

import type {
  AttachRequest,
  AttachResult,
  ChangeListener,
  DetachRequest,
  Feature,
  OverlayDriver
} from '#overlay/driver.ts'
import type { Vni } from '#model/ids.ts'
import { forwardingPart } from '#overlay/forwarding-part.ts'
import type { Part } from '#overlay/pass.ts'
import { bridgeName } from '#overlay/plan/network/names.ts'
import { describe } from '#overlay/plan/network/op.ts'
import type { Underlay, UnderlaySpec } from '#overlay/plan/underlay/underlay.ts'
import type { Step } from './memory-membership.ts'
import { SimulatedForwarding } from '../overlay/simulated-forwarding.ts'
import { MemoryDevices } from './memory-devices.ts'

export class MemoryKernel extends MemoryDevices {
  readonly forwarding = new SimulatedForwarding()
  /** Ops and attached or detached interfaces, in order. */
  readonly changes: string[] = []
  underlayMtu = 1_500
  features: readonly Feature[] = []
  /** Why it cannot match connections on loopback to users. */
  noOwners: string | null = null

  constructor() {
    super()
    this.forwarding.refuse = op => void this.changes.push(describe(op))
  }

  override async attach(request: AttachRequest): Promise<AttachResult> {
    const result = await super.attach(request)
    if (!result.created) return result
    const { hostInterface: name, alias, vni } = request
    const { kernel } = this.forwarding
    const bridge = bridgeName(vni)
    kernel.addVeth({ name, alias, master: kernel.links.has(bridge) ? bridge : null })
    this.changes.push(`attach ${name}`)
    return result
  }

  override async detach(request: DetachRequest): Promise<{ readonly removed: boolean }> {
    const { hostInterface } = request
    const result = await super.detach(request)
    if (result.removed) this.changes.push(`detach ${hostInterface}`)
    this.forwarding.kernel.links.delete(hostInterface)
    return result
  }

  /** As a driver with this tunnel address reads it. */
  underlayOf(spec: UnderlaySpec): Underlay {
    const mtu = this.underlayMtu
    return { ...spec, device: 'eth0', ifindex: 2, mtu, overlayMtu: mtu - spec.overheadBytes }
  }
}

export class MemoryDriver implements OverlayDriver {
  readonly name = 'linux'
  readonly guard = 'nft'
  readonly noPrograms = null
  readonly devices: OverlayDriver['devices']
  readonly parts: readonly Part[]
  readonly #listeners = new Set<ChangeListener>()
  readonly #kernel: MemoryKernel
  readonly #step: Step

  constructor(p: { readonly kernel: MemoryKernel; readonly underlay: UnderlaySpec; readonly step: Step }) {
    const { kernel, underlay, step } = p
    this.#kernel = kernel
    this.#step = step
    this.parts = [forwardingPart(kernel.forwarding)]
    this.devices = Object.assign(kernel, {
      underlay: async () => {
        await step('read underlay')
        return kernel.underlayOf(underlay)
      }
    })
  }

  setGuard(): Promise<void> {
    return this.#step('set guard')
  }

  async setDoors(): Promise<string | null> {
    await this.#step('set doors')
    return this.#kernel.noOwners
  }

  async setSerfLimits(): Promise<string | null> {
    await this.#step('set serf limits')
    return null
  }

  guardDrops(): null {
    return null
  }

  serfDrops(): { readonly stranger: number; readonly member: number } {
    return { stranger: 0, member: 0 }
  }

  features(): Promise<readonly Feature[]> {
    return Promise.resolve(this.#kernel.features)
  }

  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Somebody else has changed the kernel. */
  changed(networks: ReadonlySet<Vni> | null): void {
    for (const listener of this.#listeners) listener(networks)
  }

  close(): Promise<void> {
    return this.#step('close driver')
  }
}
