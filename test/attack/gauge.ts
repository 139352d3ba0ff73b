// What an agent goes through while it is attacked: how fast it answers, its memory, and its term.

import { readFileSync } from 'node:fs'
import { quantile } from '../demo/checks.ts'
import type { LabHost } from '../lab/host.ts'

const MIB = 1024 * 1024
/** Time between two questions. */
const EVERY_MS = 20

export type Readings = {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly asked: number
  readonly unanswered: number
  readonly termBefore: number
  readonly termAfter: number
  /** The most that resident memory exceeded its value at the start, MiB. */
  readonly grownMiB: number
}

/** Reads an agent while `work` runs. */
export async function gauge(host: LabHost, work: () => Promise<unknown>): Promise<Readings> {
  const termBefore = (await host.status()).raft.term
  const before = residentBytes(host.agentPid)
  const latencies: number[] = []
  let [most, unanswered, over] = [before, 0, false]
  const asking = (async (): Promise<void> => {
    while (!over) {
      const since = performance.now()
      await host.status().catch(() => (unanswered += 1))
      latencies.push(performance.now() - since)
      most = Math.max(most, residentBytes(host.agentPid))
      await new Promise(resolve => setTimeout(resolve, EVERY_MS))
    }
  })()
  try {
    await work()
  } finally {
    over = true
    await asking
  }
  return {
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    asked: latencies.length,
    unanswered,
    termBefore,
    termAfter: (await host.status()).raft.term,
    grownMiB: (most - before) / MIB
  }
}

/** @throws when the process has ended */
export function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

export const mib = (bytes: number): string => `${(bytes / MIB).toFixed(1)} MiB`
