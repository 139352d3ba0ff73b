// Which cluster a host belongs to: the one on its disk, one that it founds with others, or one that it meets.

import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import {
  allAgree,
  askOrigin,
  decideBootstrap,
  foundingOrigin,
  serveBootstrap,
  type BootstrapDecision
} from './bootstrap.ts'
import { drawIncarnation, readIncarnation } from '../storage/incarnation.ts'
import { FoundingIntent } from './founding-intent.ts'
import type { Rpc } from '../transport/rpc.ts'
import { installRestore, serveSeed, takeSeed, type Seed } from './seed.ts'
import type { Storage } from '../storage/storage.ts'
import type { Origin } from '../storage/wal-record.ts'

export type BelongingOptions = {
  readonly self: PeerId
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  readonly clock: Clock
  readonly dataDir: string
  readonly storage: Storage
  /** A restored backup that waits for its cluster. */
  readonly seed: Seed | null
  readonly rpc: Rpc
  readonly members: () => readonly Member[]
  /** The host belongs, and durably so: it takes its place, with the storage that is open now. */
  readonly belongs: (origin: Origin, storage: Storage) => Promise<void>
  /** This host has got the restored backup of others. */
  readonly holdsSeed: (id: string) => void
  readonly stopping: AbortSignal
  readonly fatal: (err: Error) => void
  readonly logger: Logger
}

type How = 'recovered' | 'founded' | 'adopted'

export class ClusterAdoption {
  readonly #options: BelongingOptions
  #origin: Origin | null
  #incarnation: number | null = null
  #deciding = false
  /** What others were told when they asked. */
  readonly #pledge: FoundingIntent
  #seed: Seed | null
  #waitsFor: string | null = null

  constructor(options: BelongingOptions) {
    this.#options = options
    this.#seed = options.seed
    this.#pledge = new FoundingIntent(options.dataDir)
    this.#origin = options.storage.recovered.origin
  }

  get origin(): Origin | null {
    return this.#origin
  }

  /** Of this host's disk (Configuration.incarnations); null before it belongs anywhere. */
  get incarnation(): number | null {
    return this.#incarnation
  }

  /** Why this host belongs to no cluster yet. */
  get waitsFor(): string | null {
    return this.#waitsFor
  }

  /** Answers others; to be called before `start`. */
  serve(): void {
    const { rpc } = this.#options
    serveBootstrap(rpc, {
      decision: () => this.#decision(),
      origin: () => this.#origin,
      pledge: clusterId => this.#pledge.record(clusterId)
    })
    serveSeed(rpc, () => this.#seed)
  }

  /** @throws ERR_STORAGE */
  async start(): Promise<void> {
    await this.#pledge.load()
    if (this.#origin !== null) await this.#belong(this.#origin, 'recovered')
  }

  /** Looks whether there is a cluster now. */
  check(): void {
    if (this.#origin === null && !this.#deciding) void this.#decide()
  }

  #decision(): BootstrapDecision {
    const { self, bootstrapExpect: expect } = this.#options
    return decideBootstrap({ self, expect, members: this.#options.members(), seed: this.#seed?.id ?? null })
  }

  /**
   * One of the founders may have been faster: this disk is a founder's all the same, if it said that it would be.
   * @throws ERR_BUSY when this host holds a restored backup and the cluster did not begin with it
   */
  #joins({ clusterId, configuration }: Origin): How {
    if (this.#pledge.recorded === clusterId) return 'founded'
    if (this.#seed === null || foundingOrigin(configuration.voters, this.#seed.id).clusterId === clusterId)
      return 'adopted'
    const what = `cluster ${clusterId} is in sight, and it did not begin with the backup that was restored here`
    throw new VxmeshError('ERR_BUSY', `${what}: end its agents, or remove restore.snap from this host to join it`)
  }

  async #decide(): Promise<void> {
    const { rpc, self, fatal, logger } = this.#options
    this.#deciding = true
    try {
      const decision = this.#decision()
      if (decision.kind === 'wait') this.#wait(decision.why)
      else if (decision.kind === 'fetch') await this.#takeSeed(decision)
      else if (decision.kind === 'adopt') {
        const origin = await askOrigin(rpc, decision.from)
        await this.#belong(origin, this.#joins(origin))
      } else {
        const origin = foundingOrigin(decision.voters, decision.seed)
        if (await allAgree(rpc, self, origin)) await this.#belong(origin, 'founded')
        else this.#wait('the other servers do not all see the same yet')
      }
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      this.#wait(err.message)
      if (err.code === 'ERR_STORAGE') fatal(err)
      else logger.debug({ err }, 'no cluster yet')
    } finally {
      this.#deciding = false
    }
  }

  #wait(why: string): void {
    if (why !== this.#waitsFor) this.#options.logger.info({ why }, 'belongs to no cluster yet')
    this.#waitsFor = why
  }

  async #takeSeed({ seed, from }: Extract<BootstrapDecision, { readonly kind: 'fetch' }>): Promise<void> {
    const { dataDir, holdsSeed, logger, rpc } = this.#options
    const [peer] = from
    if (peer === undefined) return
    this.#seed = await takeSeed(rpc, { peer, id: seed, dataDir })
    logger.info({ seed, peer }, 'has got the restored backup')
    holdsSeed(seed)
  }

  async #belong(origin: Origin, how: How): Promise<void> {
    const { belongs, logger, stopping, storage } = this.#options
    storage.snapshots.belong(origin.clusterId)
    // Before the origin: a disk that joined without a number would pass for a founder's.
    this.#incarnation = await this.#incarnationFor(origin, how)
    if (how !== 'recovered') {
      // Terms go on after that of the backup: an entry of an earlier one would not count as newer than it.
      const term = how === 'founded' ? this.#seed?.snapshot.meta.lastTerm : undefined
      const first = term === undefined ? [] : [{ kind: 'hard-state' as const, hardState: { term, votedFor: null } }]
      await storage.wal.append([{ kind: 'origin', origin }, ...first])
    }
    await this.#pledge.clear()
    const opened = await this.#plantSeed(origin, this.#incarnation === 0)
    if (stopping.aborted) return
    this.#origin = origin
    this.#waitsFor = null
    logger.info({ cluster: origin.clusterId, how }, 'belongs to a cluster')
    await belongs(origin, opened)
  }

  /** A founder's log begins after the restored backup. @returns the storage that is open then */
  async #plantSeed(origin: Origin, founder: boolean): Promise<Storage> {
    const { clock, dataDir, self, storage } = this.#options
    if (this.#seed === null) return storage
    const opened = await installRestore(this.#seed, { clock, storage, origin, founder, dataDir, self })
    this.#seed = null
    return opened
  }

  async #incarnationFor(origin: Origin, how: How): Promise<number> {
    const { dataDir, self } = this.#options
    if (how === 'founded') return 0
    if (how === 'adopted') return drawIncarnation(dataDir)
    const known = await readIncarnation(dataDir)
    return known ?? (origin.configuration.voters.includes(self) ? 0 : await drawIncarnation(dataDir))
  }
}
