// How late the event loop runs its timers, under the names and with the reset of prom-client's default metrics. Theirs wakes
// the process a hundred times a second, more often than all the rest of an idle agent; this one ten times.

import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { Gauge, type Registry } from 'prom-client'
import type { Cancel, Clock } from '#platform/clock.ts'

const PERIOD_MS = 100
const NS_PER_MS = 1e6
const NS_PER_S = 1e9

/** Each as a suffix of `nodejs_eventloop_lag_`, in nanoseconds. */
const FIGURES: Readonly<Record<string, (lag: RecordableHistogram) => number>> = {
  min: lag => lag.min,
  max: lag => lag.max,
  mean: lag => lag.mean,
  stddev: lag => lag.stddev,
  p50: lag => lag.percentile(50),
  p90: lag => lag.percentile(90),
  p99: lag => lag.percentile(99)
}

export class EventLoopLag {
  readonly #lag = createHistogram()
  readonly #gauges: readonly { readonly gauge: Gauge; readonly read: (lag: RecordableHistogram) => number }[]
  readonly #cancel: Cancel

  /** Takes the place of the default metrics in a registry. */
  constructor(registry: Registry, clock: Clock) {
    this.#gauges = Object.entries(FIGURES).map(([figure, read]) => {
      const name = `nodejs_eventloop_lag_${figure}_seconds`
      registry.removeSingleMetric(name)
      const help = `How late the event loop ran a timer, since the last scrape: ${figure}`
      return { gauge: new Gauge({ name, help, registers: [registry] }), read }
    })
    let lastMs = clock.nowMs()
    this.#cancel = clock.every(PERIOD_MS, () => {
      const nowMs = clock.nowMs()
      this.#lag.record(Math.max(1, Math.round((nowMs - lastMs - PERIOD_MS) * NS_PER_MS)))
      lastMs = nowMs
    })
  }

  /** Sets the figures to those since the last call. */
  update(): void {
    for (const { gauge, read } of this.#gauges) gauge.set(this.#lag.count === 0 ? NaN : read(this.#lag) / NS_PER_S)
    this.#lag.reset()
  }

  stop(): void {
    this.#cancel()
  }
}
