// The agent's figures in Prometheus's text format. They are gathered at each scrape, except two histograms, which observe
// durations as they occur, and the lag of the event loop, which is sampled.

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Clock } from '#platform/clock.ts'
import { EventLoopLag } from './event-loop-lag.ts'
import { COMMIT_DURATION, FAMILIES, RECONCILE_DURATION, type Family } from './families.ts'
import type { Figures } from './figures.ts'

/** Default metrics of prom-client that are gauges with a counter's name, which Prometheus tools reject. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']
const NEVER_MS = 2 ** 31 - 1
/** Seconds. A commit takes a round trip and two disk writes; a proposal is abandoned after 4.5 s. */
const COMMIT_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const RECONCILE_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]

export type ReconcileScope = 'full' | 'network'

export class Metrics {
  readonly #registry = new Registry()
  readonly #gather: () => Figures
  readonly #update: readonly ((figures: Figures) => void)[]
  readonly #commit = this.#histogram(COMMIT_DURATION, COMMIT_BUCKETS)
  readonly #reconcile = this.#histogram(RECONCILE_DURATION, RECONCILE_BUCKETS)
  readonly #lag: EventLoopLag
  /** The scrape in progress, shared by concurrent callers. */
  #scrape: Promise<string> | null = null

  /** @param gather returns the current figures; called at every scrape, so it must be cheap */
  constructor(gather: () => Figures, clock: Clock) {
    this.#gather = gather
    this.#update = FAMILIES.flatMap(family => this.#updaterOf(family) ?? [])
    // Its histogram of the event loop cannot be left out, but it can be told to sleep.
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: NEVER_MS })
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name)
    this.#lag = new EventLoopLag(this.#registry, clock)
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  committed(ms: number): void {
    this.#commit.observe(ms / 1_000)
  }

  reconciled(scope: ReconcileScope, ms: number): void {
    this.#reconcile.observe({ scope }, ms / 1_000)
  }

  /** The text of a scrape. Rejects if `gather` throws. */
  text(): Promise<string> {
    this.#scrape ??= this.#read().finally(() => (this.#scrape = null))
    return this.#scrape
  }

  /** Ends the sampling, which keeps the process alive otherwise. */
  stop(): void {
    this.#lag.stop()
  }

  async #read(): Promise<string> {
    const figures = this.#gather()
    for (const update of this.#update) update(figures)
    this.#lag.update()
    const text = await this.#registry.metrics()
    // Before the first event-loop sample prom-client writes Nan; the format requires NaN.
    return text.replaceAll(/ Nan$/gm, ' NaN')
  }

  #histogram({ name, help, label }: Family, buckets: number[]): Histogram {
    return new Histogram({
      name,
      help,
      labelNames: label === null ? [] : [label],
      buckets,
      registers: [this.#registry]
    })
  }

  /** A function that replaces a metric's series with the current figures; series without a figure disappear. */
  #updaterOf({ name, help, label, type, read }: Family): ((figures: Figures) => void) | null {
    if (read === undefined) return null
    const options = { name, help, labelNames: label === null ? [] : [label], registers: [this.#registry] }
    const metric = type === 'counter' ? new Counter(options) : new Gauge(options)
    return figures => {
      metric.reset()
      for (const [value, figure] of read(figures)) metric.inc(label === null ? {} : { [label]: value }, figure)
    }
  }
}
