// Deadlines that stretch on a busy machine. A bound on an agent's reaction assumes that the agent gets to run: while
// there are more runnable processes than processors, time counts only by the share that each process gets.

import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** Ends even on a machine that never becomes idle. */
const MAX_STRETCH = 10

export type MachineLoad = { readonly nowMs: number; readonly running: number; readonly processors: number }

export class Patience {
  readonly #budgetMs: number
  readonly #read: () => MachineLoad
  readonly #startedMs: number
  #lastMs: number
  #spentMs = 0

  constructor(budgetMs: number, read: () => MachineLoad = readLoad) {
    this.#budgetMs = budgetMs
    this.#read = read
    this.#startedMs = this.#lastMs = read().nowMs
  }

  /**
   * Whether the budget is used up. Each call samples the load, which counts for the interval since the previous call.
   */
  isOver(): boolean {
    const { nowMs, running, processors } = this.#read()
    this.#spentMs += (nowMs - this.#lastMs) * Math.min(1, processors / Math.max(1, running))
    this.#lastMs = nowMs
    return this.#spentMs > this.#budgetMs || this.elapsedMs > this.#budgetMs * MAX_STRETCH
  }

  /** On the wall clock, up to the last call of `isOver`. */
  get elapsedMs(): number {
    return this.#lastMs - this.#startedMs
  }
}

function readLoad(): MachineLoad {
  // Three averages, then running/all processes (proc(5)); this one is among those that run.
  const running = Number(/ (\d+)\/\d+ /.exec(readFileSync('/proc/loadavg', 'utf8'))?.[1] ?? 1)
  return { nowMs: performance.now(), running, processors: availableParallelism() }
}
