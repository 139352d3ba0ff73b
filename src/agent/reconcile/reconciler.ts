// The loop that keeps this host's kernel equal to what follows from the state: observe, desire, plan, execute. An event
// wakes it for the networks that it concerns; a full pass every 30 s, and after changes that nobody can place, repairs
// the rest. The only writer to the kernel.

import type { EndpointKey } from '#model/endpoint.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import type { GatewayOptions, OverlayDriver } from '#overlay/driver.ts'
import { desiredFilter } from '#overlay/plan/filter/desired-filter.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { describe, type Op } from '#overlay/plan/network/op.ts'
import type { DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import type { Missing } from '#overlay/plan/network/plan-network.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { Drift, type Looked } from './drift.ts'
import { Serial } from '#platform/serial.ts'
import { RetryState, type Scope } from './retry-state.ts'

const FULL_PASS_MS = 30_000
/** What others change inside a router is told to nobody: so often the routers are looked at, */
const ROUTERS_MS = 5_000
/** and after a look that took t, not before 50 t: 2 % of the time at most. */
const ROUTERS_REST_FACTOR = 50
/** A full pass costs less than so many passes over one network. */
const MANY_NETWORKS = 64
/** After a full pass that took t, the next one waits 4 t: storms of events cost a fifth of the time at most. */
const REST_FACTOR = 4

/** `pending`: somebody else is at it right now. */
export type Restored = 'restored' | 'pending' | VxmeshError

export type ReconcilerOptions = {
  readonly driver: OverlayDriver
  /** What the state and the membership say now, of all networks or of one; read after the kernel was observed. */
  readonly input: (scope?: Vni) => DesiredInput
  /** What the state has under a VNI; another object once anything of it has changed. */
  readonly network: (vni: Vni) => Network | undefined
  /** The same for the ways to the outside, of all networks. */
  readonly gateways: () => DesiredGateways
  /** May things be removed? Not while the state may be older than what this host has already acted upon. */
  readonly mayRemove: () => boolean
  /** Before a full pass: what it depends on besides the state. */
  readonly before: () => Promise<void>
  /** After its ops were executed. */
  readonly after: () => Promise<void>
  /** Is somebody attaching or detaching this endpoint right now? */
  readonly inHand: (endpoint: EndpointKey) => boolean
  /** Attaches a local endpoint again whose interface is gone. Never rejects. */
  readonly restore: (endpoint: EndpointKey) => Promise<Restored>
  /** A pass of the loop is over, well or not. */
  readonly passed?: (scope: 'full' | 'network', ms: number) => void
  readonly logger: Logger
}

export type OverlayStatus = {
  /** Differences that the last passes have left. */
  readonly drift: number
  /** Why, one line a cause. */
  readonly degraded: readonly string[]
  /** What others had changed and was put right, by kind of op, since the agent started. */
  readonly repaired: Readonly<Record<string, number>>
}

type Pass = Looked & {
  readonly missing: readonly Missing[]
  readonly deferred: readonly Op[]
  /** What keeps networks from the outside; their inside is not touched by it. */
  readonly egress: ReadonlyMap<Scope, VxmeshError[]>
}

export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #kernel = new Serial()
  readonly #troubles = new RetryState()
  readonly #drift: Drift
  readonly #waiting = new Set<Vni>()
  /** Of those that wait: the ones in which the kernel itself has changed. In the others what was right still is. */
  readonly #doubted = new Set<Vni>()
  #full = false
  /** The full pass that is asked for is not to wait for the rest after the last one. */
  #urgent = false
  #fullPassedMs: number | null = null
  #fullDueMs = 0
  #routersDueMs = Infinity
  #restUntilMs = 0
  #lastPassMs = monotonicMs()
  #running = false
  #stopped = false
  #timer: NodeJS.Timeout | null = null

  constructor(options: ReconcilerOptions) {
    this.#options = options
    this.#drift = new Drift(options.logger)
  }

  status(): OverlayStatus {
    const { left } = this.#troubles
    return { drift: left, degraded: this.#troubles.why(), repaired: this.#drift.repaired }
  }

  /** How long no pass has come to an end, well or not; far more than the time between two full ones is a loop that hangs. */
  get silentMs(): number {
    return monotonicMs() - this.#lastPassMs
  }

  /** Since the last full pass came well to its end; null: none has yet. */
  get fullPassAgeMs(): number | null {
    return this.#fullPassedMs === null ? null : monotonicMs() - this.#fullPassedMs
  }

  /** Asks for a pass soon, over these networks or over everything; many calls make one. */
  wake(networks?: Iterable<Vni>): void {
    // What the cluster has decided waits for nothing.
    if (networks === undefined) this.#urgent = true
    this.#ask(networks ?? null)
  }

  /** The same after changes in the kernel, which may come as fast as somebody else can make them. */
  changed(networks: Iterable<Vni> | null): void {
    for (const vni of networks ?? []) this.#doubted.add(vni)
    this.#ask(networks)
  }

  #ask(networks: Iterable<Vni> | null): void {
    if (networks === null) this.#full = true
    else for (const vni of networks) this.#waiting.add(vni)
    if (this.#full || this.#waiting.size > 0) this.#start()
  }

  /**
   * Makes one network right now, unless it is known to be, then runs `work` before anything else touches the kernel. Work
   * that fails where the network was taken to be right runs once more after a look.
   * @throws ERR_KERNEL when the network cannot be made right here
   */
  async withNetwork<T>(vni: Vni, work: () => Promise<T>): Promise<T> {
    return this.#kernel.run(async () => {
      const network = this.#knownRight(vni)
      if (network !== null) {
        // The way in from this host is a container's own.
        if (network.hostAccess)
          await this.#settleGateways({ mayRemove: this.#options.mayRemove(), scope: vni, trust: true })
        try {
          return await work()
        } catch (err) {
          if (asVxmeshError(err).code !== 'ERR_KERNEL') throw err
        }
      }
      // Before the container is there: its first packet finds the way out.
      const pass = await this.#pass(vni, true)
      this.#drift.account(pass)
      const [failed] = [...pass.problems.values()].flat()
      if (failed !== undefined) throw failed
      return work()
    })
  }

  /**
   * The last look at it left nothing, nobody has touched its devices since, and it is still that network: its bridge and its
   * router stand. What has come to be elsewhere meanwhile has a pass of its own. Null: it is to be looked at.
   */
  #knownRight(vni: Vni): Network | null {
    const network = this.#options.network(vni)
    if (network === undefined || !this.#drift.isSettled(network)) return null
    return this.#full || this.#doubted.has(vni) || this.#troubles.scopes().includes(vni) ? null : network
  }

  /** Runs other work on the kernel in its turn. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#kernel.run(work)
  }

  /** The same for work that may run beside its like: all that is asked for until the turn comes shares it. */
  async together<T>(work: () => Promise<T>): Promise<T> {
    return this.#kernel.together(work)
  }

  /** Lets the pass under way end; the kernel stays as it is. */
  async stop(): Promise<void> {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#kernel.run(() => Promise.resolve())
  }

  #start(): void {
    if (this.#running || this.#stopped) return
    this.#running = true
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    while (!this.#stopped) {
      if (this.#waiting.size > MANY_NETWORKS) this.#full = true
      const [vni] = this.#waiting
      const rested = this.#urgent || monotonicMs() >= this.#restUntilMs
      if (this.#full && rested) await this.#kernel.run(() => this.#fullPass())
      else if (vni !== undefined) await this.#kernel.run(() => this.#networkPass(vni))
      else if (monotonicMs() >= this.#routersDueMs) await this.#kernel.run(() => this.#lookAtRouters())
      else break
    }
    this.#running = false
    if (this.#stopped) return
    const wait =
      (this.#full ? this.#restUntilMs : Math.min(this.#fullDueMs, this.#routersDueMs, this.#troubles.nextDueMs())) -
      monotonicMs()
    this.#timer = setTimeout(() => this.#due(), Math.max(wait, 1))
  }

  #due(): void {
    const now = monotonicMs()
    const due = this.#troubles.due(now)
    if (now >= this.#fullDueMs || due.includes('host')) this.#full = true
    for (const place of due) if (place !== 'host') this.#waiting.add(place)
    // Also with nothing due, should the timer have been early: the run sets the next one.
    this.#start()
  }

  async #fullPass(): Promise<void> {
    const since = monotonicMs()
    // From here on a wake asks for another pass: what it announces may come after the state is read.
    this.#full = false
    this.#urgent = false
    this.#waiting.clear()
    this.#doubted.clear()
    try {
      const refreshed = await attempt(this.#options.before)
      const pass = await this.#pass()
      const problems = await this.#restoreAll(pass)
      const followed = await attempt(this.#options.after)
      this.#drift.account(pass)
      for (const err of [refreshed, followed]) if (err !== null) add(problems, 'host', err)
      const deferred = pass.deferred.map(op => op.vni ?? 'host')
      for (const place of new Set([...this.#troubles.scopes(), ...problems.keys(), ...deferred])) {
        this.#found(place, problems.get(place) ?? [], pass)
      }
      this.#drift.settleAll(pass, problems)
      this.#fullPassedMs = monotonicMs()
    } catch (thrown) {
      this.#failed('host', thrown)
    }
    const now = monotonicMs()
    this.#options.passed?.('full', now - since)
    this.#lastPassMs = now
    this.#fullDueMs = now + FULL_PASS_MS
    this.#restUntilMs = now + REST_FACTOR * (now - since)
    this.#routersDueMs = now + ROUTERS_MS
  }

  /** Puts routers right. What is left is for a full pass to tell, which comes at once if there is anything new. */
  async #lookAtRouters(): Promise<void> {
    const since = monotonicMs()
    const { left } = this.#troubles
    const problems = await this.#settleGateways({ mayRemove: this.#options.mayRemove() })
    if (problems.size > 0 && left === 0) this.#full = true
    const now = monotonicMs()
    this.#routersDueMs = now + Math.max(ROUTERS_MS, ROUTERS_REST_FACTOR * (now - since))
  }

  async #networkPass(vni: Vni): Promise<void> {
    const since = monotonicMs()
    this.#waiting.delete(vni)
    try {
      const known = this.#troubles.scopes().includes(vni)
      const doubted = this.#doubted.delete(vni)
      const pass = await this.#pass(vni, !known && !doubted)
      this.#drift.account(pass)
      // An interface that was taken out of its bridge is seen only by a look at everything.
      if (!known && pass.missing.some(({ endpoint }) => !this.#options.inHand(endpoint))) this.#full = true
      // A port that went leaves the filters.
      if (pass.ops.some(op => op.kind === 'device-delete')) this.#full = true
      const problems = known ? await this.#restoreAll(pass) : allProblems(pass)
      this.#found(vni, [...problems.values()].flat(), pass)
      if (problems.size === 0 || !pass.want.networks.has(vni)) this.#drift.settle(vni, pass)
    } catch (thrown) {
      this.#failed(vni, thrown)
    }
    this.#lastPassMs = monotonicMs()
    this.#options.passed?.('network', this.#lastPassMs - since)
  }

  /** @param trust a router that was right is taken to be so: a container must not wait for a look at all of it */
  async #pass(scope?: Vni, trust = false): Promise<Pass> {
    const { driver, input, logger } = this.#options
    const observed = await driver.observe(scope)
    const facts = input(scope)
    const want = desired(facts)
    const of = new Map([...want.networks.keys()].map(vni => [vni, this.#options.network(vni)]))
    const { ops, conflicts, missing } = driver.plan(want, observed)
    const mayRemove = this.#options.mayRemove()
    const allowed = mayRemove ? ops : ops.filter(op => !removes(op))
    const problems = new Map<Scope, VxmeshError[]>()
    // The filters are the whole host's. First of all: who is to be reached by new entries may answer at once. One that
    // cannot be set must not keep the rest from being right: traffic goes on.
    const unguarded =
      scope === undefined
        ? await attempt(async () => {
            const done = await driver.guard(desiredFilter(want), { mayRemove })
            if (done.length > 0) logger.debug({ done }, 'filters set')
          })
        : null
    if (unguarded !== null) add(problems, 'host', unguarded)
    const { failures } = await driver.execute(allowed)
    for (const { vni, device, reason } of conflicts) {
      add(problems, vni, new VxmeshError('ERR_KERNEL', `device ${device}: ${reason}`))
    }
    for (const { op, error } of failures) {
      logger.error({ op: describe(op), err: error }, 'op failed')
      add(problems, op.vni ?? 'host', error)
    }
    const deferred = allowed.length === ops.length ? [] : ops.filter(removes)
    const egress = await this.#settleGateways({ mayRemove, ...(scope === undefined ? {} : { scope, trust }) })
    return { want, of, ops: allowed, missing, deferred, problems, egress }
  }

  /** Attaches what is missing again; gives all problems of the pass with what could not be. */
  async #restoreAll(pass: Pass): Promise<Map<Scope, VxmeshError[]>> {
    const problems = allProblems(pass)
    for (const { vni, endpoint } of pass.missing) {
      const outcome = await this.#options.restore(endpoint)
      if (outcome === 'restored') this.#drift.count('endpoint-attach', `attach ${endpoint} again`)
      else if (outcome !== 'pending') add(problems, vni, outcome)
    }
    return problems
  }

  #found(place: Scope, problems: readonly VxmeshError[], pass: Pass): void {
    const deferred = pass.deferred.filter(op => (op.vni ?? 'host') === place).length
    const left = problems.length + deferred
    const network = place === 'host' ? undefined : pass.want.networks.get(place)
    const where = place === 'host' ? 'host' : network === undefined ? `vni ${place}` : `network ${network.name}`
    const why = problems.map(({ message }) => `${where}: ${message}`)
    this.#troubles.found(place, left === 0 ? null : { left, why }, monotonicMs())
  }

  /** Without a way out a network is still a network: its trouble is shown and stops nothing. */
  async #settleGateways(options: GatewayOptions): Promise<ReadonlyMap<Scope, VxmeshError[]>> {
    const { driver, gateways, logger } = this.#options
    const egress = new Map<Scope, VxmeshError[]>()
    const trouble = await attempt(async () => {
      const { done, repaired, problems } = await driver.settleGateways(gateways(), options)
      for (const { kind, what } of repaired) this.#drift.count(kind, what)
      for (const { vni, message, hostAccess = false } of problems) {
        const what = hostAccess ? 'no way in from this host' : 'no way to the outside'
        add(egress, vni ?? 'host', new VxmeshError('ERR_KERNEL', `${what}: ${message}`))
      }
      if (problems.length > 0) logger.error({ problems }, 'routers have trouble')
      if (done.length > 0) logger.info({ done }, 'gateways settled')
    })
    if (trouble !== null) add(egress, 'host', trouble)
    return egress
  }

  /** The pass itself could not be made. */
  #failed(place: Scope, thrown: unknown): void {
    const err = asVxmeshError(thrown)
    this.#options.logger.error({ err, place }, 'reconcile pass failed')
    const where = place === 'host' ? 'host' : `vni ${place}`
    this.#troubles.found(place, { left: 1, why: [`${where}: ${err.message}`] }, monotonicMs())
  }
}

function allProblems({ problems, egress }: Pass): Map<Scope, VxmeshError[]> {
  const all = new Map<Scope, VxmeshError[]>()
  for (const some of [problems, egress])
    for (const [place, errors] of some) for (const err of errors) add(all, place, err)
  return all
}

function add(problems: Map<Scope, VxmeshError[]>, place: Scope, error: VxmeshError): void {
  const list = problems.get(place)
  if (list === undefined) problems.set(place, [error])
  else list.push(error)
}

async function attempt(run: () => Promise<void>): Promise<VxmeshError | null> {
  try {
    await run()
    return null
  } catch (err) {
    return asVxmeshError(err)
  }
}

function removes(op: Op): boolean {
  return op.kind.endsWith('-delete') || op.kind === 'flood-clear'
}
