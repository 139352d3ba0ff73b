// Generates the same load for either side: a process in a namespace that reads loads as JSON lines on standard input and
// answers with JSON lines on standard output. Every load is bounded in count and time.

import { answerLines } from '../../test/lab/json-process.ts'
import { quantile } from '../report.ts'

export type Load = { readonly concurrency: number; readonly count: number; readonly maxMs: number }

export type Measured = {
  readonly done: number
  readonly failed: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** Keeps `concurrency` tasks in flight until `count` are done or time is up. Task numbers are never reused. */
export async function runLoad(load: Load, task: () => Promise<void>): Promise<Measured> {
  const latencies: number[] = []
  let [started, failed] = [0, 0]
  const since = performance.now()
  const lane = async (): Promise<void> => {
    while (started < load.count && performance.now() - since < load.maxMs) {
      started += 1
      const at = performance.now()
      try {
        await task()
        latencies.push(performance.now() - at)
      } catch (err) {
        failed += 1
        if (failed === 1)
          process.stderr.write(`a request failed: ${err instanceof Error ? err.message : String(err)}\n`)
      }
    }
  }
  await Promise.all(Array.from({ length: load.concurrency }, lane))
  const seconds = (performance.now() - since) / 1_000
  const [p50Ms, p99Ms] = [quantile(latencies, 0.5), quantile(latencies, 0.99)]
  return { done: latencies.length, failed, perSecond: latencies.length / seconds, p50Ms, p99Ms }
}

/** Serves loads until standard input ends. */
export async function serveLoads(task: () => Promise<void>): Promise<void> {
  await answerLines(load => runLoad(load as Load, task))
}
