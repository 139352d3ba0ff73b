// Which cluster a host belongs to: the one on its disk, one that it founds with others, or one that it meets.

import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Logger } from '#platform/log.ts'
import { allAgree, askOrigin, decideBootstrap, originOf, serveBootstrap, type BootstrapDecision } from './bootstrap.ts'
import { drawIncarnation, readIncarnation } from './incarnation.ts'
import type { Rpc } from './rpc.ts'
import type { Storage } from './storage.ts'
import type { Origin } from './wal-record.ts'

export type BelongingOptions = {
  readonly self: PeerId
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  readonly dataDir: string
  readonly storage: Storage
  readonly rpc: Rpc
  readonly members: () => readonly Member[]
  /** The host belongs, and durably so: it takes its place. */
  readonly belongs: (origin: Origin) => Promise<void>
  readonly stopping: AbortSignal
  readonly fatal: (err: Error) => void
  readonly logger: Logger
}

type How = 'recovered' | 'founded' | 'adopted'

export class Belonging {
  readonly #options: BelongingOptions
  #origin: Origin | null
  #incarnation: number | null = null
  #deciding = false
  /** The voters with whom this process would have founded a cluster; what others were told when they asked. */
  #wouldFound: string | null = null

  constructor(options: BelongingOptions) {
    this.#options = options
    this.#origin = options.storage.recovered.origin
  }

  get origin(): Origin | null {
    return this.#origin
  }

  /** Of this host's disk (Configuration.incarnations); null before it belongs anywhere. */
  get incarnation(): number | null {
    return this.#incarnation
  }

  /** Answers others; to be called before `start`. */
  serve(): void {
    serveBootstrap(this.#options.rpc, { decision: () => this.#decision(), origin: () => this.#origin })
  }

  async start(): Promise<void> {
    if (this.#origin !== null) await this.#belong(this.#origin, 'recovered')
  }

  /** Looks whether there is a cluster now. */
  check(): void {
    if (this.#origin === null && !this.#deciding) void this.#decide()
  }

  #decision(): BootstrapDecision {
    const { self, bootstrapExpect: expect } = this.#options
    const decision = decideBootstrap({ self, expect, members: this.#options.members() })
    if (decision.kind === 'agree') this.#wouldFound = decision.voters.join()
    return decision
  }

  /** One of the founders may have been faster: this disk is a founder's all the same, if it said that it would be. */
  #joins({ configuration }: Origin): How {
    return this.#wouldFound === configuration.voters.join() ? 'founded' : 'adopted'
  }

  async #decide(): Promise<void> {
    const { rpc, self, fatal, logger } = this.#options
    this.#deciding = true
    try {
      const decision = this.#decision()
      if (decision.kind === 'adopt') {
        const origin = await askOrigin(rpc, decision.from)
        await this.#belong(origin, this.#joins(origin))
      } else if (decision.kind === 'agree' && (await allAgree(rpc, self, decision.voters))) {
        await this.#belong(originOf(decision.voters), 'founded')
      }
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      if (err.code === 'ERR_STORAGE') fatal(err)
      else logger.debug({ err }, 'no cluster yet')
    } finally {
      this.#deciding = false
    }
  }

  async #belong(origin: Origin, how: How): Promise<void> {
    const { belongs, logger, stopping, storage } = this.#options
    storage.snapshots.belong(origin.clusterId)
    // Before the origin: a disk that joined without a number would pass for a founder's.
    this.#incarnation = await this.#incarnationFor(origin, how)
    if (how !== 'recovered') await storage.wal.append([{ kind: 'origin', origin }])
    if (stopping.aborted) return
    this.#origin = origin
    logger.info({ cluster: origin.clusterId, how }, 'belongs to a cluster')
    await belongs(origin)
  }

  async #incarnationFor(origin: Origin, how: How): Promise<number> {
    const { dataDir, self } = this.#options
    if (how === 'founded') return 0
    if (how === 'adopted') return drawIncarnation(dataDir)
    const known = await readIncarnation(dataDir)
    return known ?? (origin.configuration.voters.includes(self) ? 0 : await drawIncarnation(dataDir))
  }
}
