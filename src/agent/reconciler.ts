// The loop that keeps this host's kernel equal to what follows from the state: observe, desire, plan, execute.
// Events only wake it; a full pass every 30 s repairs what nobody announced. The only writer to the kernel.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { desiredFilter, type DesiredFilter } from '#overlay/filter/desired-filter.ts'
import { desired, onlyNetwork, type DesiredInput } from '#overlay/plan/desired.ts'
import { describe, type Op } from '#overlay/plan/op.ts'
import type { DesiredGateways } from '#overlay/plan/gateway.ts'
import { plan } from '#overlay/plan/plan.ts'
import type { Logger } from '#platform/log.ts'
import { Serial } from './serial.ts'

const FULL_PASS_MS = 30_000
const RETRY_MIN_MS = 500
const RETRY_MAX_MS = 15_000

export type ReconcilerOptions = {
  readonly driver: OverlayDriver
  /** What the state and the membership say now; read after the kernel was observed. */
  readonly input: () => DesiredInput
  /** The same for the networks' ways to the outside. */
  readonly gateways: () => DesiredGateways
  /** May things be removed? Not while the state may be older than what this host has already acted upon. */
  readonly mayRemove: () => boolean
  readonly logger: Logger
}

export type OverlayStatus = { readonly drift: number; readonly degraded: readonly string[] }

export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #kernel = new Serial()
  #awake = false
  #stopped = false
  #timer: NodeJS.Timeout | null = null
  #retryMs = RETRY_MIN_MS
  #drift = 0
  readonly #degraded = new Map<string, string>()

  constructor(options: ReconcilerOptions) {
    this.#options = options
  }

  /** Drift left by the last full pass, and why networks are degraded. */
  status(): OverlayStatus {
    return { drift: this.#drift, degraded: [...this.#degraded.values()] }
  }

  /** Asks for a full pass soon; many calls make one. */
  wake(): void {
    if (this.#awake || this.#stopped) return
    this.#awake = true
    setImmediate(() => void this.#pass())
  }

  /**
   * Makes one network right now, then runs `work` before anything else touches the kernel.
   * @throws ERR_KERNEL when the network cannot be made right here
   */
  async withNetwork<T>(vni: Vni, work: () => Promise<T>): Promise<T> {
    return this.#kernel.run(async () => {
      const { driver, input } = this.#options
      const observed = await driver.observe(vni)
      const { ops, conflicts } = plan(onlyNetwork(desired(input()), vni), observed)
      const clash = conflicts[0]
      if (clash !== undefined) throw new VxmeshError('ERR_KERNEL', `device ${clash.device}: ${clash.reason}`)
      const { failures } = await driver.execute(this.#allowed(ops))
      const failed = failures[0]
      if (failed !== undefined) throw failed.error
      // Before the container is there: its first packet finds the way out. Without one it still has its network.
      await this.#settleGateways(vni)
      return work()
    })
  }

  /** Runs other work on the kernel in its turn. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#kernel.run(work)
  }

  /** Lets the pass under way end; the kernel stays as it is. */
  async stop(): Promise<void> {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#kernel.run(() => Promise.resolve())
  }

  async #pass(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    let again = FULL_PASS_MS
    try {
      if (!(await this.#kernel.run(() => this.#fullPass()))) again = this.#backOff()
      else this.#retryMs = RETRY_MIN_MS
    } catch (thrown) {
      const err = asVxmeshError(thrown)
      this.#options.logger.error({ err }, 'reconcile pass failed')
      this.#degraded.clear()
      this.#degraded.set('host', err.message)
      again = this.#backOff()
    }
    if (!this.#stopped) this.#timer = setTimeout(() => this.wake(), again)
  }

  /** True when the kernel is as desired. */
  async #fullPass(): Promise<boolean> {
    const { driver, input, logger } = this.#options
    const observed = await driver.observe()
    // From here on a wake asks for another pass: what it announces may have come after the state was read.
    this.#awake = false
    const facts = input()
    const wanted = desired(facts)
    const { ops, conflicts } = plan(wanted, observed)
    const allowed = this.#allowed(ops)
    // First of all: who is to be reached by new entries may answer at once.
    const unguarded = await this.#guard(desiredFilter(facts, wanted))
    const { failures } = await driver.execute(allowed)
    this.#degraded.clear()
    if (unguarded !== null) this.#degraded.set('guard', unguarded.message)
    for (const { vni, device, reason } of conflicts) this.#degraded.set(`${vni}`, `${device}: ${reason}`)
    for (const { op, error } of failures) {
      this.#degraded.set(`${op.vni ?? op.device}`, `${describe(op)}: ${error.message}`)
      logger.error({ op: describe(op), err: error }, 'op failed')
    }
    if (allowed.length > 0) logger.debug({ ops: allowed.length, failed: failures.length }, 'reconciled')
    const troubled = (await this.#settleGateways()) + (unguarded === null ? 0 : 1)
    this.#drift = failures.length + conflicts.length + (ops.length - allowed.length) + troubled
    return this.#drift === 0
  }

  /** A filter that cannot be set must not keep the rest from being right: traffic goes on. */
  async #guard(filter: DesiredFilter): Promise<VxmeshError | null> {
    const { driver, mayRemove, logger } = this.#options
    try {
      const done = await driver.guard(filter, { mayRemove: mayRemove() })
      if (done.length > 0) logger.debug({ done }, 'filters set')
      return null
    } catch (thrown) {
      const err = asVxmeshError(thrown)
      logger.error({ err }, 'filters not set')
      return err
    }
  }

  /** Of all networks or of one; returns how many troubles there are, which are shown. Never throws. */
  async #settleGateways(scope?: Vni): Promise<number> {
    const { driver, gateways, mayRemove, logger } = this.#options
    const options = { mayRemove: mayRemove(), ...(scope === undefined ? {} : { scope, trust: true }) }
    try {
      const { done, problems } = await driver.settleGateways(gateways(), options)
      for (const { vni, message } of problems) this.#degraded.set(`${vni ?? 'host'} egress`, message)
      if (problems.length > 0) logger.error({ problems }, 'no way to the outside')
      if (done.length > 0) logger.info({ done }, 'gateways settled')
      return problems.length
    } catch (thrown) {
      const err = asVxmeshError(thrown)
      this.#degraded.set('host egress', err.message)
      logger.error({ err }, 'gateways not settled')
      return 1
    }
  }

  #allowed(ops: readonly Op[]): readonly Op[] {
    return this.#options.mayRemove() ? ops : ops.filter(op => !removes(op))
  }

  #backOff(): number {
    const now = this.#retryMs
    this.#retryMs = Math.min(now * 2, RETRY_MAX_MS)
    return now
  }
}

function removes(op: Op): boolean {
  return op.kind.endsWith('-delete') || op.kind === 'flood-clear'
}
