// The agent's metrics: name, type, label, meaning, and how the value is read. docs/metrics.md is generated from this table.
// No label names a container: the number of series is bounded by that of listed networks, which the agent limits. Pure.

import type { Figures } from './figures.ts'

/** A label value and its figure. A metric without labels has one sample, with the label value ''. */
type Sample = readonly [labelValue: string, figure: number]

export type Family = {
  readonly name: string
  readonly type: 'gauge' | 'counter' | 'histogram'
  readonly label: string | null
  readonly help: string
  /** Absent on a histogram, which observes values as they occur. */
  readonly read?: (figures: Figures) => readonly Sample[]
}

type ScalarFamily = Pick<Family, 'name' | 'help'> & { readonly type: 'gauge' | 'counter' }

const one = (
  type: ScalarFamily['type'],
  name: string,
  help: string,
  read: (f: Figures) => number | boolean
): Family => {
  return { name, type, label: null, help, read: figures => [['', Number(read(figures))]] }
}
const gauge = (name: string, help: string, read: (f: Figures) => number | boolean): Family =>
  one('gauge', name, help, read)
const counter = (name: string, help: string, read: (f: Figures) => number): Family => one('counter', name, help, read)

type Traffic = Figures['traffic'][number]

const ofNetworks = (type: ScalarFamily['type'], name: string, help: string, read: (t: Traffic) => number): Family => {
  return { name, type, label: 'network', help, read: f => f.traffic.map(t => [t.network, read(t)]) }
}

export const COMMIT_DURATION: Family = {
  name: 'vxmesh_raft_commit_duration_seconds',
  type: 'histogram',
  label: null,
  help: 'From proposing a change on this host to its commit, including retries'
}

/** `full`: a pass over all networks; `network`: over one. */
export const RECONCILE_DURATION: Family = {
  name: 'vxmesh_tunnel_reconcile_duration_seconds',
  type: 'histogram',
  label: 'scope',
  help: 'One reconcile pass, which compares the kernel with the desired state and repairs it: full, or one network'
}

export const FAMILIES: readonly Family[] = [
  {
    name: 'vxmesh_build_info',
    type: 'gauge',
    label: 'version',
    help: 'Version of the agent; always 1',
    read: f => [[f.version, 1]]
  },
  {
    name: 'vxmesh_members',
    type: 'gauge',
    label: 'status',
    help: 'Members by status in Serf on this host: alive, leaving, left, failed',
    read: f => Object.entries(f.members)
  },
  gauge('vxmesh_ready', '1 if this host is ready, as in /readyz and `vxmesh status`', f => f.ready),
  gauge('vxmesh_hosts', 'Hosts registered in the committed state', f => f.hosts),
  gauge('vxmesh_raft_term', 'Raft term that this host knows', f => f.raft.term),
  gauge('vxmesh_raft_is_leader', '1 on the leader, 0 elsewhere', f => f.raft.isLeader),
  gauge('vxmesh_raft_has_leader', '1 if this host knows a leader', f => f.raft.hasLeader),
  gauge('vxmesh_raft_commit_index', 'Highest log index that this host knows to be committed', f => f.raft.commitIndex),
  gauge('vxmesh_raft_applied_index', 'Highest log index that is applied on this host', f => f.raft.appliedIndex),
  counter(
    'vxmesh_raft_leader_changes_total',
    'Leader changes that this host has seen since its agent started, including the first leader',
    f => f.raft.leaderChanges
  ),
  counter(
    'vxmesh_raft_proposal_retries_total',
    'Proposals of this host that were retried because the outcome of an attempt was unknown',
    f => f.raft.proposalRetries
  ),
  counter(
    'vxmesh_peer_messages_refused_total',
    'Messages of Raft and of the feed that this host refused: their sender is no server, or no correct server sends them',
    f => f.raft.refusedMessages
  ),
  COMMIT_DURATION,
  gauge('vxmesh_feed_lag_entries', 'Entries known to be committed but not yet applied on this host', f => f.feedLag),
  gauge(
    'vxmesh_state_diverged',
    '1 while this host’s state differs from the leader’s; a client replaces its state by itself, a server does not',
    f => f.diverged
  ),
  gauge('vxmesh_networks', 'Networks in the cluster', f => f.networks),
  gauge('vxmesh_endpoints', 'Endpoints in the cluster', f => f.endpoints),
  gauge('vxmesh_services', 'Services in the cluster', f => f.services),
  gauge(
    'vxmesh_networks_unlisted',
    'Networks left out of metrics with a network label, beyond their limit: those with the highest VNIs',
    f => f.unlisted
  ),
  {
    name: 'vxmesh_ipam_addresses_used',
    type: 'gauge',
    label: 'network',
    help: 'Addresses of the network’s subnet that are allocated to endpoints and services',
    read: f => f.addresses.map(a => [a.network, a.used])
  },
  {
    name: 'vxmesh_ipam_addresses_free',
    type: 'gauge',
    label: 'network',
    help: 'Addresses of the network’s subnet that are free',
    read: f => f.addresses.map(a => [a.network, a.free])
  },
  ofNetworks(
    'gauge',
    'vxmesh_local_endpoints',
    'Endpoints of the network on this host; networks without any are not listed, nor in the metrics below',
    t => t.endpoints
  ),
  ofNetworks(
    'counter',
    'vxmesh_endpoint_receive_bytes_total',
    'Bytes that this host’s endpoints of the network have received since the agent started',
    t => t.rxBytes
  ),
  ofNetworks(
    'counter',
    'vxmesh_endpoint_transmit_bytes_total',
    'Bytes that this host’s endpoints of the network have sent since the agent started',
    t => t.txBytes
  ),
  ofNetworks(
    'counter',
    'vxmesh_endpoint_receive_packets_total',
    'Packets that this host’s endpoints of the network have received since the agent started',
    t => t.rxPackets
  ),
  ofNetworks(
    'counter',
    'vxmesh_endpoint_transmit_packets_total',
    'Packets that this host’s endpoints of the network have sent since the agent started',
    t => t.txPackets
  ),
  ofNetworks(
    'gauge',
    'vxmesh_endpoint_receive_bytes_per_second',
    'Receive rate of this host’s endpoints of the network, averaged over the last few seconds',
    t => t.rxRate / 8
  ),
  ofNetworks(
    'gauge',
    'vxmesh_endpoint_transmit_bytes_per_second',
    'Transmit rate of this host’s endpoints of the network, averaged over the last few seconds',
    t => t.txRate / 8
  ),
  gauge('vxmesh_overlay_drift', 'Remaining differences between desired and observed kernel state', f => {
    return f.overlay.drift
  }),
  gauge(
    'vxmesh_overlay_degraded',
    'Causes of remaining differences, as listed by `vxmesh status`',
    f => f.overlay.degraded
  ),
  {
    name: 'vxmesh_overlay_repaired_total',
    type: 'counter',
    label: 'kind',
    help: 'External changes to the kernel repaired since the agent started, by kind of op',
    read: f => Object.entries(f.overlay.repaired)
  },
  RECONCILE_DURATION,
  {
    name: 'vxmesh_mesh_refused_connections_total',
    type: 'counter',
    label: 'reason',
    help: 'Connections to the mesh port (TCP 7947) refused before or in the handshake since the agent started, by reason',
    read: f => Object.entries(f.refused)
  },
  {
    name: 'vxmesh_guard_dropped_packets_total',
    type: 'counter',
    label: 'reason',
    help: 'Packets dropped by the guard’s eBPF programs: forged or limited (sent by a container), nobody or fragment (sent to a service without a backend, or in fragments), to-host, no-port, stranger (VXLAN from a host without endpoints in the network) or malformed VXLAN',
    read: f => Object.entries(f.guardDrops)
  },
  gauge('vxmesh_dns_resolvers', 'Networks of this host whose names are resolved', f => f.names.resolvers),
  {
    name: 'vxmesh_dns_queries_total',
    type: 'counter',
    label: 'outcome',
    help: 'Queries of containers by what became of them: own (a name of their network), cached, forwarded, failed (no upstream resolver answered), refused (the network has no egress), limited (too many in flight) or malformed',
    read: f => Object.entries(f.names.queries)
  },
  gauge(
    'vxmesh_dns_cache_bytes',
    'Bytes of answers kept from upstream resolvers, of all networks',
    f => f.names.cacheBytes
  ),
  {
    name: 'vxmesh_serf_dropped_packets_total',
    type: 'counter',
    label: 'sender',
    help: 'Packets to Serf’s port (7946) dropped by the kernel because their source exceeded its limits: stranger, or member',
    read: f => Object.entries(f.serf.droppedPackets)
  },
  counter(
    'vxmesh_serf_log_dropped_bytes_total',
    'Bytes of Serf’s log dropped since the agent started because it had grown too large; strangers’ packets make a line each',
    f => f.serf.logDroppedBytes
  )
]
