// Counters of the local endpoints over time. Totals are read from the kernel on demand, so they are exact and survive a
// restart of the agent; only a short window of samples is kept here, for rates.

import type { Counters } from '#overlay/driver.ts'
import type { Cancel, Clock } from '#platform/clock.ts'

const SAMPLE_MS = 1_000
/** A rate is the mean over this window, up to the newest reading. */
const WINDOW_SAMPLES = 5
/** Readings closer than this give no rate: a single packet would look like a flood. */
const RATE_MIN_MS = 500

type Sample = { readonly atMs: number; readonly counters: ReadonlyMap<string, Counters> }

/** bits/s, as the container sees them. Null: not known yet. */
export type Rates = { readonly rxRate: number | null; readonly txRate: number | null }

/** Keyed by host interface. */
export type Reading = { counters(hostInterface: string): Counters | undefined; rates(hostInterface: string): Rates }

export type CounterOptions = {
  readonly read: () => Promise<ReadonlyMap<string, Counters>>
  readonly clock: Clock
  /** A device was made again, or its counters fell; `last` is what it had counted. */
  readonly restarted: (hostInterface: string, last: Counters) => void
  readonly failed: (err: unknown) => void
  /** Called with each sample. */
  readonly sampled?: (counters: ReadonlyMap<string, Counters>) => void
}

export class CounterWindow {
  readonly #options: CounterOptions
  #window: readonly Sample[] = []
  #cancel: Cancel = () => undefined
  #stopped = false

  constructor(options: CounterOptions) {
    this.#options = options
  }

  start(): void {
    void this.#sample()
  }

  stop(): void {
    this.#stopped = true
    this.#cancel()
  }

  /** Totals read now, and the rates up to now. @throws ERR_KERNEL */
  async read(): Promise<Reading> {
    const now = await this.#read()
    return reading([...this.#window, now])
  }

  /** The last sample, at most a second old: costs no system call. */
  latest(): Reading {
    return reading(this.#window)
  }

  async #sample(): Promise<void> {
    try {
      const now = await this.#read()
      const before = this.#window.at(-1)
      for (const [name, last] of before?.counters ?? []) {
        const next = now.counters.get(name)
        if (next !== undefined && !continues(last, next)) this.#options.restarted(name, last)
      }
      this.#window = [...this.#window, now].slice(-WINDOW_SAMPLES)
      this.#options.sampled?.(now.counters)
    } catch (err) {
      // Rates across a gap would be wrong; they come back with the next samples.
      this.#window = []
      this.#options.failed(err)
    }
    if (this.#stopped) return
    this.#cancel = this.#options.clock.after(SAMPLE_MS, () => void this.#sample())
  }

  async #read(): Promise<Sample> {
    const counters = await this.#options.read()
    return { atMs: this.#options.clock.nowMs(), counters }
  }
}

function reading(samples: readonly Sample[]): Reading {
  return {
    counters: name => samples.at(-1)?.counters.get(name),
    rates: name => ratesOf(samples, name)
  }
}

/** Measured from the oldest sample that the newest one continues; null if none is old enough. */
export function ratesOf(samples: readonly Sample[], name: string): Rates {
  const newest = samples.at(-1)
  const last = newest?.counters.get(name)
  if (newest === undefined || last === undefined) return { rxRate: null, txRate: null }
  for (const { atMs, counters } of samples) {
    const first = counters.get(name)
    const ms = newest.atMs - atMs
    if (first === undefined || ms < RATE_MIN_MS || !continues(first, last)) continue
    const rate = (bytes: number): number => Math.round((bytes * 8_000) / ms)
    return { rxRate: rate(last.rxBytes - first.rxBytes), txRate: rate(last.txBytes - first.txBytes) }
  }
  return { rxRate: null, txRate: null }
}

/** Is `after` the same device with counters that have not fallen? */
export function continues(before: Counters, after: Counters): boolean {
  return before.ifindex === after.ifindex && after.rxBytes >= before.rxBytes && after.txBytes >= before.txBytes
}
