// Membership: a supervised Serf process and the view of its members. A log line of Serf only triggers a query, and a
// periodic query catches what was missed. The last view stays valid while Serf is down.

import { isDeepStrictEqual } from 'node:util'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Clock } from '#platform/clock.ts'
import { ensureDirectory } from '#platform/files.ts'
import type { Logger } from '#platform/log.ts'
import type { Random } from '#platform/random.ts'
import { memberInLine, readLogLine } from '../view/log-line.ts'
import { encodeTags, type AgentTags } from '../view/tags.ts'
import { EMPTY_VIEW, patchView, reduceView, type MemberChange, type MembershipView } from '../view/view.ts'
import { Rejoin } from './rejoin.ts'
import { serfConfig, type SerfOptions } from './serf-config.ts'
import { SerfLog } from './serf-log.ts'
import { SerfProcess } from './serf-process.ts'
import { SerfRpc } from './serf-rpc.ts'

const CHECK_MS = 1_000
const CONNECT_RETRY_MS = 50
/** Members queried by name at once; from more changes on, all are queried. */
const MAX_NAMED = 32
/** Time for Serf to accept a connection after its start. */
const START_MS = 10_000

export type MembershipOptions = SerfOptions & {
  readonly binary: string
  readonly dataDir: string
  readonly clock: Clock
  readonly random: Random
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
  #launching: Promise<void> | null = null
  #starting: Promise<void> = Promise.resolve()
  #process: SerfProcess | null = null
  #log: SerfLog | null = null
  #rpc: SerfRpc | null = null
  #view: MembershipView | null = null
  #querying = false
  /** What is to be queried next: all members, or those of these names. */
  #toQuery: 'all' | Set<string> | null = null
  #keeper: Promise<void> = Promise.resolve()
  #rejoin: Rejoin | null = null
  #rejoining: Promise<void> | null = null

  constructor(options: MembershipOptions) {
    this.#options = options
    this.#tags = options.tags
    this.#seeds = options.join
  }

  /** Null until the first query succeeds. */
  view(): MembershipView | null {
    return this.#view
  }

  get serfPid(): number | null {
    return this.#process?.pid ?? null
  }

  /** Bytes of Serf's log dropped since the start; see SerfLog. */
  get logDroppedBytes(): number {
    return this.#log?.droppedBytes ?? 0
  }

  onChange(listener: (update: MembershipUpdate) => void): void {
    this.#listeners.add(listener)
  }

  /** Starts Serf, or adopts a running one. Resolves before it accepts connections. @throws ERR_SERF, ERR_STORAGE */
  launch(): Promise<void> {
    return (this.#launching ??= this.#launch())
  }

  /** Launches Serf if necessary, and resolves with the first view known. @throws ERR_SERF, ERR_STORAGE */
  start(): Promise<void> {
    return (this.#starting = this.#start())
  }

  /** Serf's statistics, for doctor. @throws ERR_SERF */
  async stats(): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>> {
    return (await this.#connected()).stats()
  }

  /** Stops Serf without a leave: the other hosts see this one as failed, and its containers stay reachable. */
  async stop(): Promise<void> {
    await this.#stopKeeping()
    await this.#process?.stop()
  }

  /** Leaves the cluster gracefully and stops Serf. @throws ERR_SERF */
  async leave(): Promise<void> {
    await (await this.#connected()).leave()
    await this.#stopKeeping()
    await this.#process?.stop()
  }

  /** Joins through addresses. @returns how many were joined @throws ERR_JOIN_FAILED with Serf's message, ERR_SERF */
  async join(addresses: readonly string[]): Promise<number> {
    const joined = await (await this.#connected()).join(addresses)
    this.#query()
    return joined
  }

  /** Replaces the join addresses; a host without live peers tries them at once. @throws ERR_STORAGE, with nothing changed */
  async setJoin(join: readonly string[]): Promise<void> {
    // The running Serf keeps its list; the next one reads this file.
    await this.#process?.rewriteConfig(this.#config(join))
    this.#seeds = join
    this.#rejoin?.reset()
  }

  /** Changes tags of this host; gossip spreads them. */
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
    const { clock, dataDir, binary, name, random, logger } = this.#options
    this.#dir = await ensureDirectory(dataDir, 'serf')
    this.#rejoin = new Rejoin({ self: this.#tags.peerId, dir: this.#dir, clock, random })
    this.#log = new SerfLog({ dir: this.#dir, clock, logger })
    this.#process = new SerfProcess({
      binary,
      log: this.#log,
      dir: this.#dir,
      config: this.#config(),
      nameOfServing: () => this.#nameOfServing(),
      name,
      clock,
      logger
    })
    await this.#process.start()
    this.#log.start()
  }

  async #start(): Promise<void> {
    await this.launch()
    await this.#connect(this.#options.clock.nowMs() + START_MS)
    this.#keeper = this.#keep()
  }

  /** The connection to Serf; waits while Serf is starting. @throws ERR_SERF */
  async #connected(): Promise<SerfRpc> {
    await this.#starting
    if (this.#rpc === null) throw new VxmeshError('ERR_SERF', 'serf is not running; it is being restarted')
    return this.#rpc
  }

  /** The node name of the Serf that serves the RPC port, or null when none does. */
  async #nameOfServing(): Promise<string | null> {
    try {
      return await this.#onOwnConnection(async rpc => (await rpc.stats())['agent']?.['name'] ?? '')
    } catch {
      return null
    }
  }

  /** Serf answers the requests of one connection one after the other. Ends with this membership. @throws ERR_SERF */
  async #onOwnConnection<T>(ask: (rpc: SerfRpc) => Promise<T>): Promise<T> {
    const { rpcPort, rpcAuth, clock } = this.#options
    const { signal } = this.#stopping
    const rpc = await SerfRpc.open({ port: rpcPort, auth: rpcAuth, clock })
    const close = (): void => rpc.close()
    signal.addEventListener('abort', close)
    try {
      if (signal.aborted) close()
      return await ask(rpc)
    } finally {
      signal.removeEventListener('abort', close)
      close()
    }
  }

  /** Connects, subscribes to the log and queries the members. Retries until `untilMs`, since Serf may be starting. */
  async #connect(untilMs: number): Promise<void> {
    for (;;) {
      let opened: SerfRpc | null = null
      try {
        const rpc = await SerfRpc.open({
          port: this.#options.rpcPort,
          auth: this.#options.rpcAuth,
          clock: this.#options.clock,
          // May be called before `open` has returned.
          closed: () => {
            if (this.#rpc === opened) this.#rpc = null
          }
        })
        this.#rpc = opened = rpc
        await rpc.monitor(line => {
          if (readLogLine(line) !== null) this.#query(memberInLine(line))
        })
        const records = await rpc.members()
        this.#update(records)
        // Setting tags waits for gossip, so it is skipped when Serf was started with these tags.
        if (!this.#hasOurTags(records)) await rpc.setTags(encodeTags(this.#tags))
        return
      } catch (err) {
        opened?.close()
        this.#rpc = null
        if (this.#options.clock.nowMs() >= untilMs) throw err
        if (!(await this.#options.clock.sleep(CONNECT_RETRY_MS, this.#stopping.signal))) throw err
      }
    }
  }

  #hasOurTags(records: readonly unknown[]): boolean {
    const own = (records as readonly { Name?: unknown; Tags?: object }[]).find(r => r.Name === this.#options.name)
    return isDeepStrictEqual({ ...own?.Tags }, encodeTags(this.#tags))
  }

  /** Periodically reconnects, queries the members, and rejoins the peers that are missing. */
  async #keep(): Promise<void> {
    const { signal } = this.#stopping
    while (await this.#options.clock.sleep(CHECK_MS, signal)) {
      try {
        if (this.#rpc === null) await this.#connect(this.#options.clock.nowMs())
        else this.#query()
        await this.#rejoinMissing()
      } catch (err) {
        this.#options.logger.debug({ err: asVxmeshError(err) }, 'serf is not responding')
      }
    }
  }

  async #stopKeeping(): Promise<void> {
    this.#stopping.abort()
    await Promise.allSettled([this.#launching, this.#starting])
    await this.#keeper
    await this.#rejoining
    await this.#log?.stop()
    this.#rpc?.close()
    this.#rpc = null
  }

  /** Queries the member of this name, or all, now; calls during a query in flight cause one more. */
  #query(name: string | null = null): void {
    if (name === null) this.#toQuery = 'all'
    else if (this.#toQuery !== 'all') {
      this.#toQuery = (this.#toQuery ?? new Set()).add(name)
      if (this.#toQuery.size > MAX_NAMED) this.#toQuery = 'all'
    }
    if (!this.#querying) this.#queryNext()
  }

  #queryNext(): void {
    const [rpc, names] = [this.#rpc, this.#toQuery]
    this.#toQuery = null
    if (rpc === null || names === null) return
    this.#querying = true
    const queried =
      names === 'all'
        ? rpc.members().then(records => this.#update(records))
        : rpc.membersNamed(names).then(records => this.#patch(names, records))
    queried
      .catch((err: unknown) => this.#options.logger.debug({ err: asVxmeshError(err) }, 'member query failed'))
      .finally(() => {
        this.#querying = false
        this.#queryNext()
      })
  }

  #patch(names: ReadonlySet<string>, records: readonly unknown[]): void {
    const patched = this.#view === null ? null : patchView(this.#view, names, records)
    if (patched === null) this.#query()
    else this.#adopt(patched)
  }

  #update(records: readonly unknown[]): void {
    this.#adopt(reduceView(this.#view ?? EMPTY_VIEW, records))
  }

  #adopt({ view, changes }: ReturnType<typeof reduceView>): void {
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

  /** A host without a live peer waits for its attempt; other attempts run beside the queries. */
  async #rejoinMissing(): Promise<void> {
    const members = this.#view?.members
    if (members === undefined || this.#rejoin === null || this.#rpc === null || this.#rejoining !== null) return
    await this.#rejoin.remember(members)
    const attempt = await this.#rejoin.next(members, this.#seeds)
    if (attempt === null) return
    const joining = this.#onOwnConnection(rpc => rpc.join(attempt.addresses)).then(
      () => this.#query(),
      (err: unknown) => this.#options.logger.debug({ err: asVxmeshError(err), ...attempt }, 'peers are not reachable')
    )
    this.#rejoining = joining.finally(() => (this.#rejoining = null))
    if (attempt.alone) await this.#rejoining
  }
}
