// The agent's figures in the form that Prometheus reads. Everything is gathered when it is asked for; two durations are
// told as they happen.

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { COMMIT_DURATION, FAMILIES, RECONCILE_DURATION, type Family } from './families.ts'
import type { Figures } from './figures.ts'

/** A gauge under a counter's name, in prom-client's own set: Prometheus tools complain of it. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']
/** Seconds: a commit is a round trip and two disk writes, a proposal is given up after 4.5. */
const COMMIT_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const RECONCILE_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]

export type ReconcileScope = 'full' | 'network'

export class Metrics {
  readonly #registry = new Registry()
  readonly #gather: () => Figures
  readonly #tell: readonly ((figures: Figures) => void)[]
  readonly #commit = this.#histogram(COMMIT_DURATION, COMMIT_BUCKETS)
  readonly #reconcile = this.#histogram(RECONCILE_DURATION, RECONCILE_BUCKETS)
  /** One gathering serves all who ask while it lasts. */
  #scrape: Promise<string> | null = null

  /** @param gather the figures of this moment; cheap, for it is called at every scrape */
  constructor(gather: () => Figures) {
    this.#gather = gather
    this.#tell = FAMILIES.flatMap(family => this.#teller(family) ?? [])
    collectDefaultMetrics({ register: this.#registry })
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name)
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

  /** The text of a scrape. Rejects with what `gather` has thrown. */
  text(): Promise<string> {
    this.#scrape ??= this.#read().finally(() => (this.#scrape = null))
    return this.#scrape
  }

  async #read(): Promise<string> {
    const figures = this.#gather()
    for (const tell of this.#tell) tell(figures)
    const text = await this.#registry.metrics()
    // Before an event loop was measured: prom-client writes Nan, the format knows NaN.
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

  /** Sets a metric's series to the figures: those of things that are gone go with them. */
  #teller({ name, help, label, type, read }: Family): ((figures: Figures) => void) | null {
    if (read === undefined) return null
    const options = { name, help, labelNames: label === null ? [] : [label], registers: [this.#registry] }
    const metric = type === 'counter' ? new Counter(options) : new Gauge(options)
    return figures => {
      metric.reset()
      for (const [value, figure] of read(figures)) metric.inc(label === null ? {} : { [label]: value }, figure)
    }
  }
}
