// Every metric of ours: name, type, labels, meaning, and where its figure comes from. docs/metrics.md is written from
// this table. No label holds a container: the number of series is bounded by networks, which are bounded by the agent. Pure.

import type { Figures } from './figures.ts'

/** The label's value and the figure; of a metric without labels there is one, with the value ''. */
type Sample = readonly [labelValue: string, figure: number]

export type Family = {
  readonly name: string
  readonly type: 'gauge' | 'counter' | 'histogram'
  readonly label: string | null
  readonly help: string
  /** Absent on a histogram, which is told as things happen. */
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
  help: 'From proposing a change on this host to its commit, retries included'
}

/** `full`: a pass over everything; `network`: over one network. */
export const RECONCILE_DURATION: Family = {
  name: 'vxmesh_tunnel_reconcile_duration_seconds',
  type: 'histogram',
  label: 'scope',
  help: 'One pass of comparing the kernel with what it should hold and putting it right: full, or one network'
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
    help: 'Members as Serf sees them on this host: alive, leaving, left, failed',
    read: f => Object.entries(f.members)
  },
  gauge('vxmesh_ready', '1 where this host is ready, as /readyz and `vxmesh status` say', f => f.ready),
  gauge('vxmesh_hosts', 'Hosts registered in the committed state with their tunnel address', f => f.hosts),
  gauge('vxmesh_raft_term', 'Raft term that this host knows', f => f.raft.term),
  gauge('vxmesh_raft_is_leader', '1 on the leader, 0 elsewhere', f => f.raft.isLeader),
  gauge('vxmesh_raft_has_leader', '1 where this host knows a leader', f => f.raft.hasLeader),
  gauge(
    'vxmesh_raft_commit_index',
    'Log index up to which this host knows the log to be committed',
    f => f.raft.commitIndex
  ),
  gauge('vxmesh_raft_applied_index', 'Log index up to which the state is applied here', f => f.raft.appliedIndex),
  counter(
    'vxmesh_raft_leader_changes_total',
    'Leaderships seen from this host since its agent started, the first one included',
    f => f.raft.leaderChanges
  ),
  counter(
    'vxmesh_raft_proposal_retries_total',
    'Changes of this host that were sent again because the fate of an attempt was unknown',
    f => f.raft.proposalRetries
  ),
  COMMIT_DURATION,
  gauge('vxmesh_feed_lag_entries', 'Entries known to be committed and not applied here yet', f => f.feedLag),
  gauge('vxmesh_state_diverged', '1 after this state was seen to differ from the leader’s: a bug', f => f.diverged),
  gauge('vxmesh_networks', 'Networks in the cluster', f => f.networks),
  gauge('vxmesh_endpoints', 'Endpoints in the cluster', f => f.endpoints),
  gauge(
    'vxmesh_networks_unlisted',
    'Networks beyond the bound of the metrics that have a network label: those of the highest VNIs',
    f => f.unlisted
  ),
  {
    name: 'vxmesh_ipam_addresses_used',
    type: 'gauge',
    label: 'network',
    help: 'Addresses of the network’s subnet that endpoints have',
    read: f => f.addresses.map(a => [a.network, a.used])
  },
  {
    name: 'vxmesh_ipam_addresses_free',
    type: 'gauge',
    label: 'network',
    help: 'Addresses of the network’s subnet that endpoints can still get',
    read: f => f.addresses.map(a => [a.network, a.free])
  },
  ofNetworks(
    'gauge',
    'vxmesh_local_endpoints',
    'Endpoints of the network on this host; networks without any are not listed, nor below',
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
    'Bytes that they have sent, from the agent’s start on',
    t => t.txBytes
  ),
  ofNetworks(
    'counter',
    'vxmesh_endpoint_receive_packets_total',
    'Packets that they have received, from the agent’s start on',
    t => t.rxPackets
  ),
  ofNetworks(
    'counter',
    'vxmesh_endpoint_transmit_packets_total',
    'Packets that they have sent, from the agent’s start on',
    t => t.txPackets
  ),
  ofNetworks(
    'gauge',
    'vxmesh_endpoint_receive_bytes_per_second',
    'What they receive, mean over the last seconds',
    t => t.rxRate / 8
  ),
  ofNetworks(
    'gauge',
    'vxmesh_endpoint_transmit_bytes_per_second',
    'What they send, mean over the last seconds',
    t => t.txRate / 8
  ),
  gauge('vxmesh_overlay_drift', 'Differences between the kernel and what it should hold that are left', f => {
    return f.overlay.drift
  }),
  gauge(
    'vxmesh_overlay_degraded',
    'Causes of such differences, as `vxmesh status` lists them',
    f => f.overlay.degraded
  ),
  {
    name: 'vxmesh_overlay_repaired_total',
    type: 'counter',
    label: 'kind',
    help: 'What others had changed in the kernel and was put right since the agent started, by kind of op',
    read: f => Object.entries(f.overlay.repaired)
  },
  RECONCILE_DURATION
]
