// What this host's kernel should hold follows from the state, the members, the settings and the underlay's MTU. Read anew
// for each pass of the reconciler.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import type { PeerId, Vni } from '#model/ids.ts'
import { parseTransitRange } from '#model/ipv4.ts'
import type { MembershipView } from '#membership/view/view.ts'
import type { Devices } from '#overlay/driver.ts'
import type { DesiredInput } from '#overlay/plan/network/desired.ts'
import { desiredGateways, type DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import type { Underlay } from '#overlay/underlay.ts'
import type { Logger } from '#platform/log.ts'

export type DesiredInputsOptions = {
  readonly self: PeerId
  readonly state: ClusterState
  readonly config: () => Config
  /** Null until Serf was asked. */
  readonly view: () => MembershipView | null
  readonly devices: Pick<Devices, 'underlay'>
  /** As it was at the start. */
  readonly underlay: Underlay
  readonly logger: Logger
}

export class DesiredInputs {
  readonly #options: DesiredInputsOptions
  #overlayMtu: number
  #underlayMtu: number

  constructor(options: DesiredInputsOptions) {
    const { mtu } = options.config().overlay
    this.#options = options
    this.#overlayMtu = mtu === 'auto' ? options.underlay.overlayMtu : mtu
    this.#underlayMtu = options.underlay.mtu
  }

  /** What is left to containers, bytes. */
  get overlayMtu(): number {
    return this.#overlayMtu
  }

  /** What the underlay's device takes, bytes. */
  get underlayMtu(): number {
    return this.#underlayMtu
  }

  /** Follows the underlay. @throws ERR_CONFIG naming `bind` */
  async readMtu(): Promise<void> {
    const { config, devices, logger } = this.#options
    const { mtu } = config().overlay
    const underlay = await devices.underlay()
    this.#underlayMtu = underlay.mtu
    const now = mtu === 'auto' ? underlay.overlayMtu : mtu
    if (now !== this.#overlayMtu) logger.info({ mtu: now, before: this.#overlayMtu }, 'the overlay MTU changes')
    this.#overlayMtu = now
  }

  /** Of all networks, or of one. */
  input(scope?: Vni): DesiredInput {
    const { self, state, view } = this.#options
    const { overlay } = this.#options.config()
    const only = scope === undefined ? undefined : state.networkByVni(scope)
    const members = view()?.members
    return {
      self,
      selfVtep: overlay.vtep,
      networks: scope === undefined ? state.networks() : only === undefined ? [] : [only],
      endpoints: { get: name => state.endpointsOf(name) } as DesiredInput['endpoints'],
      hosts: state.presentHosts(),
      memberStatus: members === undefined ? null : new Map(members.map(m => [m.peerId, m.status])),
      overlayMtu: this.#overlayMtu,
      vxlanPort: overlay.port
    }
  }

  gateways(): DesiredGateways {
    const { config, view } = this.#options
    const { bind, overlay } = config()
    const memberAddresses = (view()?.members ?? []).map(member => member.address)
    return desiredGateways({ ...this.input(), transit: parseTransitRange(overlay.transit), bind, memberAddresses })
  }
}
