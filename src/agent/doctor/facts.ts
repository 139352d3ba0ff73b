// What doctor judges: facts alone, gathered by gather-*.ts, judged by judge-*.ts. No secret is among them.

import type { Feature } from '#overlay/driver.ts'

/** A file or directory that others must not get at; mode null: it is not there. */
export type Guarded = { readonly path: string; readonly mode: number | null; readonly owner: number }

export type DiskFacts = {
  readonly path: string
  readonly freeBytes: number
  readonly totalBytes: number
  /** In memory: gone with the machine. */
  readonly volatile: boolean
  /** The slowest of a few small writes made durable; an error's words where one failed. */
  readonly syncMs: number | string
}

/** What is known without an agent. A value that could not be had is null. */
export type MachineFacts = {
  /** Of the driver, or why it cannot be asked. */
  readonly features: readonly Feature[] | string
  readonly underlay: { readonly device: string; readonly mtu: number } | string
  /** By key: net/ipv4/ip_forward. */
  readonly sysctls: Readonly<Record<string, number | null>>
  readonly uplinks: number
  readonly disk: DiskFacts | string
  readonly guarded: readonly Guarded[]
  readonly serfVersion: string | null
}

/** How a TCP port answers; an error's name where it does not. */
export type PortFacts = { readonly what: string; readonly address: string; readonly trouble: string | null }

export type PathFacts = {
  /** The size that the underlay's device takes, bytes of the IP packet. */
  readonly wanted: number
  /** The largest that came through unfragmented; 0: none did, null: ping is not installed. */
  readonly passes: number | null
}

/** What came out of the tunnel there of what was sent here; null: the two share no network, or its device is not ours. */
export type TunnelFacts = { readonly sent: number; readonly came: number } | null

/** Another host as seen from here. */
export type PeerFacts = {
  readonly name: string
  readonly status: string
  readonly ports: readonly PortFacts[]
  readonly path: PathFacts | null
  readonly tunnel: TunnelFacts
  /** What its agent says; or why it says nothing. */
  readonly answer: PeerAnswer | string
}

export type PeerAnswer = {
  /** Its clock less ours, and how far off that may be. */
  readonly clockMs: number
  readonly roundTripMs: number
  readonly index: number
  readonly digest: string
  readonly underlayMtu: number
}

export type MeshFacts = {
  readonly self: { readonly name: string; readonly index: number; readonly digest: string }
  /** Hosts that were not looked at: there are too many. */
  readonly unseen: number
  readonly peers: readonly PeerFacts[]
  readonly ownPorts: readonly PortFacts[]
  readonly serf: { readonly running: boolean; readonly encrypted: boolean; readonly keyed: boolean } | string
  readonly cluster: string | null
  readonly trouble: string | null
  readonly leader: string | null
  readonly voters: readonly { readonly name: string; readonly alive: boolean }[]
  readonly lag: number
  readonly current: boolean
  readonly registered: boolean
  readonly registrarProblem: string | null
  readonly differsAt: number | null
  /** Contradictions of the state with itself; null: it is too large to be looked at while containers wait. */
  readonly contradictions: readonly string[] | null
  readonly drift: number
  readonly degraded: readonly string[]
  readonly repaired: number
  /** Since a full pass came well to its end; null: none has yet. */
  readonly fullPassAgeMs: number | null
  /** Names and VTEPs that more than one member has. */
  readonly duplicates: readonly string[]
}
