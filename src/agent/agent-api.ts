// What the doors can ask, answered: reads come from the local state, changes go through the log, and an endpoint's
// kernel work is done here, on its host.

import type { AgentPort, EndpointAttachRequest, NamespaceMapRequest, NetworkCreateRequest } from '#model/agent-port.ts'
import { digestOf } from '#allocator/digest.ts'
import { endpointKey, type Endpoint, type EndpointKey, type Shaping } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import type { AgentEvent } from '#model/event.ts'
import type { Host } from '#model/host.ts'
import type { ContainerId, HostName, IfName, NamespaceName, NetworkName } from '#model/ids.ts'
import { formatIpv4 } from '#model/ipv4.ts'
import type { Network } from '#model/network.ts'
import type { EndpointChanges, NetworkChanges } from '#model/settings.ts'
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
import { attachRequest, shapeRequest } from '#overlay/driver.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import type { Agent } from './agent.ts'
import { Collector } from './endpoints/collector.ts'
import type { Reading } from './observe/counters.ts'
import { examine } from './doctor/doctor.ts'
import { attachEndpoint, detachEndpoint, updateEndpoint } from './endpoints/endpoints.ts'
import { isReady } from './observe/figures.ts'
import { kvPage, kvValue, type KvPageRange } from './observe/kv.ts'
import { networkOfNamespace } from './endpoints/namespaces.ts'
import { KeyedSerial } from '#platform/serial.ts'
import { monotonicMs } from '#platform/clock.ts'
import { VERSION } from '#platform/version.ts'
import { endpointView, hostView, memberView, namespaceView, networkView } from './observe/views.ts'

/** After `leave` was answered: time for the answer to get out. */
const GOODBYE_MS = 200

export class AgentApi implements AgentPort {
  readonly #agent: Agent
  /** Attach and detach of one container interface never overlap. */
  readonly #byContainer = new KeyedSerial()
  readonly collector: Collector
  #doctor: Promise<DoctorView> | null = null

  constructor(agent: Agent) {
    this.#agent = agent
    const { state, replicator, driver, localEndpoints, config, self, logger } = agent
    this.collector = new Collector({
      local: localEndpoints,
      endpoints: () => state.endpointsOnHost(self),
      current: () => replicator.current,
      interfaces: () => driver.devices.counters(),
      release: (endpoint, still) => this.#releaseIf(endpoint, still),
      afterMs: config.collectAfter * 1_000,
      nowMs: monotonicMs,
      logger: logger.child({ room: 'agent' })
    })
  }

  status(): Promise<StatusView> {
    const { replicator, state, config, self, members } = this.#agent
    const { role, term, leader, commitIndex } = replicator.status()
    const count = (...statuses: string[]): number => members.filter(m => statuses.includes(m.status)).length
    const overlay = this.#agent.reconciler.status()
    return Promise.resolve({
      host: config.name,
      peerId: self,
      cluster: replicator.clusterId,
      version: VERSION,
      ready: isReady(this.#agent),
      trouble: replicator.trouble,
      raft: {
        role: role === 'pre-candidate' ? 'candidate' : role,
        term,
        leader: leader === null ? null : this.#agent.nameOf(leader),
        commitIndex,
        appliedIndex: state.appliedIndex
      },
      members: { alive: count('alive'), failed: count('failed') },
      networks: state.networkCount,
      endpoints: state.endpointCount,
      digest: digestOf(state),
      differsAt: this.#agent.digests.differsAt,
      overlay: { driver: config.overlay.driver, ...overlay }
    })
  }

  /** Who asks while one is under way shares it. */
  async doctor(): Promise<DoctorView> {
    this.#doctor ??= examine(this.#agent).finally(() => {
      this.#doctor = null
    })
    return this.#doctor
  }

  members(): Promise<readonly MemberView[]> {
    return Promise.resolve(this.#agent.members.map(memberView))
  }

  async join(addresses: readonly string[]): Promise<{ readonly joined: number }> {
    return { joined: await this.#agent.membership.join([...addresses]) }
  }

  async leave(): Promise<void> {
    await this.#agent.membership.leave()
    setTimeout(() => this.#agent.requestStop(), GOODBYE_MS)
  }

  reload(): Promise<ReloadView> {
    return this.#agent.reload()
  }

  async networkCreate(request: NetworkCreateRequest): Promise<NetworkView> {
    const result = await this.#agent.propose({ kind: 'network-create', ...request })
    return this.#networkView(result.network)
  }

  async networkUpdate(name: NetworkName, change: NetworkChanges): Promise<NetworkView> {
    const result = await this.#agent.propose({ kind: 'network-update', name, ...change })
    return this.#networkView(result.network)
  }

  async networkDelete(name: NetworkName, force: boolean): Promise<NetworkView> {
    const result = await this.#agent.propose({ kind: 'network-delete', name, force })
    return this.#networkView(result.network)
  }

  networkList(): Promise<readonly NetworkView[]> {
    return Promise.resolve([...this.#agent.state.networks()].map(network => this.#networkView(network)))
  }

  async networkShow(name: NetworkName): Promise<NetworkView> {
    return Promise.resolve(this.#networkView(this.#network(name)))
  }

  async endpointAttach(request: EndpointAttachRequest): Promise<EndpointView> {
    const key = endpointKey(request.containerId, request.ifname)
    const endpoint = await this.#byContainer.run(key, () => attachEndpoint(this.#agent, this.collector, request))
    return this.#endpointView(endpoint)
  }

  async endpointUpdate(containerId: ContainerId, ifname: IfName, change: EndpointChanges): Promise<EndpointView> {
    const key = endpointKey(containerId, ifname)
    const endpoint = await this.#byContainer.run(key, () => {
      const before = this.#agent.state.endpoint(key)
      if (before === undefined) throw noEndpoint(containerId, ifname)
      return updateEndpoint(this.#agent, before, change)
    })
    return this.#detailedView(endpoint)
  }

  async endpointDetach(containerId: ContainerId, ifname: IfName): Promise<EndpointView> {
    const key = endpointKey(containerId, ifname)
    return this.#byContainer.run(key, async () => {
      // Looked up in its turn: an attach whose caller has gone away may be under way.
      const endpoint = this.#agent.state.endpoint(key)
      if (endpoint === undefined) throw noEndpoint(containerId, ifname)
      const view = this.#endpointView(endpoint)
      await detachEndpoint(this.#agent, endpoint)
      return view
    })
  }

  async endpointCheck(containerId: ContainerId, ifname: IfName, netns: string): Promise<EndpointView> {
    const { state, self, driver, overlayMtu } = this.#agent
    const endpoint = state.endpoint(endpointKey(containerId, ifname))
    if (endpoint === undefined) throw noEndpoint(containerId, ifname)
    if (endpoint.host !== self) throw new VxmeshError('ERR_CHECK_FAILED', `its endpoint is on another host`)
    const network = this.#network(endpoint.network)
    await driver.devices.check(attachRequest({ endpoint, network, overlayMtu, netns, withRoute: true }))
    return this.#endpointView(endpoint)
  }

  async endpointCollect(keep: ReadonlySet<EndpointKey>): Promise<{ readonly released: number }> {
    return { released: await this.collector.collect(keep) }
  }

  async endpointList(network?: NetworkName): Promise<readonly EndpointView[]> {
    const { state } = this.#agent
    if (network !== undefined) this.#network(network)
    return this.#endpointViews(network === undefined ? [...state.endpoints()] : [...state.endpointsOf(network)])
  }

  async endpointShow(containerId: ContainerId, ifname?: IfName): Promise<readonly EndpointView[]> {
    const all = [...this.#agent.state.endpointsOfContainer(containerId)]
    const found = all.filter(e => ifname === undefined || e.ifname === ifname)
    if (found.length === 0) throw noEndpoint(containerId, ifname)
    return Promise.all(found.map(endpoint => this.#detailedView(endpoint)))
  }

  hostList(): Promise<readonly HostView[]> {
    return Promise.resolve([...this.#agent.state.hosts()].map(host => this.#hostView(host)))
  }

  async hostShow(name: HostName): Promise<HostView> {
    return Promise.resolve(this.#hostView(this.#host(name)))
  }

  async hostRemove(name: HostName): Promise<HostView> {
    const result = await this.#agent.propose({ kind: 'host-remove', name })
    return this.#hostView(result.host, result.released)
  }

  async namespaceMap({ namespace, network, grants }: NamespaceMapRequest): Promise<NamespaceView> {
    const result = await this.#agent.propose({ kind: 'namespace-map', namespace, network, grants })
    return namespaceView(result.namespace)
  }

  async namespaceUnmap(namespace: NamespaceName): Promise<NamespaceView> {
    const result = await this.#agent.propose({ kind: 'namespace-unmap', namespace })
    return namespaceView(result.namespace)
  }

  namespaceList(): Promise<readonly NamespaceView[]> {
    return Promise.resolve([...this.#agent.state.namespaces()].map(namespaceView))
  }

  namespaceNetwork(namespace: NamespaceName, chosen?: NetworkName): Promise<NetworkName> {
    return networkOfNamespace(this.#agent, namespace, chosen)
  }

  kvList(range: KvPageRange): Promise<KvPageView> {
    return Promise.resolve(kvPage(this.#agent.state, range))
  }

  async kvGet(key: string): Promise<KvEntryView> {
    return Promise.resolve(kvValue(this.#agent.state, key))
  }

  snapshotSave(stale: boolean): Promise<Iterable<Uint8Array>> {
    return this.#agent.image(stale)
  }

  async raftPeers(): Promise<readonly RaftPeerView[]> {
    const { replicator, members } = this.#agent
    const { leader } = replicator.status()
    const peers = await replicator.peers()
    return peers.map(({ peerId, voter, matchIndex }) => {
      const member = members.find(m => m.peerId === peerId)
      const state = peerId === leader ? 'leader' : member?.status === 'alive' ? 'follower' : 'unknown'
      const address = member === undefined ? '' : `${formatIpv4(member.address)}:${member.p2pPort}`
      return { name: this.#agent.nameOf(peerId), peerId, address, state, voter, matchIndex }
    })
  }

  async raftAdd(name: HostName): Promise<readonly RaftPeerView[]> {
    const host = this.#host(name)
    if (host.role !== 'server') {
      const what = `host ${name} runs as a client: start its agent with role: server first`
      throw new VxmeshError('ERR_INVALID', `name: ${what}`, { field: 'name' })
    }
    await this.#agent.replicator.addServer(host.peerId)
    return this.raftPeers()
  }

  async raftRemove(name: HostName): Promise<readonly RaftPeerView[]> {
    await this.#agent.replicator.removeServer(this.#host(name).peerId)
    return this.raftPeers()
  }

  async raftTransfer(name: HostName): Promise<readonly RaftPeerView[]> {
    await this.#agent.replicator.transferLeadership(this.#host(name).peerId)
    return this.raftPeers()
  }

  watch(listener: (event: AgentEvent) => void, recent = false): () => void {
    const { events, state } = this.#agent
    if (recent) for (const event of events.recent()) listener(event)
    listener({ time: new Date().toISOString(), kind: 'watching', index: state.appliedIndex })
    return events.listen(listener)
  }

  /** True when it was released. */
  #releaseIf({ containerId, ifname }: Endpoint, still: () => Promise<boolean>): Promise<boolean> {
    const key = endpointKey(containerId, ifname)
    return this.#byContainer.run(key, async () => {
      const endpoint = this.#agent.state.endpoint(key)
      if (endpoint?.host !== this.#agent.self || !(await still())) return false
      await detachEndpoint(this.#agent, endpoint)
      return true
    })
  }

  #network(name: NetworkName): Network {
    const network = this.#agent.state.network(name)
    if (network === undefined) throw new VxmeshError('ERR_NETWORK_NOT_FOUND', `there is no network ${name}`)
    return network
  }

  #host(name: HostName): Host {
    const host = this.#agent.state.hostByName(name)
    if (host === undefined) throw new VxmeshError('ERR_HOST_NOT_FOUND', `there is no host ${name}`)
    return host
  }

  #networkView(network: Network): NetworkView {
    const { state, overlayMtu } = this.#agent
    return networkView(network, { overlayMtu, endpoints: state.endpointCountOf(network.name) })
  }

  #hostView(host: Host, endpoints = this.#agent.state.endpointCountOn(host.peerId)): HostView {
    const status = this.#agent.members.find(m => m.peerId === host.peerId)?.status ?? 'unknown'
    return hostView(host, { status, endpoints })
  }

  async #endpointViews(endpoints: readonly Endpoint[]): Promise<EndpointView[]> {
    const here = endpoints.some(e => e.host === this.#agent.self)
    const reading = here ? await this.#agent.counters.read() : undefined
    return endpoints.map(endpoint => this.#endpointView(endpoint, { reading }))
  }

  /** With what the kernel enforces. */
  async #detailedView(endpoint: Endpoint): Promise<EndpointView> {
    const { driver, counters, overlayMtu, self } = this.#agent
    if (endpoint.host !== self) return this.#endpointView(endpoint)
    const network = this.#network(endpoint.network)
    const installed = await driver.devices.installedShaping(shapeRequest({ endpoint, network, overlayMtu }))
    return this.#endpointView(endpoint, { reading: await counters.read(), installed })
  }

  #endpointView(
    endpoint: Endpoint,
    local: { readonly reading?: Reading | undefined; readonly installed?: Shaping | null } = {}
  ): EndpointView {
    const { state, overlayMtu, self } = this.#agent
    const hostInterface = vethName(endpoint.containerId, endpoint.ifname)
    const reading = endpoint.host === self ? local.reading : undefined
    return endpointView(endpoint, {
      network: this.#network(endpoint.network),
      overlayMtu,
      host: state.host(endpoint.host),
      counters: reading?.counters(hostInterface),
      rates: reading?.rates(hostInterface),
      installed: local.installed ?? null
    })
  }
}

function noEndpoint(containerId: ContainerId, ifname: IfName | undefined): VxmeshError {
  const what = ifname === undefined ? containerId : `${containerId} ${ifname}`
  return new VxmeshError('ERR_ENDPOINT_NOT_FOUND', `there is no endpoint of container ${what}`)
}
