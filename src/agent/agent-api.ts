// What the doors ask of the agent (AgentPort). Reads are answered from the local state; changes go through the log; kernel
// work for an endpoint is done here, on its host.

import type { ClusterState } from '#allocator/state-machine.ts'
import type {
  AgentPort,
  EndpointAttachRequest,
  EndpointFilter,
  EndpointUpdateRequest,
  NamespaceMapRequest,
  NetworkCreateRequest,
  NetworkUpdateRequest,
  PageRange,
  ServiceCreateRequest
} from '#model/agent-port.ts'
import type { Config } from '#config/schema.ts'
import type { Membership } from '#membership/serf/membership.ts'
import type { ServiceChanges, ServiceKey } from '#model/command.ts'
import { endpointKey, type EndpointKey } from '#model/endpoint.ts'
import { invalid, VxmeshError } from '#model/errors.ts'
import type { AgentEvent } from '#model/event.ts'
import type { ContainerId, HostName, IfName, NamespaceName, NetworkName, PeerId } from '#model/ids.ts'
import { formatIp, isIpv4 } from '#model/ip.ts'
import { joinIp } from '#model/join-address.ts'
import { formatSocketAddress } from '#model/socket-address.ts'
import type {
  DoctorView,
  EndpointView,
  HostView,
  KvEntryView,
  KvPageView,
  MemberView,
  NamespaceView,
  NetworkView,
  PageView,
  RaftPeerView,
  ReloadView,
  ServiceView,
  StatusView
} from '#model/views.ts'
import { attachRequest, type Devices } from '#overlay/driver.ts'
import type { Clock } from '#platform/clock.ts'
import type { HeldNetns } from '#platform/container-netns.ts'
import type { Logger } from '#platform/log.ts'
import type { ClusterLife, ReplicatedLog } from '#replication/ports.ts'
import type { Collector } from './endpoints/collector.ts'
import { noEndpoint, type Endpoints } from './endpoints/endpoints.ts'
import { networkOfNamespace } from './endpoints/namespaces.ts'
import type { Propose } from './endpoints/propose.ts'
import type { EventBus } from './observe/event-bus.ts'
import { kvPage, kvValue, type KvPageRange } from './observe/kv.ts'
import { endpointPage, namedPage, networkPage } from './observe/pages.ts'
import type { PeerDirectory } from './observe/peer-directory.ts'
import type { StateViews } from './observe/state-views.ts'
import { memberView, namespaceView } from './observe/views.ts'
import type { Registrar } from './registrar.ts'
import { refuseMembers } from './services.ts'

/** Time for the answer to `leave` to reach its caller before the agent ends. */
const GOODBYE_MS = 200

export type AgentApiOptions = {
  readonly self: PeerId
  readonly config: () => Pick<Config, 'bind' | 'namespaces'>
  readonly state: ClusterState
  readonly directory: Pick<PeerDirectory, 'member' | 'members' | 'nameOf'>
  readonly membership: Pick<Membership, 'join' | 'leave'>
  readonly registrar: Pick<Registrar, 'leave' | 'stay'>
  readonly log: Pick<ReplicatedLog, 'status'>
  readonly cluster: Pick<ClusterLife, 'addServer' | 'peers' | 'removeServer' | 'transferLeadership'>
  readonly devices: Pick<Devices, 'check'>
  /** See EndpointsOptions.holdNetns. */
  readonly holdNetns: (path: string) => HeldNetns
  readonly endpoints: Pick<Endpoints, 'attach' | 'detach' | 'update'>
  readonly collector: Pick<Collector, 'collect'>
  readonly views: StateViews
  readonly events: Pick<EventBus, 'listen' | 'recent' | 'stamp'>
  readonly overlayMtu: () => number
  readonly propose: Propose
  /** The bytes of a backup; see AgentPort.snapshotSave. */
  readonly image: (stale: boolean) => Promise<AsyncIterable<Uint8Array>>
  readonly status: () => StatusView
  readonly examine: () => Promise<DoctorView>
  readonly reload: () => Promise<ReloadView>
  /** Ends the agent in good order. */
  readonly requestStop: () => void
  readonly clock: Clock
  readonly logger: Logger
}

export class AgentApi implements AgentPort {
  readonly #options: AgentApiOptions
  /** An examination in flight; callers that come meanwhile share it. */
  #examination: Promise<DoctorView> | null = null

  constructor(options: AgentApiOptions) {
    this.#options = options
  }

  async status(): Promise<StatusView> {
    return Promise.resolve(this.#options.status())
  }

  async doctor(): Promise<DoctorView> {
    this.#examination ??= this.#options.examine().finally(() => {
      this.#examination = null
    })
    return this.#examination
  }

  async memberList(range: PageRange): Promise<PageView<MemberView>> {
    const { members } = this.#options.directory
    return Promise.resolve(
      viewed(
        namedPage(members, range, ({ name, peerId }) => [name, peerId]),
        memberView
      )
    )
  }

  async join(addresses: readonly string[]): Promise<{ readonly joined: number }> {
    const { bind } = this.#options.config()
    const other = addresses.find(address => isIpv4(joinIp(address)) !== isIpv4(bind))
    if (other !== undefined) throw invalid('addresses', `${other} and bind, ${formatIp(bind)}, must be of one family`)
    return { joined: await this.#options.membership.join([...addresses]) }
  }

  async leave(): Promise<void> {
    const { membership, registrar } = this.#options
    // Without it the others treat this host as one that has failed: they keep its entries, which does no harm.
    await registrar.leave().catch((err: unknown) => this.#options.logger.warn({ err }, 'the leave is not recorded'))
    try {
      await membership.leave()
    } catch (err) {
      registrar.stay()
      throw err
    }
    this.#options.clock.after(GOODBYE_MS, this.#options.requestStop)
  }

  reload(): Promise<ReloadView> {
    return this.#options.reload()
  }

  async networkCreate(request: NetworkCreateRequest): Promise<NetworkView> {
    const { propose, views } = this.#options
    const { network } = await propose({ kind: 'network-create', ...request })
    return views.network(network)
  }

  async networkUpdate(name: NetworkName, change: NetworkUpdateRequest): Promise<NetworkView> {
    const { propose, views } = this.#options
    const { network } = await propose({ kind: 'network-update', name, ...change })
    return views.network(network)
  }

  async networkDelete(name: NetworkName, force: boolean): Promise<NetworkView> {
    const { propose, views } = this.#options
    const { network } = await propose({ kind: 'network-delete', name, force })
    return views.network(network)
  }

  async networkList(range: PageRange): Promise<PageView<NetworkView>> {
    const { state, views } = this.#options
    return Promise.resolve(viewed(networkPage(state, range), network => views.network(network)))
  }

  async networkShow(name: NetworkName): Promise<NetworkView> {
    const { views } = this.#options
    return Promise.resolve(views.network(views.findNetwork(name)))
  }

  async endpointAttach(request: EndpointAttachRequest): Promise<EndpointView> {
    const { endpoints, views } = this.#options
    return views.endpoint(await endpoints.attach(request))
  }

  async endpointUpdate(containerId: ContainerId, ifname: IfName, change: EndpointUpdateRequest): Promise<EndpointView> {
    const { endpoints, views } = this.#options
    return views.detailedEndpoint(await endpoints.update(containerId, ifname, change))
  }

  async endpointDetach(containerId: ContainerId, ifname: IfName): Promise<EndpointView> {
    const { endpoints, views } = this.#options
    return endpoints.detach(containerId, ifname, endpoint => views.endpoint(endpoint))
  }

  async endpointCheck(containerId: ContainerId, ifname: IfName, netns: string): Promise<EndpointView> {
    const { state, self, devices, views, overlayMtu, holdNetns } = this.#options
    const endpoint = state.endpoint(endpointKey(containerId, ifname))
    if (endpoint === undefined) throw noEndpoint(containerId, ifname)
    if (endpoint.host !== self) throw new VxmeshError('ERR_CHECK_FAILED', `its endpoint is on another host`)
    const network = views.findNetwork(endpoint.network)
    const { held, close } = holdNetns(netns)
    try {
      await devices.check(attachRequest({ endpoint, network, overlayMtu: overlayMtu(), netns: held, withRoute: true }))
    } finally {
      close()
    }
    return views.endpoint(endpoint)
  }

  async endpointCollect(keep: ReadonlySet<EndpointKey>): Promise<{ readonly released: number }> {
    return { released: await this.#options.collector.collect(keep) }
  }

  async endpointList(range: PageRange, { network, selector }: EndpointFilter = {}): Promise<PageView<EndpointView>> {
    const { state, views } = this.#options
    const only = network === undefined ? null : views.findNetwork(network)
    const page = endpointPage(state, range, { only, selector })
    return { ...page, items: await views.endpoints(page.items) }
  }

  async endpointShow(containerId: ContainerId, ifname?: IfName): Promise<readonly EndpointView[]> {
    const { state, views } = this.#options
    const found = state.endpointsOfContainer(containerId).filter(e => ifname === undefined || e.ifname === ifname)
    if (found.length === 0) throw noEndpoint(containerId, ifname)
    return Promise.all(found.map(endpoint => views.detailedEndpoint(endpoint)))
  }

  async serviceCreate(request: ServiceCreateRequest): Promise<ServiceView> {
    const { propose, views, directory } = this.#options
    const network = views.findNetwork(request.network)
    refuseMembers(request.addresses ?? [], { network, members: directory.members })
    const { service } = await propose({ kind: 'service-create', ...request })
    return views.service(service)
  }

  async serviceUpdate(key: ServiceKey, change: ServiceChanges): Promise<ServiceView> {
    const { propose, views } = this.#options
    const { service } = await propose({ kind: 'service-update', ...key, ...change })
    return views.service(service)
  }

  async serviceDelete(key: ServiceKey): Promise<ServiceView> {
    const { propose, views } = this.#options
    const { service } = await propose({ kind: 'service-delete', ...key })
    return views.service(service)
  }

  async serviceList(range: PageRange, network?: NetworkName): Promise<PageView<ServiceView>> {
    const { state, views } = this.#options
    const rows = network === undefined ? state.services() : state.servicesOf(views.findNetwork(network).name)
    const page = namedPage(rows, range, row => [row.network, row.name])
    return Promise.resolve(viewed(page, service => views.service(service)))
  }

  async serviceShow(key: ServiceKey): Promise<ServiceView> {
    const { views } = this.#options
    return Promise.resolve(views.service(views.findService(key)))
  }

  async hostList(range: PageRange): Promise<PageView<HostView>> {
    const { state, views } = this.#options
    const page = namedPage(state.hosts(), range, ({ name, peerId }) => [name, peerId])
    return Promise.resolve(viewed(page, host => views.host(host)))
  }

  async hostShow(name: HostName): Promise<HostView> {
    const { views } = this.#options
    return Promise.resolve(views.host(views.findHost(name)))
  }

  async hostRemove(name: HostName): Promise<HostView> {
    const { propose, views } = this.#options
    const { host, released } = await propose({ kind: 'host-remove', name })
    return views.host(host, released)
  }

  async namespaceMap(request: NamespaceMapRequest): Promise<NamespaceView> {
    const { namespace, network, grants } = request
    const result = await this.#options.propose({ kind: 'namespace-map', namespace, network, grants })
    return namespaceView(result.namespace)
  }

  async namespaceUnmap(namespace: NamespaceName): Promise<NamespaceView> {
    const result = await this.#options.propose({ kind: 'namespace-unmap', namespace })
    return namespaceView(result.namespace)
  }

  async namespaceList(range: PageRange): Promise<PageView<NamespaceView>> {
    const page = namedPage(this.#options.state.namespaces(), range, ({ name }) => [name, ''])
    return Promise.resolve(viewed(page, namespaceView))
  }

  namespaceNetwork(namespace: NamespaceName, chosen?: NetworkName): Promise<NetworkName> {
    return networkOfNamespace(this.#options, namespace, chosen)
  }

  kvList(range: KvPageRange): Promise<KvPageView> {
    return Promise.resolve(kvPage(this.#options.state, range))
  }

  async kvGet(key: string): Promise<KvEntryView> {
    return Promise.resolve(kvValue(this.#options.state, key))
  }

  snapshotSave(stale: boolean): Promise<AsyncIterable<Uint8Array>> {
    return this.#options.image(stale)
  }

  async raftPeers(): Promise<readonly RaftPeerView[]> {
    const { log, cluster, directory } = this.#options
    const { leader } = log.status()
    const peers = await cluster.peers()
    return peers.map(({ peerId, voter, matchIndex }) => {
      const member = directory.member(peerId)
      const state = peerId === leader ? 'leader' : member?.status === 'alive' ? 'follower' : 'unknown'
      const address = member === undefined ? '' : formatSocketAddress({ ...member, port: member.p2pPort })
      return { name: directory.nameOf(peerId), peerId, address, state, voter, matchIndex }
    })
  }

  async raftAdd(name: HostName): Promise<readonly RaftPeerView[]> {
    const { cluster, views } = this.#options
    const host = views.findHost(name)
    if (host.role !== 'server') {
      const what = `host ${name} runs as a client: start its agent with role: server first`
      throw new VxmeshError('ERR_INVALID', `name: ${what}`, { field: 'name' })
    }
    await cluster.addServer(host.peerId)
    return this.raftPeers()
  }

  async raftRemove(name: HostName): Promise<readonly RaftPeerView[]> {
    const { cluster, views } = this.#options
    await cluster.removeServer(views.findHost(name).peerId)
    return this.raftPeers()
  }

  async raftTransfer(name: HostName): Promise<readonly RaftPeerView[]> {
    const { cluster, views } = this.#options
    await cluster.transferLeadership(views.findHost(name).peerId)
    return this.raftPeers()
  }

  watch(listener: (event: AgentEvent) => void, recent = false): () => void {
    const { events, state } = this.#options
    if (recent) for (const event of events.recent()) listener(event)
    listener(events.stamp({ kind: 'watching', index: state.appliedIndex }))
    return events.listen(listener)
  }
}

function viewed<Row, View>(page: PageView<Row>, view: (row: Row) => View): PageView<View> {
  return { ...page, items: page.items.map(view) }
}
