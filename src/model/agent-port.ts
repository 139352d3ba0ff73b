// The agent as its interfaces see it: HTTP, CNI and ZeroMQ call the agent through this port only.

import type { CommandOf, ServiceChanges, ServiceKey } from '#model/command.ts'
import type { AgentEvent } from '#model/event.ts'
import type { EndpointKey } from '#model/endpoint.ts'
import type { ContainerId, HostName, IfName, NamespaceName, NetworkName } from '#model/ids.ts'
import type { Selector } from '#model/labels.ts'
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

export type NetworkCreateRequest = Omit<CommandOf<'network-create'>, 'kind'>
/** What is given is changed. */
export type NetworkUpdateRequest = Omit<CommandOf<'network-update'>, 'kind' | 'name'>
export type NamespaceMapRequest = Omit<CommandOf<'namespace-map'>, 'kind'>

export type ServiceCreateRequest = Omit<CommandOf<'service-create'>, 'kind'>

export type EndpointAttachRequest = Omit<CommandOf<'endpoint-attach'>, 'kind' | 'host'> & {
  /** Absolute path of the container's network namespace. */
  readonly netns: string
  /** Port number wanted on the switch, for drivers that have one; another is taken when it is in use. */
  readonly portNumber?: number
  /** Fail when the endpoint already exists and its container runs, rather than return it. */
  readonly exclusive?: boolean
}

/** What is given is changed. */
export type EndpointUpdateRequest = Omit<CommandOf<'endpoint-update'>, 'kind' | 'containerId' | 'ifname'>
/** Only the endpoints of this network, and only those that the selector chooses. */
export type EndpointFilter = { readonly network?: NetworkName; readonly selector?: Selector }

/** At most `limit` rows, after those that `continue` of an earlier page ends with; from the beginning when it is null. */
export type PageRange = { readonly limit: number; readonly continue: string | null }

/** Every method rejects with a VxmeshError. A change resolves after commit; for endpoints of this host, once the kernel has it. */
export type AgentPort = {
  status(): Promise<StatusView>
  /** Checks this host and its paths to the others, within 10 s. Changes nothing. */
  doctor(): Promise<DoctorView>
  /** By name. @throws ERR_INVALID for a `continue` that no page gave, as all lists do */
  memberList(range: PageRange): Promise<PageView<MemberView>>
  /** Joins the Serf mesh through hosts given as `address` or `address:port`; resolves to how many answered. */
  join(addresses: readonly string[]): Promise<{ readonly joined: number }>
  /** Leaves the Serf mesh gracefully and stops the agent; the data plane stays. */
  leave(): Promise<void>

  /** Reads the configuration again. @throws ERR_CONFIG, in which case nothing has changed */
  reload(): Promise<ReloadView>

  networkCreate(request: NetworkCreateRequest): Promise<NetworkView>
  networkUpdate(name: NetworkName, change: NetworkUpdateRequest): Promise<NetworkView>
  networkDelete(name: NetworkName, force: boolean): Promise<NetworkView>
  /** By VNI. */
  networkList(range: PageRange): Promise<PageView<NetworkView>>
  networkShow(name: NetworkName): Promise<NetworkView>

  endpointAttach(request: EndpointAttachRequest): Promise<EndpointView>
  /** Changes the given settings and labels only. On the endpoint's own host it resolves once the kernel enforces them. */
  endpointUpdate(containerId: ContainerId, ifname: IfName, change: EndpointUpdateRequest): Promise<EndpointView>
  endpointDetach(containerId: ContainerId, ifname: IfName): Promise<EndpointView>
  /** By VNI and address. With a selector a page may hold fewer rows than `limit`, or none, and not be the last. */
  endpointList(range: PageRange, filter?: EndpointFilter): Promise<PageView<EndpointView>>
  /** All endpoints of a container, or that of one interface. */
  endpointShow(containerId: ContainerId, ifname?: IfName): Promise<readonly EndpointView[]>

  /** Compares the kernel with the endpoint. @throws ERR_ENDPOINT_NOT_FOUND, ERR_CHECK_FAILED, ERR_NETNS */
  endpointCheck(containerId: ContainerId, ifname: IfName, netns: string): Promise<EndpointView>
  /** Releases this host's endpoints whose containers are gone, except those to keep. */
  endpointCollect(keep: ReadonlySet<EndpointKey>): Promise<{ readonly released: number }>

  /** @throws ERR_NOT_ALLOWED on a client host, as the two other changes do */
  serviceCreate(request: ServiceCreateRequest): Promise<ServiceView>
  serviceUpdate(service: ServiceKey, change: ServiceChanges): Promise<ServiceView>
  serviceDelete(service: ServiceKey): Promise<ServiceView>
  /** By network and name; of one network or of all. */
  serviceList(range: PageRange, network?: NetworkName): Promise<PageView<ServiceView>>
  serviceShow(service: ServiceKey): Promise<ServiceView>

  namespaceMap(request: NamespaceMapRequest): Promise<NamespaceView>
  namespaceUnmap(namespace: NamespaceName): Promise<NamespaceView>
  /** By name. */
  namespaceList(range: PageRange): Promise<PageView<NamespaceView>>
  /** The network of the namespace's pods, or the one that a pod chose if it is granted. @throws ERR_NAMESPACE_NOT_FOUND, ERR_NOT_GRANTED */
  namespaceNetwork(namespace: NamespaceName, chosen?: NetworkName): Promise<NetworkName>

  /** Entries whose keys start with `prefix` and sort after `after`, ascending; at most `limit`. */
  kvList(range: { readonly prefix: string; readonly after: string; readonly limit: number }): Promise<KvPageView>
  /** @throws ERR_KEY_NOT_FOUND */
  kvGet(key: string): Promise<KvEntryView>

  /** A backup of the current state; with `stale`, of the state that this host has. @throws ERR_NO_QUORUM */
  snapshotSave(stale: boolean): Promise<AsyncIterable<Uint8Array>>

  /** By name. */
  hostList(range: PageRange): Promise<PageView<HostView>>
  hostShow(name: HostName): Promise<HostView>
  hostRemove(name: HostName): Promise<HostView>

  raftPeers(): Promise<readonly RaftPeerView[]>
  /** Makes a host a voter; resolves once it votes. */
  raftAdd(name: HostName): Promise<readonly RaftPeerView[]>
  /** Makes a server a client again. */
  raftRemove(name: HostName): Promise<readonly RaftPeerView[]>
  /** Transfers leadership; resolves once the other host leads. */
  raftTransfer(name: HostName): Promise<readonly RaftPeerView[]>

  /**
   * Calls back for each event from now on, once immediately with `watching`. Returns the function that stops it.
   * @param recent whether to replay the recent events first, oldest first
   */
  watch(listener: (event: AgentEvent) => void, recent?: boolean): () => void
}
