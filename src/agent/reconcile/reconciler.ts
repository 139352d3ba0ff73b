// The loop that keeps this host's kernel in the desired state. An event wakes it for the networks that it concerns; a
// full pass every 30 s, and after changes of unknown scope, repairs the rest. The only writer to the kernel.

import { hostRoutedSubnets } from '#model/addresses.ts'
import type { EndpointKey } from '#model/endpoint.ts'
import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { runPass, type Part, type PartReport } from '#overlay/pass.ts'
import type { DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import { desired, type DesiredHost, type DesiredInput } from '#overlay/plan/network/desired.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { Serial } from '#platform/serial.ts'
import { Drift, type PassRecord } from './drift.ts'
import { logReports } from './log-reports.ts'
import { addProblem, isEgress, problemsOf, scopeOf, type ProblemsByScope } from './pass-problems.ts'
import { RetryState, type Scope } from './retry-state.ts'
import { Schedule, type Turn } from './schedule.ts'

/** How often it is checked whether something may be removed that was left out. */
const REMOVALS_MS = 250

/** `pending`: an attach or detach of the endpoint is in flight. */
export type Restored = 'restored' | 'pending' | VxmeshError

export type ReconcilerOptions = {
  readonly driver: Pick<OverlayDriver, 'parts'>
  readonly clock: Clock
  /** The current inputs of the desired state, for all networks or for one. */
  readonly input: (scope?: Vni) => DesiredInput
  /** The network with a VNI. Its object is replaced whenever anything of it changes. */
  readonly network: (vni: Vni) => Network | undefined
  /** The routers of all networks. */
  readonly gateways: () => DesiredGateways
  /** May anything be removed? False while the state may be older than one this host has already acted on. */
  readonly mayRemove: () => boolean
  /** Before a full pass: reads what it depends on besides the state. */
  readonly before: () => Promise<void>
  /** After a full pass (null), or one over a network. */
  readonly after: (vni: Vni | null) => Promise<void>
  /** Is an attach or detach of this endpoint in flight? */
  readonly inFlight: (endpoint: EndpointKey) => boolean
  /** Attaches a local endpoint again whose interface is gone. Never rejects. */
  readonly restore: (endpoint: EndpointKey) => Promise<Restored>
  /** Called after each pass of the loop, whether it failed or not. */
  readonly passed?: (scope: 'full' | 'network', ms: number) => void
  readonly logger: Logger
}

export type OverlayStatus = {
  /** Differences that the last passes have left. */
  readonly drift: number
  /** The causes, one line each. */
  readonly degraded: readonly string[]
  /** Repaired changes of others since the agent started, by kind of op. */
  readonly repaired: Readonly<Record<string, number>>
}

export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #clock: Clock
  readonly #kernel = new Serial()
  readonly #retry = new RetryState()
  readonly #schedule = new Schedule()
  readonly #drift: Drift
  #loop: 'idle' | 'running' | 'stopped' = 'idle'
  #cancelTimer: Cancel = () => undefined
  /** Must everything be looked at again once something may be removed? The last full pass left that out. */
  #removalsWait = true
  #lastPassMs: number
  #lastFullPassMs: number | null = null

  constructor(options: ReconcilerOptions) {
    this.#options = options
    this.#clock = options.clock
    this.#drift = new Drift(options.logger)
    this.#lastPassMs = this.#clock.nowMs()
  }

  status(): OverlayStatus {
    return { drift: this.#retry.left, degraded: this.#retry.why(), repaired: this.#drift.repaired }
  }

  /** Time since a pass last ended, well or not; far more than the full pass interval means that the loop hangs. */
  get silentMs(): number {
    return this.#clock.nowMs() - this.#lastPassMs
  }

  /** Time since a full pass last succeeded; null: none has yet. */
  get fullPassAgeMs(): number | null {
    return this.#lastFullPassMs === null ? null : this.#clock.nowMs() - this.#lastFullPassMs
  }

  /** Asks for a pass soon, over these networks or over everything. Calls are coalesced. */
  wake(networks?: Iterable<Vni>): void {
    this.#schedule.stateChanged(networks ?? null)
    if (this.#schedule.isAsked) this.#start()
  }

  /** The same after a change of what some parts hold outside of networks: the addresses of other hosts, and of containers. */
  wakePeers(): void {
    if (this.#options.driver.parts.some(part => part.concern === 'forwarding' && part.holdsPeers === true)) {
      this.wake()
      return
    }
    this.#schedule.peersChanged()
    this.#start()
  }

  /**
   * The same after another program changed the kernel. A pass over everything (null) waits for the pause after the last
   * full pass.
   */
  changed(networks: Iterable<Vni> | null): void {
    this.#schedule.kernelChanged(networks)
    if (this.#schedule.isAsked) this.#start()
  }

  /**
   * Runs a pass over the network unless it is known to be right, then `work` before anything else changes the kernel. If the
   * kernel refuses work in a network without a pass, the work is retried once after one.
   * @throws ERR_KERNEL when the network cannot be repaired
   */
  async withNetwork<T>(vni: Vni, work: () => Promise<T>): Promise<T> {
    return this.#kernel.run(async () => {
      const network = this.#knownRight(vni)
      if (network !== null) {
        // The host's route to the container is new with each container.
        if (hostRoutedSubnets(network).length > 0) await this.#partialPass(isEgress, { scope: vni, trust: true })
        try {
          return await work()
        } catch (err) {
          if (asVxmeshError(err).code !== 'ERR_KERNEL') throw err
        }
      }
      // The router exists before the container, so that the container's first packet is forwarded.
      const pass = await this.#pass({ scope: vni, trust: true })
      this.#drift.account(pass)
      const [failed] = [...problemsOf(pass.reports.filter(report => !isEgress(report))).values()].flat()
      if (failed !== undefined) throw failed
      return work()
    })
  }

  /**
   * The network, if it was right after its last pass and neither the kernel nor its record has changed since: then its
   * bridge and router are right. New endpoints on other hosts do not matter here: they wake a pass themselves. Null: it
   * must be observed.
   */
  #knownRight(vni: Vni): Network | null {
    const network = this.#options.network(vni)
    if (network === undefined || !this.#drift.isSettled(network)) return null
    return this.#schedule.isStale(vni) || this.#retry.has(vni) ? null : network
  }

  /** Runs work with exclusive access to the kernel. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#kernel.run(work)
  }

  /**
   * The same for work that may run concurrently with work of this kind: all that is queued until access is granted
   * shares it.
   */
  async together<T>(work: () => Promise<T>): Promise<T> {
    return this.#kernel.together(work)
  }

  /** Waits for the pass in flight; the kernel stays as it is. */
  async stop(): Promise<void> {
    this.#loop = 'stopped'
    this.#cancelTimer()
    await this.#kernel.run(() => Promise.resolve())
  }

  #start(): void {
    if (this.#loop !== 'idle') return
    this.#loop = 'running'
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    this.#cancelTimer()
    while (this.#isRunning()) {
      this.#askForRemovals()
      const turn = this.#schedule.next(this.#clock.nowMs())
      if (turn === null) break
      await this.#kernel.run(() => this.#take(turn))
    }
    if (!this.#isRunning()) return
    this.#loop = 'idle'
    const waitMs = this.#schedule.wakeAtMs(this.#retry.nextDueMs()) - this.#clock.nowMs()
    const mostMs = this.#removalsWait ? REMOVALS_MS : Infinity
    this.#cancelTimer = this.#clock.after(Math.min(Math.max(waitMs, 1), mostMs), () => this.#expire())
  }

  #askForRemovals(): void {
    if (!this.#removalsWait || !this.#options.mayRemove()) return
    this.#removalsWait = false
    this.#schedule.stateChanged(null)
  }

  /** A method, so that the compiler does not assume that an await leaves the state unchanged. */
  #isRunning(): boolean {
    return this.#loop === 'running'
  }

  #expire(): void {
    const nowMs = this.#clock.nowMs()
    const due = this.#retry.due(nowMs)
    this.#schedule.expire(nowMs, { host: due.includes('host'), networks: due.filter(scope => scope !== 'host') })
    // Also when nothing is due, because the timer was early: the run sets the next one.
    this.#start()
  }

  async #take(turn: Turn): Promise<void> {
    const sinceMs = this.#clock.nowMs()
    const { kernelChanged } = this.#schedule.begin(turn)
    switch (turn.kind) {
      case 'full':
        await this.#fullPass()
        break
      case 'network':
        await this.#networkPass(turn.vni, kernelChanged)
        break
      case 'peers':
        await this.#hostPass(({ concern }) => concern === 'filter' || concern === 'egress')
        break
      case 'routers':
        await this.#hostPass(isEgress)
        break
    }
    const nowMs = this.#clock.nowMs()
    this.#schedule.ended(turn, { sinceMs, nowMs })
    if (turn.kind === 'routers' || turn.kind === 'peers') return
    this.#lastPassMs = nowMs
    this.#options.passed?.(turn.kind, nowMs - sinceMs)
  }

  async #fullPass(): Promise<void> {
    this.#removalsWait = !this.#options.mayRemove()
    try {
      const refreshed = await attempt(this.#options.before)
      const pass = await this.#pass({ scope: null, trust: false })
      const problems = await this.#restoreAll(pass)
      const followed = await attempt(() => this.#options.after(null))
      this.#drift.account(pass)
      for (const err of [refreshed, followed]) if (err !== null) addProblem(problems, 'host', err)
      const deferred = deferredOf(pass).map(scopeOf)
      for (const scope of new Set([...this.#retry.scopes(), ...problems.keys(), ...deferred])) {
        this.#found(scope, problems.get(scope) ?? [], pass)
      }
      this.#drift.settleAll(pass, problems)
      this.#lastFullPassMs = this.#clock.nowMs()
    } catch (thrown) {
      this.#failed('host', thrown)
    }
  }

  async #networkPass(vni: Vni, kernelChanged: boolean): Promise<void> {
    try {
      const isRetry = this.#retry.has(vni)
      const pass = await this.#pass({ scope: vni, trust: !isRetry && !kernelChanged })
      this.#drift.account(pass)
      const forwarding = pass.reports.filter(({ concern }) => concern === 'forwarding')
      // An interface that another program took out of its bridge is observed only in a pass over the whole host.
      const missing = forwarding.flatMap(report => report.missing)
      if (!isRetry && missing.some(({ endpoint }) => !this.#options.inFlight(endpoint))) this.#schedule.askFull()
      // Filters are host-wide: a full pass removes the deleted port from them.
      const attempted = forwarding.flatMap(report => report.attempted)
      if (attempted.some(({ kind }) => kind === 'device-delete')) this.#schedule.askFull()
      const problems = isRetry ? await this.#restoreAll(pass) : problemsOf(pass.reports)
      const followed = await attempt(() => this.#options.after(vni))
      if (followed !== null) addProblem(problems, vni, followed)
      this.#found(vni, [...problems.values()].flat(), pass)
      if (problems.size === 0 || !pass.desired.networks.has(vni)) this.#drift.settle(vni, pass)
    } catch (thrown) {
      this.#failed(vni, thrown)
    }
  }

  /** Over some parts. A full pass follows at once to report a new problem. */
  async #hostPass(some: (part: Part) => boolean): Promise<void> {
    const { left } = this.#retry
    const problems = problemsOf(await this.#partialPass(some, { scope: null, trust: false }))
    if (problems.size > 0 && left === 0) this.#schedule.askFull()
  }

  /** @param p `trust`: skips the routers that were right, so that a container need not wait for them */
  async #pass(p: { readonly scope: Vni | null; readonly trust: boolean }): Promise<PassRecord> {
    const { driver, gateways, mayRemove, logger } = this.#options
    const state = this.#readOnce(p.scope)
    const look = { ...p, mayRemove: mayRemove(), desired: { host: () => state().desired, gateways } }
    const reports = await runPass(driver.parts, look)
    logReports(logger, reports)
    return { ...state(), reports }
  }

  async #partialPass(
    some: (part: Part) => boolean,
    p: { readonly scope: Vni | null; readonly trust: boolean }
  ): Promise<readonly PartReport[]> {
    const { driver, gateways, mayRemove, logger } = this.#options
    const state = this.#readOnce(p.scope)
    const look = { ...p, mayRemove: mayRemove(), desired: { host: () => state().desired, gateways } }
    const reports = await runPass(driver.parts.filter(some), look)
    logReports(logger, reports)
    this.#drift.countRepairs(reports)
    return reports
  }

  #readOnce(scope: Vni | null): () => Pick<PassRecord, 'desired' | 'networks'> {
    let read: { readonly desired: DesiredHost; readonly networks: PassRecord['networks'] } | null = null
    return () => {
      if (read === null) {
        const host = desired(this.#options.input(scope ?? undefined))
        const networks = new Map([...host.networks.keys()].map(vni => [vni, this.#options.network(vni)]))
        read = { desired: host, networks }
      }
      return read
    }
  }

  /** Attaches missing endpoints again. Returns all problems of the pass, with those of what could not be attached. */
  async #restoreAll(pass: PassRecord): Promise<ProblemsByScope> {
    const problems = problemsOf(pass.reports)
    for (const { vni, endpoint } of pass.reports.flatMap(({ missing }) => missing)) {
      const outcome = await this.#options.restore(endpoint)
      if (outcome === 'restored') this.#drift.count('endpoint-attach', `attach ${endpoint} again`)
      else if (outcome !== 'pending') addProblem(problems, vni, outcome)
    }
    return problems
  }

  #found(scope: Scope, problems: readonly VxmeshError[], pass: PassRecord): void {
    const deferred = deferredOf(pass).filter(op => scopeOf(op) === scope).length
    const left = problems.length + deferred
    const network = scope === 'host' ? undefined : pass.desired.networks.get(scope)
    const where = network === undefined ? describeScope(scope) : `network ${network.name}`
    const why = problems.map(({ message }) => `${where}: ${message}`)
    this.#retry.found(scope, left === 0 ? null : { left, why }, this.#clock.nowMs())
  }

  /** The pass itself failed. */
  #failed(scope: Scope, thrown: unknown): void {
    const err = asVxmeshError(thrown)
    this.#options.logger.error({ err, scope }, 'reconcile pass failed')
    const why = [`${describeScope(scope)}: ${err.message}`]
    this.#retry.found(scope, { left: 1, why }, this.#clock.nowMs())
  }
}

/** Deferred removals of routers are not counted: the next poll finds them. */
function deferredOf({ reports }: PassRecord): PartReport['deferred'] {
  return reports.filter(report => !isEgress(report)).flatMap(({ deferred }) => deferred)
}

function describeScope(scope: Scope): string {
  return scope === 'host' ? 'host' : `vni ${scope}`
}

async function attempt(run: () => Promise<void>): Promise<VxmeshError | null> {
  try {
    await run()
    return null
  } catch (err) {
    return asVxmeshError(err)
  }
}
