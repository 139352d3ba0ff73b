// A whole host in memory: the real Replicator and the real allocator on a simulated disk, an in-memory mesh and a manual
// clock. It does not touch the machine, so every run is the same.

import { whyNotAdmitted } from '#allocator/admission.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { HostName, PeerId } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { createLogger } from '#platform/log.ts'
import type { Random } from '#platform/random.ts'
import type { RoleChange } from '#replication/consensus/raft-node-options.ts'
import { readSeed } from '#replication/cluster/seed.ts'
import { Replicator } from '#replication/replicator.ts'
import type { HostDisk } from '#replication/storage/host-disk.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { HostClock } from './host-clock.ts'
import type { MemoryMesh, MemoryNetwork } from './memory-mesh.ts'
import { SimulatedDisk } from './storage/simulated-disk.ts'
import type { Clock } from '#platform/clock.ts'
import { snapshotPart } from './snapshots.ts'

const DATA_DIR = '/data'
const logger = createLogger('silent')

export type MemoryHostOptions = {
  readonly n: number
  readonly peer: PeerId
  readonly role: 'server' | 'client'
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  readonly network: MemoryNetwork
  readonly clock: Clock
  readonly random: Random
  /** The members that Serf lists. */
  readonly members: () => readonly Member[]
  readonly snapshotBytes?: number
}

/** The parts that end with the process. */
type Life = { readonly clock: HostClock; readonly mesh: MemoryMesh; readonly replicator: Replicator }

export class MemoryHost {
  readonly peer: PeerId
  readonly name: HostName
  disk = new SimulatedDisk()
  state = new ClusterState()
  readonly fatal: Error[] = []
  readonly roleChanges: RoleChange[] = []
  readonly #options: MemoryHostOptions
  #life: Life | null = null
  #seed: string | null = null

  constructor(options: MemoryHostOptions) {
    this.#options = options
    this.peer = options.peer
    this.name = `h${options.n}` as HostName
  }

  get isUp(): boolean {
    return this.#life !== null
  }

  /** @throws when the host is down */
  get replicator(): Replicator {
    return this.#running.replicator
  }

  get mesh(): MemoryMesh {
    return this.#running.mesh
  }

  /** As Serf would list it. */
  get member(): Member {
    const { n, role, bootstrapExpect } = this.#options
    const clusterId = this.#life?.replicator.cluster.clusterId ?? null
    return {
      name: this.name,
      address: n as Ipv4,
      port: 7946,
      status: this.isUp ? 'alive' : 'failed',
      role,
      peerId: this.peer,
      vtep: n as Ipv4,
      p2pPort: 7000,
      protocol: 1,
      bootstrapExpect,
      ...(this.#seed === null ? {} : { seed: this.#seed }),
      ...(clusterId === null ? {} : { clusterId })
    }
  }

  get hostDisk(): HostDisk {
    return { dataDir: DATA_DIR, files: this.disk }
  }

  /** Starts from what is on the disk. */
  async start(): Promise<void> {
    const { peer, bootstrapExpect, network, members, random, snapshotBytes = 1024 * 1024 } = this.#options
    const clock = new HostClock(this.#options.clock)
    const mesh = network.join(peer)
    network.place(peer, this.member.address)
    const disk = this.hostDisk
    this.state = new ClusterState()
    const seed = await readSeed(disk)
    this.#seed = seed?.id ?? null
    const replicator = new Replicator({
      self: peer,
      mesh,
      disk,
      storage: await openStorage(DATA_DIR, peer, { clock: clock.clock, files: disk.files }),
      snapshotBytes,
      seed,
      bootstrapExpect,
      machine: {
        apply: (index, request) => this.state.apply(index, request),
        notes: () => [],
        noted: () => undefined,
        rules: () => this.state.rules,
        skip: index => this.state.skip(index),
        admit: (command, from) => whyNotAdmitted(this.state, command, { ...from, vteps: [] }),
        ...snapshotPart(() => this.state),
        applied: () => undefined
      },
      members,
      joinAddresses: () => [],
      joined: () => undefined,
      seedFetched: id => {
        this.#seed = id
      },
      roleChanged: change => this.roleChanges.push(change),
      fatal: err => this.fatal.push(err),
      clock: clock.clock,
      random,
      logger
    })
    this.#life = { clock, mesh, replicator }
    await replicator.start()
    replicator.cluster.membersChanged()
  }

  /** An orderly stop. */
  async stop(): Promise<void> {
    const { clock, mesh, replicator } = this.#running
    await replicator.stop()
    await mesh.stop()
    clock.kill()
    this.#life = null
  }

  /** A crash: only what is on the disk survives. */
  kill(): void {
    const { clock, mesh } = this.#running
    clock.kill()
    void mesh.stop()
    // Writes of the dead process go to the old copy.
    this.disk = this.disk.clone()
    this.#life = null
  }

  get #running(): Life {
    if (this.#life === null) throw new Error(`${this.name} is down`)
    return this.#life
  }
}
