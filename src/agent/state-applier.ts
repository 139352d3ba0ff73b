// The state machine behind the replicated log: applies committed entries to the local state, publishes their events, and
// collects the networks that they affect on this host.

import { whyNotAdmitted, type Requester } from '#allocator/admission.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { stateFrom, stateSections } from '#backup/state-bytes.ts'
import type { Command, Outcome, Refusal, Request } from '#model/command.ts'
import type { LogIndex, PeerId, Vni } from '#model/ids.ts'
import type { Subnet } from '#model/ip.ts'
import type { PreparedState, StateMachine } from '#replication/consensus/applied-log.ts'
import type { DigestCheck, DigestNote } from './observe/digest-check.ts'
import type { EventBus } from './observe/event-bus.ts'
import { changeEvent } from './observe/events.ts'
import type { PeerDirectory } from './observe/peer-directory.ts'
import { touchedBy } from './reconcile/touched.ts'

export type StateApplierOptions = {
  readonly self: PeerId
  readonly state: ClusterState
  readonly directory: Pick<PeerDirectory, 'nameOf'>
  /** Addresses that client hosts may have as VTEPs beside those that they are connected from. */
  readonly vteps: () => readonly Subnet[]
  readonly events: Pick<EventBus, 'publish'>
  readonly digests: Pick<DigestCheck, 'applied' | 'heard' | 'latest'>
  /** Is the state as new as the cluster's? An entry applied before is replayed, and no new event. */
  readonly current: () => boolean
  /** What this host's kernel should hold may have changed for these networks, or for all. */
  readonly changed: (networks?: Iterable<Vni>) => void
  /** The other hosts' addresses may have changed. */
  readonly peersChanged: () => void
  /** A range of entries was applied, up to this index. */
  readonly reached: (index: LogIndex) => void
}

export class StateApplier implements StateMachine {
  readonly #options: StateApplierOptions
  /** Networks affected since the last call of `changed`. */
  readonly #affected = new Set<Vni>()

  constructor(options: StateApplierOptions) {
    this.#options = options
  }

  apply(index: LogIndex, request: Request): Outcome {
    const { state, digests, peersChanged } = this.#options
    const { command } = request
    const { networks, hostWide } = touchedBy(state, command)
    if (hostWide) peersChanged()
    // A network without endpoints here, before and after, has nothing on this host that could change.
    this.#affect(networks)
    const outcome = state.apply(index, request)
    this.#affect(networks)
    digests.applied(index)
    this.#publish(index, request, outcome)
    return outcome
  }

  admit(command: Command, from: Requester): Refusal | null {
    const { state, vteps } = this.#options
    return whyNotAdmitted(state, command, { ...from, vteps: vteps() })
  }

  rules(): number {
    return this.#options.state.rules
  }

  skip(index: LogIndex): void {
    this.#options.state.skip(index)
    this.#options.digests.applied(index)
  }

  snapshot(): AsyncIterableIterator<Uint8Array> {
    return stateSections(this.#options.state)
  }

  async prepare(sections: AsyncIterable<Uint8Array>): Promise<PreparedState> {
    const built = await stateFrom(sections)
    return {
      adopt: () => {
        this.#options.state.become(built)
        this.#options.changed()
      }
    }
  }

  notes(): readonly DigestNote[] {
    return this.#options.digests.latest()
  }

  noted(author: PeerId, notes: readonly DigestNote[]): void {
    this.#options.digests.heard(author, notes)
  }

  applied(index: LogIndex): void {
    this.#options.reached(index)
    this.#options.changed(this.#affected)
    this.#affected.clear()
  }

  #affect(networks: readonly Vni[]): void {
    const { state, self } = this.#options
    for (const vni of networks) if (state.isOnHost(vni, self)) this.#affected.add(vni)
  }

  #publish(index: LogIndex, { command }: Request, outcome: Outcome): void {
    const { state, directory, events, current } = this.#options
    const network = state.network.bind(state)
    const hostName = (peer: PeerId): string => directory.nameOf(peer)
    events.publish(changeEvent({ index, command, outcome, network, hostName }), current() ? 'new' : 'past')
  }
}
