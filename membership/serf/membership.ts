// Membership: a supervised Serf and the view of its members. Log lines only trigger a query, a periodic one repairs;
// the last view stays while Serf is away. Addresses of hosts that were seen are kept, so that a host finds back by
// itself after any length of absence.

import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { formatIpv4 } from '#model/ipv4.ts'
import type { Clock } from '#platform/clock.ts'
import { ensureDirectory, readIfExists, writeDurably } from '#platform/files.ts'
import type { Logger } from '#platform/log.ts'
import { readLogLine } from '../view/log-line.ts'
import { encodeTags, type AgentTags } from '../view/tags.ts'
import { EMPTY_VIEW, reduceView, type MemberChange, type MembershipView } from '../view/view.ts'
import { serfConfig, type SerfOptions } from './serf-config.ts'
import { SerfProcess } from './serf-process.ts'
import { SerfRpc } from './serf-rpc.ts'

const CHECK_MS = 1_000
const CONNECT_RETRY_MS = 50
/** How long Serf may take to answer after its start. */
const START_MS = 10_000
const REJOIN_MIN_MS = 1_000
const REJOIN_MAX_MS = 15_000
/** Addresses remembered for a rejoin. */
const MAX_REMEMBERED = 64

export type MembershipOptions = SerfOptions & {
  readonly binary: string
  readonly dataDir: string
  readonly clock: Clock
  readonly logger: Logger
}

export type MembershipUpdate = {
  readonly view: MembershipView
  readonly changes: readonly MemberChange[]
  /** No view was known before. */
  readonly first: boolean
}

export class Membership {
  readonly #options: MembershipOptions
  readonly #listeners = new Set<(update: MembershipUpdate) => void>()
  readonly #stopping = new AbortController()
  #tags: AgentTags
  #seeds: readonly string[]
  #dir = ''
  #launched: Promise<void> | null = null
  #started: Promise<void> = Promise.resolve()
  #process: SerfProcess | null = null
  #rpc: SerfRpc | null = null
  #view: MembershipView | null = null
  #querying = false
  #queryAgain = false
  #keeping: Promise<void> = Promise.resolve()
  #remembered = ''
  #rejoin = { atMs: 0, pauseMs: REJOIN_MIN_MS }

  constructor(options: MembershipOptions) {
    this.#options = options
    this.#tags = options.tags
    this.#seeds = options.join
  }

  /** Null until Serf was asked for the first time. */
  view(): MembershipView | null {
    return this.#view
  }

  get serfPid(): number | null {
    return this.#process?.pid ?? null
  }

  onChange(listener: (update: MembershipUpdate) => void): void {
    this.#listeners.add(listener)
  }

  /** Starts Serf, or takes over the one that runs. Resolves before it answers. @throws ERR_SERF, ERR_STORAGE */
  launch(): Promise<void> {
    return (this.#launched ??= this.#launch())
  }

  /** Resolves once the first view is there. @throws ERR_SERF, ERR_STORAGE */
  start(): Promise<void> {
    return (this.#started = this.#start())
  }

  /** What Serf says of itself, for doctor. @throws ERR_SERF */
  async stats(): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>> {
    return (await this.#connected()).stats()
  }

  /** Ends Serf without a leave: for the others this host fails, and its containers stay reachable. */
  async stop(): Promise<void> {
    await this.#endKeeping()
    await this.#process?.stop()
  }

  /** Leaves the mesh gracefully; Serf ends. @throws ERR_SERF */
  async leave(): Promise<void> {
    await (await this.#connected()).leave()
    await this.#endKeeping()
    await this.#process?.stop()
  }

  /** Joins through addresses; resolves to how many answered. @throws ERR_JOIN_FAILED with Serf's words, ERR_SERF */
  async join(addresses: readonly string[]): Promise<number> {
    const joined = await (await this.#connected()).join(addresses)
    this.#query()
    return joined
  }

  /** Other addresses from now on; a host that is alone tries them at once. @throws ERR_STORAGE; then nothing has changed */
  async setJoin(join: readonly string[]): Promise<void> {
    // The Serf that runs keeps its own list; the next one begins with this.
    await this.#process?.rewriteConfig(this.#config(join))
    this.#seeds = join
    this.#rejoin = { atMs: 0, pauseMs: REJOIN_MIN_MS }
  }

  /** Changes tags of this host; the others hear of it by gossip. */
  async setTags(change: Partial<AgentTags>): Promise<void> {
    this.#tags = { ...this.#tags, ...change }
    await this.#process?.rewriteConfig(this.#config())
    await this.#rpc?.setTags(encodeTags(this.#tags))
    this.#query()
  }

  #config(join = this.#seeds): string {
    return serfConfig({ ...this.#options, tags: this.#tags, join }, this.#dir)
  }

  async #launch(): Promise<void> {
    const { clock, dataDir, binary, name, logger } = this.#options
    this.#dir = await ensureDirectory(dataDir, 'serf')
    this.#process = new SerfProcess({
      binary,
      dir: this.#dir,
      config: this.#config(),
      answering: () => this.#answering(),
      name,
      clock,
      logger
    })
    await this.#process.start()
  }

  async #start(): Promise<void> {
    await this.launch()
    await this.#connect(this.#options.clock.nowMs() + START_MS)
    this.#keeping = this.#keep()
  }

  /** Who asks while Serf is starting waits for it. */
  async #connected(): Promise<SerfRpc> {
    await this.#started
    if (this.#rpc === null) throw new VxmeshError('ERR_SERF', 'serf is not running; it is being restarted')
    return this.#rpc
  }

  /** The name of whatever Serf answers on the RPC port. */
  async #answering(): Promise<string | null> {
    try {
      const rpc = await SerfRpc.open({ port: this.#options.rpcPort, clock: this.#options.clock })
      try {
        return (await rpc.stats())['agent']?.['name'] ?? ''
      } finally {
        rpc.close()
      }
    } catch {
      return null
    }
  }

  /** Connects, listens and takes the first list. Serf may have just been started. */
  async #connect(until: number): Promise<void> {
    for (;;) {
      let opened: SerfRpc | null = null
      try {
        const rpc = await SerfRpc.open({
          port: this.#options.rpcPort,
          clock: this.#options.clock,
          // Also called when it ends while it is being opened.
          closed: () => {
            if (this.#rpc === opened) this.#rpc = null
          }
        })
        this.#rpc = opened = rpc
        await rpc.monitor(line => {
          if (readLogLine(line) !== null) this.#query()
        })
        const records = await rpc.members()
        this.#take(records)
        // Serf answers only when it has gossiped them: not for what it was started with.
        if (!this.#tellsOurTags(records)) await rpc.setTags(encodeTags(this.#tags))
        return
      } catch (err) {
        opened?.close()
        this.#rpc = null
        if (this.#options.clock.nowMs() >= until) throw err
        if (!(await this.#options.clock.sleep(CONNECT_RETRY_MS, this.#stopping.signal))) throw err
      }
    }
  }

  #tellsOurTags(records: readonly unknown[]): boolean {
    const own = (records as readonly { Name?: unknown; Tags?: object }[]).find(r => r.Name === this.#options.name)
    return isDeepStrictEqual({ ...own?.Tags }, encodeTags(this.#tags))
  }

  /** The periodic part: reconnects, asks again, rejoins when alone. */
  async #keep(): Promise<void> {
    const { signal } = this.#stopping
    while (await this.#options.clock.sleep(CHECK_MS, signal)) {
      try {
        if (this.#rpc === null) await this.#connect(this.#options.clock.nowMs())
        else this.#query()
        await this.#rejoinIfAlone()
        await this.#remember()
      } catch (err) {
        this.#options.logger.debug({ err: asVxmeshError(err) }, 'serf is not answering')
      }
    }
  }

  async #endKeeping(): Promise<void> {
    this.#stopping.abort()
    await Promise.allSettled([this.#launched, this.#started])
    await this.#keeping
    this.#rpc?.close()
    this.#rpc = null
  }

  /** Asks for the members now; calls while one is under way make one more. */
  #query(): void {
    if (this.#querying) {
      this.#queryAgain = true
      return
    }
    const rpc = this.#rpc
    if (rpc === null) return
    this.#querying = true
    rpc
      .members()
      .then(records => this.#take(records))
      .catch((err: unknown) => this.#options.logger.debug({ err: asVxmeshError(err) }, 'members not read'))
      .finally(() => {
        this.#querying = false
        if (!this.#queryAgain) return
        this.#queryAgain = false
        this.#query()
      })
  }

  #take(records: readonly unknown[]): void {
    const { view, changes } = reduceView(this.#view ?? EMPTY_VIEW, records)
    const first = this.#view === null
    if (view === this.#view) return
    this.#view = view
    for (const change of changes) {
      const { name, peerId } = change.kind === 'vanished' ? change.before : change.after
      this.#options.logger.info({ name, peerId, kind: change.kind }, 'membership changed')
    }
    if (changes.length === 0 && !first) return
    for (const listener of this.#listeners) listener({ view, changes, first })
  }

  /** Serf gives up on failed members after a day; we do not. */
  async #rejoinIfAlone(): Promise<void> {
    const others = this.#view?.members.filter(m => m.peerId !== this.#tags.peerId) ?? []
    if (others.some(m => m.status === 'alive')) {
      this.#rejoin = { atMs: 0, pauseMs: REJOIN_MIN_MS }
      return
    }
    const addresses = new Set([...this.#seeds, ...(await this.#readRemembered())])
    if (addresses.size === 0 || this.#options.clock.nowMs() < this.#rejoin.atMs || this.#rpc === null) return
    const { pauseMs } = this.#rejoin
    this.#rejoin = { atMs: this.#options.clock.nowMs() + pauseMs, pauseMs: Math.min(pauseMs * 2, REJOIN_MAX_MS) }
    await this.#rpc.join([...addresses])
  }

  async #readRemembered(): Promise<readonly string[]> {
    const text = (await readIfExists(join(this.#dir, 'peers.json')))?.toString() ?? '[]'
    try {
      const parsed: unknown = JSON.parse(text)
      return Array.isArray(parsed) ? parsed.filter(item => typeof item === 'string') : []
    } catch {
      return []
    }
  }

  async #remember(): Promise<void> {
    const others = this.#view?.members.filter(m => m.peerId !== this.#tags.peerId && m.status === 'alive') ?? []
    const text = JSON.stringify(others.slice(0, MAX_REMEMBERED).map(m => `${formatIpv4(m.address)}:${m.port}`))
    if (others.length === 0 || text === this.#remembered) return
    await writeDurably(join(this.#dir, 'peers.json'), text)
    this.#remembered = text
  }
}
