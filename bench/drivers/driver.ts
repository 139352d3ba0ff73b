// Generates the same load for either side: a process in a namespace that reads loads as JSON lines on standard input and
// answers with JSON lines on standard output. Every load is bounded in count and time.

import { setTimeout as sleep } from 'node:timers/promises'
import { answerLines } from '../../test/lab/json-process.ts'
import { quantile } from '../report.ts'

/** How long a caller that was told to retry waits; doubles while it is told again. */
const PAUSE_MIN_MS = 20
const PAUSE_MAX_MS = 640

export type Load = { readonly concurrency: number; readonly count: number; readonly maxMs: number }

export type Measured = {
  readonly done: number
  readonly failed: number
  /** Requests that were refused because too many were in flight, and how long a refusal took. */
  readonly refused: number
  readonly refusedP99Ms: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/**
 * Keeps `concurrency` tasks in flight until `count` are done or time is up. A refused task is given up, and its caller pauses
 * before it begins the next one. Task numbers are never reused.
 */
export async function runLoad(load: Load, task: () => Promise<void>): Promise<Measured> {
  const latencies: number[] = []
  const refusals: number[] = []
  let [started, failed] = [0, 0]
  const since = performance.now()
  const lane = async (): Promise<void> => {
    let pauseMs = PAUSE_MIN_MS
    while (started < load.count && performance.now() - since < load.maxMs) {
      started += 1
      const at = performance.now()
      try {
        await task()
        latencies.push(performance.now() - at)
        pauseMs = PAUSE_MIN_MS
      } catch (err) {
        if ((err as { readonly code?: string }).code === 'ERR_BUSY') {
          started -= 1
          refusals.push(performance.now() - at)
          await sleep(pauseMs * (0.5 + Math.random()))
          pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)
          continue
        }
        failed += 1
        if (failed === 1)
          process.stderr.write(`a request failed: ${err instanceof Error ? err.message : String(err)}\n`)
      }
    }
  }
  await Promise.all(Array.from({ length: load.concurrency }, lane))
  const seconds = (performance.now() - since) / 1_000
  const [p50Ms, p99Ms] = [0.5, 0.99].map(share => (latencies.length === 0 ? Infinity : quantile(latencies, share))) as [
    number,
    number
  ]
  const refused = { refused: refusals.length, refusedP99Ms: quantile([0, ...refusals], 0.99) }
  return { done: latencies.length, failed, ...refused, perSecond: latencies.length / seconds, p50Ms, p99Ms }
}

/** Serves loads until standard input ends. */
export async function serveLoads(task: () => Promise<void>): Promise<void> {
  await answerLines(load => runLoad(load as Load, task))
}
