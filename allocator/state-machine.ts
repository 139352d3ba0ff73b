// The replicated state machine: a fold of the committed log. The same entries give the same state on every host, bit
// vectors and remembered answers included; there is no other way to change it.

import type { Command, Outcome, Request } from '#model/command.ts'
import type { Endpoint, EndpointKey } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { ContainerId, HostName, LogIndex, NetworkName, PeerId } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import { attach, detach } from './apply-endpoint.ts'
import { registerHost, removeHost } from './apply-host.ts'
import { createNetwork, deleteNetwork, updateNetwork } from './apply-network.ts'
import type { PoolUse } from './pool.ts'
import { Sessions } from './sessions.ts'
import { Tables } from './tables.ts'

export class ClusterState {
  /** Read by the room's own views and checks. */
  readonly tables = new Tables()
  readonly sessions = new Sessions()
  #appliedIndex = 0 as LogIndex

  get appliedIndex(): LogIndex {
    return this.#appliedIndex
  }

  /** Applies a committed request. A refused one changes nothing but the memory of its answer. */
  apply(index: LogIndex, request: Request): Outcome {
    this.skip(index)
    const { command } = request
    if (command.kind === 'session-open') return this.sessions.open(request.session, index)
    return this.sessions.once(request, index, () => carryOut(this.tables, command))
  }

  /** Passes over an entry without a command. @throws Error when it is not the next one: a broken invariant */
  skip(index: LogIndex): void {
    if (index !== this.#appliedIndex + 1) throw new Error(`applying index ${index} after ${this.#appliedIndex}`)
    this.#appliedIndex = index
  }

  /** Continues after a snapshot. */
  resumeAt(index: LogIndex): void {
    this.#appliedIndex = index
  }

  get networkCount(): number {
    return this.tables.networks.size
  }

  get endpointCount(): number {
    return this.tables.endpoints.size
  }

  *networks(): Generator<Network> {
    for (const { network } of this.tables.networks.values()) yield network
  }

  network(name: NetworkName): Network | undefined {
    return this.tables.networks.get(name)?.network
  }

  /** How much of a network's subnet is used. */
  addressUse(name: NetworkName): PoolUse | undefined {
    return this.tables.networks.get(name)?.pool.use()
  }

  endpoints(): IterableIterator<Endpoint> {
    return this.tables.endpoints.values()
  }

  endpoint(key: EndpointKey): Endpoint | undefined {
    return this.tables.endpoints.get(key)
  }

  endpointsOf(network: NetworkName): readonly Endpoint[] {
    return [...(this.tables.networks.get(network)?.endpoints.values() ?? [])]
  }

  endpointsOnHost(peer: PeerId): readonly Endpoint[] {
    return this.tables.rows(this.tables.byHost.get(peer) ?? [])
  }

  endpointsOfContainer(id: ContainerId): readonly Endpoint[] {
    return this.tables.rows(this.tables.byContainer.get(id) ?? [])
  }

  hosts(): IterableIterator<Host> {
    return this.tables.hosts.values()
  }

  host(peer: PeerId): Host | undefined {
    return this.tables.hosts.get(peer)
  }

  hostByName(name: HostName): Host | undefined {
    const peer = this.tables.hostByName.get(name)
    return peer === undefined ? undefined : this.tables.hosts.get(peer)
  }
}

function carryOut(tables: Tables, command: Exclude<Command, { readonly kind: 'session-open' }>): Outcome {
  switch (command.kind) {
    case 'network-create':
      return createNetwork(tables, command)
    case 'network-update':
      return updateNetwork(tables, command)
    case 'network-delete':
      return deleteNetwork(tables, command)
    case 'endpoint-attach':
      return attach(tables, command)
    case 'endpoint-detach':
      return detach(tables, command)
    case 'host-register':
      return registerHost(tables, command)
    case 'host-remove':
      return removeHost(tables, command)
  }
}
