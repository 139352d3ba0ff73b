// Which cluster this host belongs to: the one on its disk, one that it founds with others, or an existing one that it joins.

import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Random } from '#platform/random.ts'
import {
  allAgree,
  askOrigin,
  decideBootstrap,
  foundingOrigin,
  serveBootstrap,
  type BootstrapDecision
} from './bootstrap.ts'
import type { HostDisk } from '../storage/host-disk.ts'
import { drawIncarnation, readIncarnation } from '../storage/incarnation.ts'
import { FoundingIntent } from './founding-intent.ts'
import type { Rpc } from '../transport/rpc.ts'
import { installRestore, downloadSeed, type Seed } from './seed.ts'
import type { Storage } from '../storage/storage.ts'
import type { Origin } from '../storage/wal-record.ts'

export type AdoptionOptions = {
  readonly self: PeerId
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  readonly disk: HostDisk
  readonly storage: Storage
  /** A restored backup whose cluster is not founded yet. */
  readonly seed: Seed | null
  readonly rpc: Rpc
  readonly members: () => readonly Member[]
  /** The host durably belongs to a cluster; `storage` is the one that is open now. */
  readonly joined: (origin: Origin, storage: Storage) => Promise<void>
  /** This host has fetched the restored backup of another founder. */
  readonly seedFetched: (id: string) => void
  readonly stopping: AbortSignal
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

type How = 'recovered' | 'founded' | 'adopted'

export class ClusterAdoption {
  readonly #options: AdoptionOptions
  #origin: Origin | null
  #incarnation: number | null = null
  #deciding = false
  readonly #intent: FoundingIntent
  #seed: Seed | null
  #obstacle: string | null = null

  constructor(options: AdoptionOptions) {
    this.#options = options
    this.#seed = options.seed
    this.#intent = new FoundingIntent(options.disk)
    this.#origin = options.storage.recovered.origin
  }

  get origin(): Origin | null {
    return this.#origin
  }

  /** Of this host's disk (Configuration.incarnations); null before it belongs to a cluster. */
  get incarnation(): number | null {
    return this.#incarnation
  }

  /** The restored backup, for other founders; null without one, and once its cluster is founded. */
  get seed(): Seed | null {
    return this.#seed
  }

  /** Why this host belongs to no cluster yet. */
  get obstacle(): string | null {
    return this.#obstacle
  }

  /** Answers others; to be called before `start`. */
  serve(): void {
    const { rpc } = this.#options
    serveBootstrap(rpc, {
      decision: () => this.#decision(),
      origin: () => this.#origin,
      recordIntent: clusterId => this.#intent.record(clusterId)
    })
  }

  /** @throws ERR_STORAGE */
  async start(): Promise<void> {
    await this.#intent.load()
    if (this.#origin !== null) await this.#join(this.#origin, 'recovered')
  }

  /** Checks whether there is a cluster to found or to join now. */
  check(): void {
    if (this.#origin === null && !this.#deciding) void this.#decide()
  }

  #decision(): BootstrapDecision {
    const { self, bootstrapExpect: expect } = this.#options
    return decideBootstrap({ self, expect, members: this.#options.members(), seed: this.#seed?.id ?? null })
  }

  /**
   * Joins a cluster that another founder has already started. This host still counts as a founder if it recorded its
   * intent.
   * @throws ERR_BUSY when this host holds a restored backup and the cluster did not start from it
   */
  #howToJoin({ clusterId, configuration }: Origin): How {
    if (this.#intent.recorded === clusterId) return 'founded'
    if (this.#seed === null || foundingOrigin(configuration.voters, this.#seed.id).clusterId === clusterId)
      return 'adopted'
    const what = `cluster ${clusterId} is in sight, and it did not start from the backup that was restored here`
    throw new VxmeshError('ERR_BUSY', `${what}: stop its agents, or remove restore.snap from this host to join it`)
  }

  async #decide(): Promise<void> {
    const { rpc, self, fatal, logger } = this.#options
    this.#deciding = true
    try {
      const decision = this.#decision()
      if (decision.kind === 'wait') this.#setObstacle(decision.why)
      else if (decision.kind === 'fetch') await this.#fetchSeed(decision)
      else if (decision.kind === 'adopt') {
        const origin = await askOrigin(rpc, decision.from)
        await this.#join(origin, this.#howToJoin(origin))
      } else {
        const origin = foundingOrigin(decision.voters, decision.seed)
        if (await allAgree(rpc, self, origin)) await this.#join(origin, 'founded')
        else this.#setObstacle('the other servers do not all see the same yet')
      }
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      this.#setObstacle(err.message)
      if (err.code === 'ERR_STORAGE') fatal(err)
      else logger.debug({ err }, 'no cluster yet')
    } finally {
      this.#deciding = false
    }
  }

  #setObstacle(why: string): void {
    if (why !== this.#obstacle) this.#options.logger.info({ why }, 'belongs to no cluster yet')
    this.#obstacle = why
  }

  async #fetchSeed({ seed, from }: Extract<BootstrapDecision, { readonly kind: 'fetch' }>): Promise<void> {
    const { disk, seedFetched, logger, rpc, stopping } = this.#options
    this.#seed = await downloadSeed(rpc, { peers: from, id: seed, disk, signal: stopping })
    logger.info({ seed }, 'fetched the restored backup')
    seedFetched(seed)
  }

  async #join(origin: Origin, how: How): Promise<void> {
    const { joined, logger, stopping, storage } = this.#options
    storage.snapshots.belong(origin.clusterId)
    // Drawn before the origin is written: without a number the disk would pass for a founder's.
    this.#incarnation = await this.#incarnationFor(origin, how)
    if (how !== 'recovered') {
      // Terms continue after the backup's: an entry of an earlier term would not count as newer than the backup.
      const term = how === 'founded' ? this.#seed?.snapshot.meta.lastTerm : undefined
      const first = term === undefined ? [] : [{ kind: 'hard-state' as const, hardState: { term, votedFor: null } }]
      await storage.wal.append([{ kind: 'origin', origin }, ...first])
    }
    await this.#intent.clear()
    const opened = await this.#installRestore(origin, this.#incarnation === 0)
    if (stopping.aborted) return
    this.#origin = origin
    this.#obstacle = null
    logger.info({ cluster: origin.clusterId, how }, 'belongs to a cluster')
    await joined(origin, opened)
  }

  /** Starts a founder's log after the restored backup. @returns the storage that is open now */
  async #installRestore(origin: Origin, founder: boolean): Promise<Storage> {
    const { clock, disk, self, storage } = this.#options
    if (this.#seed === null) return storage
    const opened = await installRestore(this.#seed, { clock, storage, origin, founder, disk, self })
    this.#seed = null
    return opened
  }

  async #incarnationFor(origin: Origin, how: How): Promise<number> {
    const { disk, random, self } = this.#options
    if (how === 'founded') return 0
    if (how === 'adopted') return drawIncarnation(disk, random)
    const known = await readIncarnation(disk)
    return known ?? (origin.configuration.voters.includes(self) ? 0 : await drawIncarnation(disk, random))
  }
}
