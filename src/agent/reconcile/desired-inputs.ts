// Collects the inputs of the desired state for one reconcile pass: replicated state, members, settings and underlay MTU.
// A pass reads this host's networks and endpoints through the state's index by host, never the whole cluster.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import type { PeerId, Vni } from '#model/ids.ts'
import { parsePrefix } from '#model/ip.ts'
import type { MemberStatus } from '#model/member.ts'
import { parseTransitRange } from '#model/ipv4.ts'
import type { MembershipView } from '#membership/view/view.ts'
import type { Devices } from '#overlay/driver.ts'
import type { DesiredInput } from '#overlay/plan/network/desired.ts'
import { LeaveGrace } from '#overlay/plan/network/leave-grace.ts'
import { desiredGateways, type DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import type { Underlay } from '#overlay/plan/underlay/underlay.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'

export type DesiredInputsOptions = {
  readonly self: PeerId
  readonly state: ClusterState
  readonly config: () => Config
  /** Null until Serf has been queried. */
  readonly view: () => MembershipView | null
  readonly devices: Pick<Devices, 'underlay'>
  /** The underlay as it was at startup. */
  readonly underlay: Underlay
  /** Called when a host that has left loses its entries. */
  readonly graceEnded: () => void
  readonly clock: Clock
  readonly logger: Logger
}

export class DesiredInputs {
  readonly #options: DesiredInputsOptions
  readonly #grace = new LeaveGrace()
  #cancelGrace: Cancel | null = null
  #overlayMtu: number
  #underlayMtu: number

  constructor(options: DesiredInputsOptions) {
    const { mtu } = options.config().overlay
    this.#options = options
    this.#overlayMtu = mtu === 'auto' ? options.underlay.overlayMtu : mtu
    this.#underlayMtu = options.underlay.mtu
  }

  /** MTU of the containers, in bytes. */
  get overlayMtu(): number {
    return this.#overlayMtu
  }

  /** MTU of the underlay's device, in bytes. */
  get underlayMtu(): number {
    return this.#underlayMtu
  }

  /** Reads the underlay's MTU again. @throws ERR_CONFIG naming `bind` */
  async readMtu(): Promise<void> {
    const { config, devices, logger } = this.#options
    const { mtu } = config().overlay
    const underlay = await devices.underlay()
    this.#underlayMtu = underlay.mtu
    const overlayMtu = mtu === 'auto' ? underlay.overlayMtu : mtu
    if (overlayMtu !== this.#overlayMtu) {
      logger.info({ mtu: overlayMtu, before: this.#overlayMtu }, 'the overlay MTU changes')
    }
    this.#overlayMtu = overlayMtu
  }

  /** Of all local networks, or of one network. */
  input(scope?: Vni): DesiredInput {
    const { self, state, view } = this.#options
    const { overlay } = this.#options.config()
    const only = scope === undefined ? undefined : state.networkByVni(scope)
    const members = view()?.members
    const statuses = members === undefined ? null : new Map(members.map(m => [m.peerId, m.status]))
    return {
      self,
      selfVtep: overlay.vtep,
      networks: scope === undefined ? state.networksOnHost(self) : only === undefined ? [] : [only],
      endpoints: { get: name => state.endpointsOf(name) },
      hosts: state.presentHosts(),
      memberStatus: statuses === null ? null : this.#withGrace(statuses),
      memberAddresses: (members ?? []).map(member => member.address),
      overlayMtu: this.#overlayMtu,
      vxlanPort: overlay.port
    }
  }

  /** Cancels the pending timer. */
  stop(): void {
    this.#cancelGrace?.()
    this.#cancelGrace = null
  }

  #withGrace(statuses: ReadonlyMap<PeerId, MemberStatus>): ReadonlyMap<PeerId, MemberStatus> {
    const { clock, graceEnded } = this.#options
    const nowMs = clock.nowMs()
    const seen = this.#grace.apply(statuses, nowMs)
    const remainingMs = this.#grace.remainingMs(nowMs)
    this.stop()
    // A millisecond more: timers may fire early.
    if (remainingMs !== null) this.#cancelGrace = clock.after(remainingMs + 1, graceEnded)
    return seen
  }

  /** O(local endpoints + hosts). */
  gateways(): DesiredGateways {
    const { config, self, state, view } = this.#options
    const { bind, egress, overlay } = config()
    const memberAddresses = (view()?.members ?? []).map(member => member.address)
    const endpoints = Map.groupBy(state.endpointsOnHost(self), endpoint => endpoint.network)
    return desiredGateways({
      ...this.input(),
      endpoints,
      transit: parseTransitRange(overlay.transit),
      opened: egress.local.map(text => parsePrefix(text)),
      bind,
      memberAddresses
    })
  }
}
