// An agent without a network: what the doors ask is answered by the real state machine, or refused as a test says.

import { Caller, makeHost } from '../allocator/fixtures.ts'
import { kvPage, kvValue } from '#agent/observe/kv.ts'
import type { AgentPort, EndpointAttachRequest, NamespaceMapRequest, NetworkCreateRequest } from '#model/agent-port.ts'
import { encodeState } from '#allocator/snapshot.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { snapshotFileChunks } from '#replication/storage/snapshot-file.ts'
import { endpointView, hostView, memberView, namespaceView, networkView } from '#agent/observe/views.ts'
import type { Command, Result } from '#model/command.ts'
import type { Endpoint, EndpointKey, Shaping } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import type { AgentEvent } from '#model/event.ts'
import type { ClusterId, Term, ContainerId, HostName, IfName, NamespaceName, NetworkName } from '#model/ids.ts'
import { PROTOCOL_VERSION } from '#model/member.ts'
import type {
  DoctorView,
  EndpointView,
  HostView,
  KvEntryView,
  KvPageView,
  MemberView,
  NamespaceView,
  NetworkView,
  RaftPeerView,
  ReloadView,
  StatusView
} from '#model/views.ts'

const OVERLAY_MTU = 1_450

/** Hosts h1 and h2, network red with 10.1.0.0/24; this host is h1. */
export class StateAgent implements AgentPort {
  readonly caller = Caller.ready()
  /** Every call is refused with it. */
  refusal: Error | null = null
  /** Is this host part of a cluster, and who leads it, as far as it knows? */
  standing: { readonly ready: boolean; readonly leader: string | null } = { ready: true, leader: 'h1' }
  /** What was asked for, in the inside form. */
  readonly asked: unknown[] = []

  status(): Promise<StatusView> {
    return this.#answer('status', () => ({
      host: 'h1',
      peerId: makeHost(1).peerId,
      cluster: 'c0ffee',
      version: '0.1.0',
      ready: this.standing.ready,
      trouble: null,
      raft: {
        role: 'leader',
        term: 3,
        leader: this.standing.leader,
        commitIndex: this.caller.index,
        appliedIndex: this.caller.index
      },
      members: { alive: 2, failed: 0 },
      digest: 'd1',
      differsAt: null,
      networks: this.caller.state.networkCount,
      endpoints: this.caller.state.endpointCount,
      overlay: { driver: 'linux', drift: 0, degraded: [], repaired: {} }
    }))
  }

  doctor(): Promise<DoctorView> {
    const clock = { id: 'clock', level: 'warning' as const, found: 'h2 ahead by 3.0 s', todo: 'run a time service' }
    const quorum = { id: 'quorum', level: 'ok' as const, found: 'leader h1', todo: '' }
    return this.#answer('doctor', () => ({ host: 'h1', failed: 0, findings: [clock, quorum] }))
  }

  members(): Promise<readonly MemberView[]> {
    return this.#answer('members', () =>
      [1, 2].map(n => {
        const { name, vtep, role, peerId } = makeHost(n)
        const ports = { port: 7_946, p2pPort: 7_947, protocol: PROTOCOL_VERSION, bootstrapExpect: 2 }
        return memberView({ name, address: vtep, status: 'alive', role, peerId, vtep, ...ports })
      })
    )
  }

  join(addresses: readonly string[]): Promise<{ readonly joined: number }> {
    return this.#answer({ addresses }, () => ({ joined: addresses.length }))
  }

  leave(): Promise<void> {
    return this.#answer('leave', () => undefined)
  }

  reload(): Promise<ReloadView> {
    return this.#answer('reload', () => ({ changed: ['log.level'], restart: ['bind', 'serf.port'] }))
  }

  networkCreate(request: NetworkCreateRequest): Promise<NetworkView> {
    return this.#answer(request, () => this.#network({ kind: 'network-create', ...request }))
  }

  networkUpdate(name: NetworkName, change: { readonly egressRate?: number }): Promise<NetworkView> {
    return this.#answer({ name, ...change }, () => this.#network({ kind: 'network-update', name, ...change }))
  }

  networkDelete(name: NetworkName, force: boolean): Promise<NetworkView> {
    return this.#answer({ name, force }, () => this.#network({ kind: 'network-delete', name, force }))
  }

  networkList(): Promise<readonly NetworkView[]> {
    return this.#answer('networks', () => [...this.caller.state.networks()].map(n => this.#viewOf(n.name)))
  }

  networkShow(name: NetworkName): Promise<NetworkView> {
    return this.#answer({ name }, () => this.#viewOf(name))
  }

  endpointAttach(request: EndpointAttachRequest): Promise<EndpointView> {
    const { netns: _, exclusive, ...facts } = request
    return this.#answer(request, () => {
      const result = this.#do({ kind: 'endpoint-attach', ...facts, host: makeHost(1).peerId })
      if (result.kind !== 'endpoint') throw new Error(`answered ${result.kind}`)
      if (exclusive === true && !result.created) throw new VxmeshError('ERR_ENDPOINT_EXISTS', 'attached already')
      return this.#endpointView(result.endpoint)
    })
  }

  endpointDetach(containerId: ContainerId, ifname: IfName): Promise<EndpointView> {
    return this.#answer({ containerId, ifname }, () => {
      const [view] = this.#endpointsOf(containerId, ifname)
      this.#do({ kind: 'endpoint-detach', containerId, ifname })
      return view
    })
  }

  endpointUpdate(containerId: ContainerId, ifname: IfName, change: Partial<Shaping>): Promise<EndpointView> {
    return this.#answer({ containerId, ifname, ...change }, () => {
      const result = this.#do({ kind: 'endpoint-update', containerId, ifname, ...change })
      if (result.kind !== 'endpoint') throw new Error(`answered ${result.kind}`)
      return this.#endpointView(result.endpoint)
    })
  }

  endpointList(network?: NetworkName): Promise<readonly EndpointView[]> {
    return this.#answer({ network }, () => {
      if (network !== undefined) this.#viewOf(network)
      const { state } = this.caller
      const found = network === undefined ? [...state.endpoints()] : [...state.endpointsOf(network)]
      return found.map(endpoint => this.#endpointView(endpoint))
    })
  }

  endpointShow(containerId: ContainerId, ifname?: IfName): Promise<readonly EndpointView[]> {
    return this.#answer({ containerId, ifname }, () => this.#endpointsOf(containerId, ifname))
  }

  endpointCheck(containerId: ContainerId, ifname: IfName, netns: string): Promise<EndpointView> {
    return this.#answer({ containerId, ifname, netns }, () => this.#endpointsOf(containerId, ifname)[0])
  }

  endpointCollect(keep: ReadonlySet<EndpointKey>): Promise<{ readonly released: number }> {
    return this.#answer({ keep: [...keep] }, () => ({ released: 0 }))
  }

  namespaceMap({ namespace, network, grants }: NamespaceMapRequest): Promise<NamespaceView> {
    return this.#answer({ namespace, network, grants }, () =>
      this.#namespace({ kind: 'namespace-map', namespace, network, grants })
    )
  }

  namespaceUnmap(namespace: NamespaceName): Promise<NamespaceView> {
    return this.#answer({ namespace }, () => this.#namespace({ kind: 'namespace-unmap', namespace }))
  }

  namespaceList(): Promise<readonly NamespaceView[]> {
    return this.#answer('namespaces', () => [...this.caller.state.namespaces()].map(namespaceView))
  }

  namespaceNetwork(name: NamespaceName, chosen?: NetworkName): Promise<NetworkName> {
    return this.#answer({ namespace: name, chosen }, () => {
      const row = this.caller.state.namespace(name)
      if (row === undefined) throw new VxmeshError('ERR_NAMESPACE_NOT_FOUND', `namespace ${name} is not mapped`)
      if (chosen === undefined || chosen === row.network || row.grants.includes(chosen)) return chosen ?? row.network
      throw new VxmeshError('ERR_NOT_GRANTED', `network ${chosen} is not granted to namespace ${name}`)
    })
  }

  hostList(): Promise<readonly HostView[]> {
    return this.#answer('hosts', () => [...this.caller.state.hosts()].map(host => this.#hostView(host.name)))
  }

  hostShow(name: HostName): Promise<HostView> {
    return this.#answer({ name }, () => this.#hostView(name))
  }

  hostRemove(name: HostName): Promise<HostView> {
    return this.#answer({ name }, () => {
      const view = this.#hostView(name)
      this.#do({ kind: 'host-remove', name })
      return view
    })
  }

  raftPeers(): Promise<readonly RaftPeerView[]> {
    return this.#answer('peers', () =>
      [1, 2].map(n => ({
        name: `h${n}`,
        peerId: makeHost(n).peerId,
        address: `192.0.2.${n}:7947`,
        state: n === 1 ? ('leader' as const) : ('follower' as const),
        voter: true,
        matchIndex: this.caller.index
      }))
    )
  }

  kvList(range: { prefix: string; after: string; limit: number }): Promise<KvPageView> {
    return this.#answer(range, () => kvPage(this.caller.state, range))
  }

  kvGet(key: string): Promise<KvEntryView> {
    return this.#answer({ key }, () => kvValue(this.caller.state, key))
  }

  async snapshotSave(stale: boolean): Promise<Iterable<Uint8Array>> {
    const { state } = this.caller
    const configuration = { voters: [makeHost(1).peerId], learners: [] }
    const meta = { lastIndex: state.appliedIndex, lastTerm: 3 as Term, configuration }
    const image = { clusterId: 'c0ffee' as ClusterId, meta, data: encodeMsgpack(encodeState(state)) }
    return this.#answer({ stale }, () => snapshotFileChunks(image))
  }

  async raftAdd(name: HostName): Promise<readonly RaftPeerView[]> {
    await this.#answer({ add: name }, () => undefined)
    return this.raftPeers()
  }

  async raftRemove(name: HostName): Promise<readonly RaftPeerView[]> {
    await this.#answer({ remove: name }, () => undefined)
    return this.raftPeers()
  }

  async raftTransfer(name: HostName): Promise<readonly RaftPeerView[]> {
    await this.#answer({ transfer: name }, () => undefined)
    return this.raftPeers()
  }

  /** One event, at once; of before, that one member had failed. */
  watch(listener: (event: AgentEvent) => void, recent = false): () => void {
    if (recent) listener({ time: '2025-12-31T00:00:00.000Z', kind: 'member-vanished', name: 'h9', peerId: 'p9' })
    listener({ time: '2026-01-01T00:00:00.000Z', kind: 'watching', index: this.caller.index })
    return () => undefined
  }

  async #answer<T>(asked: unknown, answer: () => T): Promise<T> {
    this.asked.push(asked)
    if (this.refusal !== null) throw this.refusal
    return Promise.resolve(answer())
  }

  #do(command: Command): Result {
    const outcome = this.caller.try(command)
    if (!outcome.ok) throw VxmeshError.fromBody(outcome.error)
    return outcome.result
  }

  #namespace(command: Command): NamespaceView {
    const result = this.#do(command)
    if (result.kind !== 'namespace') throw new Error(`answered ${result.kind}`)
    return namespaceView(result.namespace)
  }

  #network(command: Command): NetworkView {
    const result = this.#do(command)
    if (result.kind !== 'network') throw new Error(`answered ${result.kind}`)
    return networkView(result.network, { overlayMtu: OVERLAY_MTU, endpoints: 0 })
  }

  #viewOf(name: NetworkName): NetworkView {
    const { state } = this.caller
    const network = state.network(name)
    if (network === undefined) throw new VxmeshError('ERR_NETWORK_NOT_FOUND', `there is no network ${name}`)
    return networkView(network, { overlayMtu: OVERLAY_MTU, endpoints: state.endpointsOf(name).length })
  }

  #endpointsOf(containerId: ContainerId, ifname?: IfName): [EndpointView, ...EndpointView[]] {
    const all = [...this.caller.state.endpointsOfContainer(containerId)]
    const [first, ...rest] = all.filter(e => ifname === undefined || e.ifname === ifname)
    if (first === undefined) throw new VxmeshError('ERR_ENDPOINT_NOT_FOUND', `there is no endpoint of ${containerId}`)
    return [this.#endpointView(first), ...rest.map(endpoint => this.#endpointView(endpoint))]
  }

  #endpointView(endpoint: Endpoint): EndpointView {
    const { state } = this.caller
    const network = state.network(endpoint.network)
    if (network === undefined) throw new Error('an endpoint without a network')
    const counters = undefined
    return endpointView(endpoint, { network, overlayMtu: OVERLAY_MTU, host: state.host(endpoint.host), counters })
  }

  #hostView(name: HostName): HostView {
    const { state } = this.caller
    const host = state.hostByName(name)
    if (host === undefined) throw new VxmeshError('ERR_HOST_NOT_FOUND', `there is no host ${name}`)
    return hostView(host, { status: 'alive', endpoints: state.endpointsOnHost(host.peerId).length })
  }
}
