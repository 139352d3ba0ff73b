// Processor time of whole processes, in microseconds: all their threads, from the scheduler's own count.

import { readdirSync, readFileSync } from 'node:fs'
import type { LabHost } from '../../test/lab/host.ts'

/** Processes by what they are in the benchmark; a name may stand for several. */
export type Processes = Readonly<Record<string, readonly number[]>>

/** Since the start of the process; threads that have ended do not count. */
export function cpuMicros(pid: number): number {
  let ns = 0
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      // It has just ended.
    }
  }
  return ns / 1_000
}

/** Measures the processor time of each name during `work`, the mean of its processes. */
export async function measureCpu<T>(
  processes: Processes,
  work: () => Promise<T>
): Promise<{ readonly result: T; readonly micros: Readonly<Record<string, number>> }> {
  const read = (): number[][] => Object.values(processes).map(pids => pids.map(cpuMicros))
  const before = read()
  const result = await work()
  const after = read()
  const mean = (n: number): number => {
    const used = (after[n] ?? []).map((micros, at) => micros - (before[n]?.[at] ?? 0))
    return used.reduce((sum, micros) => sum + micros, 0) / Math.max(1, used.length)
  }
  return { result, micros: Object.fromEntries(Object.keys(processes).map((name, n) => [name, mean(n)])) }
}

/** The agents of servers by their role now. */
export async function agentsByRole(servers: readonly LabHost[]): Promise<Processes> {
  const roles = await Promise.all(servers.map(async host => (await host.status()).raft.role))
  const pids = (isLeader: boolean): number[] =>
    servers.filter((_, n) => (roles[n] === 'leader') === isLeader).map(({ agentPid }) => agentPid)
  return { leader: pids(true), follower: pids(false) }
}
