// Waiting for the local state to reach a log index: what was just committed must be visible to whoever asked for it.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'

type Waiter = {
  readonly index: LogIndex
  readonly open: () => void
  readonly refuse: (err: VxmeshError) => void
  readonly timer: NodeJS.Timeout
}

export class IndexGate {
  #reached = 0 as LogIndex
  #waiters: Waiter[] = []

  /** Lets through all who wait for this index or an earlier one. */
  reached(index: LogIndex): void {
    if (index <= this.#reached) return
    this.#reached = index
    const due = this.#waiters.filter(w => w.index <= index)
    if (due.length === 0) return
    this.#waiters = this.#waiters.filter(w => w.index > index)
    for (const { open, timer } of due) {
      clearTimeout(timer)
      open()
    }
  }

  /** Lets nobody wait any longer: no index is reached any more. */
  close(): void {
    for (const { refuse, timer } of this.#waiters) {
      clearTimeout(timer)
      refuse(new VxmeshError('ERR_AGENT_UNREACHABLE', 'the agent is ending; the change is made'))
    }
    this.#waiters = []
  }

  /** @throws ERR_TIMEOUT when the state here does not get there in time */
  wait(index: LogIndex, timeoutMs: number): Promise<void> {
    if (index <= this.#reached) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter(w => w.timer !== timer)
        reject(new VxmeshError('ERR_TIMEOUT', `this host has not heard of log index ${index} within ${timeoutMs} ms`))
      }, timeoutMs)
      this.#waiters.push({ index, open: resolve, refuse: reject, timer })
    })
  }
}
