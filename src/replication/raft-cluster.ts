// The life of a Raft cluster as one of its hosts sees it: which cluster it founds or joins, who the servers are, and how
// they change.

import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Logger } from '#platform/log.ts'
import type { ClusterAdoption } from './cluster/cluster-adoption.ts'
import type { ClusterRole } from './cluster/cluster-role.ts'
import type { ServerChanges } from './cluster/server-changes.ts'
import { isForeign, parsePeers, type PeerProgress } from './consensus/peers.ts'
import type { ClusterLife, PeerRpc } from './ports.ts'
import type { MeshPort } from './transport/mesh-port.ts'

/** The RPC method by which `peers` asks the leader. */
export const PEERS_METHOD = 'raft-peers'

export type RaftClusterOptions = {
  readonly self: PeerId
  readonly mesh: MeshPort
  readonly peerRpc: PeerRpc
  readonly members: () => readonly Member[]
  readonly adoption: ClusterAdoption
  readonly role: ClusterRole
  readonly changes: ServerChanges
  readonly stopping: AbortSignal
  readonly logger: Logger
}

export class RaftCluster implements ClusterLife {
  readonly #options: RaftClusterOptions
  /** The members whose addresses the mesh knows, and the servers among them. */
  #known: readonly Member[] = []
  #servers: readonly Member[] = []

  constructor(options: RaftClusterOptions) {
    this.#options = options
  }

  get clusterId(): ClusterId | null {
    return this.#options.adoption.origin?.clusterId ?? null
  }

  get obstacle(): string | null {
    const { adoption, members, role } = this.#options
    const { clusterId } = this
    if (clusterId === null) return adoption.obstacle
    const foreign = members().find(m => m.status === 'alive' && m.role === 'server' && isForeign(m, clusterId))
    if (foreign === undefined || role.status().leader !== null) return null
    const theirs = `${foreign.name} is a server of cluster ${foreign.clusterId ?? ''}`
    return (
      `${theirs}, and this host belongs to cluster ${clusterId}, of which no leader is in sight: ` +
      'the two refuse each other; to join it, move the data directory away'
    )
  }

  async peers(): Promise<readonly PeerProgress[]> {
    const { peerRpc, role } = this.#options
    const { leader } = role.status()
    if (leader !== null) {
      try {
        return parsePeers(await peerRpc.ask(leader, PEERS_METHOD))
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
      }
    }
    return role.progress()
  }

  addServer(peer: PeerId): Promise<void> {
    return this.#options.changes.add(peer)
  }

  removeServer(peer: PeerId): Promise<void> {
    return this.#options.changes.remove(peer)
  }

  transferLeadership(to: PeerId): Promise<void> {
    return this.#options.changes.transfer(to)
  }

  membersChanged(): void {
    const { adoption, logger, mesh, role, self, stopping } = this.#options
    if (stopping.aborted) return
    this.#followMembers()
    for (const m of this.#servers) {
      if (m.status !== 'alive' || m.peerId === self || mesh.isConnected(m.peerId)) continue
      mesh.connect(m.peerId).then(
        () => role.catchUp(),
        (err: unknown) => logger.debug({ peer: m.peerId, err }, 'server cannot be reached')
      )
    }
    adoption.check()
    void role.review()
  }

  #followMembers(): void {
    const { members, mesh } = this.#options
    const now = members()
    if (now === this.#known) return
    for (const m of now) mesh.setAddress(m.peerId, { address: m.address, port: m.p2pPort })
    this.#servers = now.filter(({ role }) => role === 'server')
    this.#known = now
  }
}
