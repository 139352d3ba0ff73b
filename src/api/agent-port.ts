// What the doors ask of the agent. The agent implements it; the API serves it; nothing else crosses.

import type { CommandOf } from '#model/command.ts'
import type { AgentEvent } from '#model/event.ts'
import type { EndpointKey } from '#model/endpoint.ts'
import type { ContainerId, HostName, IfName, NamespaceName, NetworkName } from '#model/ids.ts'
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

export type NetworkCreateRequest = Omit<CommandOf<'network-create'>, 'kind'>
export type NamespaceMapRequest = Omit<CommandOf<'namespace-map'>, 'kind'>

export type EndpointAttachRequest = Omit<CommandOf<'endpoint-attach'>, 'kind' | 'host'> & {
  /** Absolute path of the container's network namespace. */
  readonly netns: string
  /** Port number wanted on the switch, for drivers that have one; another is taken when it is in use. */
  readonly portNumber?: number
  /** Fail when the endpoint already exists and its container runs, rather than return it. */
  readonly exclusive?: boolean
}

/** Every method rejects with a VxmeshError. Changes resolve after commit, and after the kernel where it is this host's. */
export type AgentPort = {
  status(): Promise<StatusView>
  /** Looks at this host and its ways to the others, within 10 s. Changes nothing. */
  doctor(): Promise<DoctorView>
  members(): Promise<readonly MemberView[]>
  /** Joins Serf's mesh through the given `address` or `address:port`; resolves to how many answered. */
  join(addresses: readonly string[]): Promise<{ readonly joined: number }>
  /** Leaves Serf's mesh gracefully and ends the agent; the data plane stays. */
  leave(): Promise<void>

  /** Reads the configuration again. @throws ERR_CONFIG; then nothing has changed */
  reload(): Promise<ReloadView>

  networkCreate(request: NetworkCreateRequest): Promise<NetworkView>
  networkUpdate(name: NetworkName, change: NetworkChanges): Promise<NetworkView>
  networkDelete(name: NetworkName, force: boolean): Promise<NetworkView>
  networkList(): Promise<readonly NetworkView[]>
  networkShow(name: NetworkName): Promise<NetworkView>

  endpointAttach(request: EndpointAttachRequest): Promise<EndpointView>
  /** Only what is given is changed. On the endpoint's own host the kernel has it when this resolves. */
  endpointUpdate(containerId: ContainerId, ifname: IfName, change: EndpointChanges): Promise<EndpointView>
  endpointDetach(containerId: ContainerId, ifname: IfName): Promise<EndpointView>
  endpointList(network?: NetworkName): Promise<readonly EndpointView[]>
  /** All interfaces of a container, or the one named. */
  endpointShow(containerId: ContainerId, ifname?: IfName): Promise<readonly EndpointView[]>

  /** Holds the kernel against the endpoint. @throws ERR_ENDPOINT_NOT_FOUND, ERR_CHECK_FAILED, ERR_NETNS */
  endpointCheck(containerId: ContainerId, ifname: IfName, netns: string): Promise<EndpointView>
  /** Releases endpoints of this host whose containers are gone, but for these. */
  endpointCollect(keep: ReadonlySet<EndpointKey>): Promise<{ readonly released: number }>

  namespaceMap(request: NamespaceMapRequest): Promise<NamespaceView>
  namespaceUnmap(namespace: NamespaceName): Promise<NamespaceView>
  namespaceList(): Promise<readonly NamespaceView[]>
  /** The network for a pod of the namespace, or the one that it chose. @throws ERR_NAMESPACE_NOT_FOUND, ERR_NOT_GRANTED */
  namespaceNetwork(namespace: NamespaceName, chosen?: NetworkName): Promise<NetworkName>

  /** Keys that start with the prefix, after a key, ascending; at most `limit`. */
  kvList(range: { readonly prefix: string; readonly after: string; readonly limit: number }): Promise<KvPageView>
  /** @throws ERR_KEY_NOT_FOUND */
  kvGet(key: string): Promise<KvEntryView>

  /** The bytes of a backup, of now; or, `stale`, of what this host has. @throws ERR_NO_QUORUM */
  snapshotSave(stale: boolean): Promise<Iterable<Uint8Array>>

  hostList(): Promise<readonly HostView[]>
  hostShow(name: HostName): Promise<HostView>
  hostRemove(name: HostName): Promise<HostView>

  raftPeers(): Promise<readonly RaftPeerView[]>
  /** Makes a host a voter; resolves when it votes. */
  raftAdd(name: HostName): Promise<readonly RaftPeerView[]>
  /** Makes a server a client again. */
  raftRemove(name: HostName): Promise<readonly RaftPeerView[]>
  /** Hands leadership over; resolves when the other leads. */
  raftTransfer(name: HostName): Promise<readonly RaftPeerView[]>

  /**
   * Calls back for each event from now on, the first time at once; returns how to stop.
   * @param recent first for the last events before, the oldest first
   */
  watch(listener: (event: AgentEvent) => void, recent?: boolean): () => void
}
