// Counters of the local endpoints over time. The totals are the kernel's own, read when they are asked for, and so exact
// and untouched by restarts of the agent; what is kept here is a short past, for rates.

import type { Counters } from '#overlay/driver.ts'

const SAMPLE_MS = 1_000
/** Rates are means over so long; the newest reading is the one that is asked for. */
const WINDOW_SAMPLES = 5
/** Closer readings give no rate: a single packet would look like a flood. */
const RATE_MIN_MS = 500

type Sample = { readonly atMs: number; readonly counters: ReadonlyMap<string, Counters> }

/** bits/s, seen from the container. Null: not known yet. */
export type Rates = { readonly rxRate: number | null; readonly txRate: number | null }

/** By host interface. */
export type Reading = { counters(hostInterface: string): Counters | undefined; rates(hostInterface: string): Rates }

export type CounterOptions = {
  readonly read: () => Promise<ReadonlyMap<string, Counters>>
  readonly nowMs: () => number
  /** A device counts anew (it was made again, or its counters fell): the totals that it had. */
  readonly restarted: (hostInterface: string, last: Counters) => void
  readonly failed: (err: unknown) => void
  /** Each sample. */
  readonly sampled?: (counters: ReadonlyMap<string, Counters>) => void
}

export class CounterWindow {
  readonly #options: CounterOptions
  #past: readonly Sample[] = []
  #timer: NodeJS.Timeout | null = null
  #stopped = false

  constructor(options: CounterOptions) {
    this.#options = options
  }

  start(): void {
    void this.#sample()
  }

  stop(): void {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  /** The totals of this moment, and the rates until now. @throws ERR_KERNEL */
  async read(): Promise<Reading> {
    const now = await this.#snapshot()
    return reading([...this.#past, now])
  }

  /** As the last sample has it, of the last second: for nothing, where a moment does not matter. */
  latest(): Reading {
    return reading(this.#past)
  }

  async #sample(): Promise<void> {
    try {
      const now = await this.#snapshot()
      const before = this.#past.at(-1)
      for (const [name, last] of before?.counters ?? []) {
        const next = now.counters.get(name)
        if (next !== undefined && !continues(last, next)) this.#options.restarted(name, last)
      }
      this.#past = [...this.#past, now].slice(-WINDOW_SAMPLES)
      this.#options.sampled?.(now.counters)
    } catch (err) {
      // Rates of an unknown past would be wrong; they come back with the samples.
      this.#past = []
      this.#options.failed(err)
    }
    if (this.#stopped) return
    this.#timer = setTimeout(() => void this.#sample(), SAMPLE_MS)
  }

  async #snapshot(): Promise<Sample> {
    const counters = await this.#options.read()
    return { atMs: this.#options.nowMs(), counters }
  }
}

function reading(snapshots: readonly Sample[]): Reading {
  return {
    counters: name => snapshots.at(-1)?.counters.get(name),
    rates: name => ratesOf(snapshots, name)
  }
}

/** From the oldest snapshot that the newest one continues; null when there is none that is old enough. */
export function ratesOf(snapshots: readonly Sample[], name: string): Rates {
  const newest = snapshots.at(-1)
  const last = newest?.counters.get(name)
  if (newest === undefined || last === undefined) return { rxRate: null, txRate: null }
  for (const { atMs, counters } of snapshots) {
    const first = counters.get(name)
    const ms = newest.atMs - atMs
    if (first === undefined || ms < RATE_MIN_MS || !continues(first, last)) continue
    const rate = (bytes: number): number => Math.round((bytes * 8_000) / ms)
    return { rxRate: rate(last.rxBytes - first.rxBytes), txRate: rate(last.txBytes - first.txBytes) }
  }
  return { rxRate: null, txRate: null }
}

/** The same device, which has only counted on. */
export function continues(before: Counters, after: Counters): boolean {
  return before.ifindex === after.ifindex && after.rxBytes >= before.rxBytes && after.txBytes >= before.txBytes
}
