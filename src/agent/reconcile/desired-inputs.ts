// Collects the inputs of the desired state for one reconcile pass: replicated state, members, settings and underlay MTU.
// A pass reads this host's networks and endpoints through the state's index by host, never the whole cluster.

import type { ServiceResolver } from '#allocator/service-resolver.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import { statusOfHost } from '#model/host.ts'
import type { PeerId, Vni } from '#model/ids.ts'
import { parsePrefix, type Ip } from '#model/ip.ts'
import type { MemberStatus } from '#model/member.ts'
import { parseTransitRange } from '#model/ipv4.ts'
import type { MembershipView } from '#membership/view/view.ts'
import type { Devices } from '#overlay/driver.ts'
import type { DesiredInput } from '#overlay/plan/network/desired.ts'
import { LeaveGrace } from '#overlay/plan/network/leave-grace.ts'
import { desiredGateways, guardedSubnets, type DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import { lazyPeers, type MemberStatuses, type UnderlayPeers } from '#overlay/plan/underlay/peers.ts'
import type { Underlay } from '#overlay/plan/underlay/underlay.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { rememberLast } from './remember-last.ts'

export type DesiredInputsOptions = {
  readonly self: PeerId
  readonly state: ClusterState
  readonly resolver: Pick<ServiceResolver, 'servicesOf'>
  readonly config: () => Config
  /** Null until Serf has been queried. */
  readonly view: () => MembershipView | null
  readonly devices: Pick<Devices, 'underlay'>
  /** The underlay as it was at startup. */
  readonly underlay: Underlay
  /** Called when hosts that have left lose their entries. */
  readonly graceEnded: (peers: readonly PeerId[]) => void
  readonly clock: Clock
  readonly logger: Logger
}

export class DesiredInputs {
  readonly #options: DesiredInputsOptions
  readonly #grace = new LeaveGrace()
  #cancelGrace: Cancel | null = null
  // What follows from all hosts and members: computed again only when one of them has changed.
  readonly #statuses = rememberLast(statusesOf)
  readonly #addresses = rememberLast((view: MembershipView) => view.members.map(({ address }) => address))
  readonly #peers = rememberLast(
    (
      self: PeerId,
      selfVtep: Ip,
      hosts: DesiredInput['hosts'],
      memberStatus: DesiredInput['memberStatus']
    ): UnderlayPeers => lazyPeers({ self, selfVtep, hosts, memberStatus, host: peer => this.#options.state.host(peer) })
  )
  readonly #guarded = rememberLast(
    (selfVtep: Ip, bind: Ip, transit: string, hosts: DesiredInput['hosts'], memberAddresses: readonly Ip[]) =>
      guardedSubnets({ selfVtep, bind, transit: parseTransitRange(transit), hosts, memberAddresses })
  )
  #memberAddresses: readonly Ip[] = []
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

  /** Of all local networks, or of one network. O(local endpoints), and O(hosts) after a change of hosts or members. */
  input(scope?: Vni): DesiredInput {
    const { self, state, resolver, view } = this.#options
    const { overlay } = this.#options.config()
    const only = scope === undefined ? undefined : state.networkByVni(scope)
    const known = view()
    const hosts = state.presentHosts()
    const memberStatus = known === null ? null : this.#withGrace(this.#statuses(known, hosts))
    return {
      self,
      selfVtep: overlay.vtep,
      networks: scope === undefined ? state.networksOnHost(self) : only === undefined ? [] : [only],
      endpoints: { get: name => state.endpointsOf(name) },
      services: { get: name => resolver.servicesOf(name) },
      hosts,
      memberStatus,
      peers: this.#peers(self, overlay.vtep, hosts, memberStatus),
      memberAddresses: this.#addressesOf(known),
      overlayMtu: this.#overlayMtu,
      vxlanPort: overlay.port
    }
  }

  /** Cancels the pending timer. */
  stop(): void {
    this.#cancelGrace?.()
    this.#cancelGrace = null
  }

  #withGrace(statuses: ReturnType<typeof statusesOf>): MemberStatuses {
    const { clock, graceEnded } = this.#options
    const nowMs = clock.nowMs()
    const seen = this.#grace.apply(statuses, nowMs)
    const remainingMs = this.#grace.remainingMs(nowMs)
    this.stop()
    const { leaving } = this.#grace
    // A millisecond more: timers may fire early.
    if (remainingMs !== null) this.#cancelGrace = clock.after(remainingMs + 1, () => graceEnded(leaving))
    return seen
  }

  /** Of the members; the same list as long as it holds the same addresses. */
  #addressesOf(view: MembershipView | null): readonly Ip[] {
    const now = view === null ? [] : this.#addresses(view)
    const before = this.#memberAddresses
    const same = now === before || (now.length === before.length && now.every((address, at) => address === before[at]))
    if (!same) this.#memberAddresses = now
    return this.#memberAddresses
  }

  /** O(local endpoints). */
  gateways(): DesiredGateways {
    const { config, self, state, view } = this.#options
    const { bind, dns, egress, overlay } = config()
    const input = this.input()
    const memberAddresses = this.#addressesOf(view())
    const endpoints = Map.groupBy(state.endpointsOnHost(self), endpoint => endpoint.network)
    return desiredGateways({
      ...input,
      endpoints,
      transit: parseTransitRange(overlay.transit),
      opened: egress.local.map(text => parsePrefix(text)),
      bind,
      memberAddresses,
      queryRate: dns.enabled ? dns.queryRate : null,
      guarded: this.#guarded(overlay.vtep, bind, overlay.transit, input.hosts, memberAddresses)
    })
  }
}

function statusesOf({ members }: MembershipView, hosts: DesiredInput['hosts']): ReadonlyMap<PeerId, MemberStatus> {
  const byPeer = new Map(hosts.map(host => [host.peerId, host]))
  return new Map(members.map(({ peerId, status }) => [peerId, statusOfHost(byPeer.get(peerId), status)]))
}
