// The facts that doctor judges: gathered by gather-*.ts, judged by judge-*.ts. They hold no secrets.

import type { Feature } from '#overlay/driver.ts'

/** A file or directory that only root may access; mode null: it does not exist. */
export type Guarded = { readonly path: string; readonly mode: number | null; readonly owner: number }

export type DiskFacts = {
  readonly path: string
  readonly freeBytes: number
  readonly totalBytes: number
  /** A file system in memory, lost at power-off. */
  readonly volatile: boolean
  /** The slowest of a few small synced writes, or the error message of one that failed. */
  readonly syncMs: number | string
}

/** What can be found without an agent. Null: a value that could not be read. */
export type MachineFacts = {
  /** The driver's features, or why it cannot be asked. */
  readonly features: readonly Feature[] | string
  readonly underlay: { readonly device: string; readonly mtu: number } | string
  /** Keyed like net/ipv4/ip_forward. */
  readonly sysctls: Readonly<Record<string, number | null>>
  readonly uplinks: number
  readonly disk: DiskFacts | string
  readonly guarded: readonly Guarded[]
  readonly serfVersion: string | null
}

/** `trouble` is null if the TCP port accepts a connection, or else the error's name. */
export type PortFacts = { readonly what: string; readonly address: string; readonly trouble: string | null }

export type PathFacts = {
  /** MTU of the underlay's device, in bytes of the IP packet. */
  readonly wanted: number
  /** The largest packet that passed unfragmented, bytes; 0: none did; null: ping is not installed. */
  readonly passes: number | null
}

/** Packets sent into the tunnel here and received from it there; null: not probed, because the hosts share no network or no VXLAN device per network. */
export type TunnelFacts = { readonly sent: number; readonly came: number } | null

/** Another host, as seen from this one. */
export type PeerFacts = {
  readonly name: string
  readonly status: string
  readonly ports: readonly PortFacts[]
  readonly path: PathFacts | null
  readonly tunnel: TunnelFacts
  /** The answer of its agent, or why there is none. */
  readonly answer: PeerAnswer | string
}

export type PeerAnswer = {
  /** Its clock minus ours; off by at most half the round trip. */
  readonly clockMs: number
  readonly roundTripMs: number
  readonly index: number
  readonly digest: string
  readonly underlayMtu: number
}

export type MeshFacts = {
  /** What a packet of a container grows by on the underlay, in bytes. */
  readonly overheadBytes: number
  /** Networks of this host that have an IPv6 subnet and a smaller MTU than IPv6 needs. */
  readonly tooNarrow: readonly string[]
  readonly self: { readonly name: string; readonly index: number; readonly digest: string }
  /** Number of hosts that were not probed for lack of time. */
  readonly unseen: number
  readonly peers: readonly PeerFacts[]
  readonly ownPorts: readonly PortFacts[]
  readonly serf: { readonly running: boolean; readonly encrypted: boolean; readonly keyed: boolean } | string
  /** Packets to Serf's port beyond its limits, and how long ago the last one was; null: none since the agent started. */
  readonly serfDrops: { readonly stranger: number; readonly member: number; readonly agoMs: number | null }
  readonly cluster: string | null
  readonly trouble: string | null
  readonly leader: string | null
  readonly voters: readonly { readonly name: string; readonly alive: boolean }[]
  readonly lag: number
  readonly current: boolean
  readonly registered: boolean
  readonly registrarProblem: string | null
  readonly differsAt: number | null
  /** Inconsistencies within the state; null: it is too large to be checked while containers wait. */
  readonly contradictions: readonly string[] | null
  readonly drift: number
  readonly degraded: readonly string[]
  readonly repaired: number
  /** Time since the last full pass that succeeded; null: there was none yet. */
  readonly fullPassAgeMs: number | null
  /** Names and VTEPs that several members have. */
  readonly duplicates: readonly string[]
}
