// Waits for the local state to reach a log index, so that a caller sees the change that it has just committed.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'

type Waiter = {
  readonly index: LogIndex
  readonly resolve: () => void
  readonly reject: (err: VxmeshError) => void
  readonly cancel: Cancel
}

export class IndexGate {
  readonly #clock: Clock
  #reached = 0 as LogIndex
  #waiters: Waiter[] = []

  constructor(options: { readonly clock: Clock }) {
    this.#clock = options.clock
  }

  /** Resolves every wait for this index or an earlier one. */
  reached(index: LogIndex): void {
    if (index <= this.#reached) return
    this.#reached = index
    const due = this.#waiters.filter(w => w.index <= index)
    if (due.length === 0) return
    this.#waiters = this.#waiters.filter(w => w.index > index)
    for (const { resolve, cancel } of due) {
      cancel()
      resolve()
    }
  }

  /** Rejects every wait: no further index will be applied. */
  close(): void {
    for (const { reject, cancel } of this.#waiters) {
      cancel()
      reject(new VxmeshError('ERR_AGENT_UNREACHABLE', 'the agent is ending; the change is made'))
    }
    this.#waiters = []
  }

  /** @throws ERR_TIMEOUT if the local state does not reach the index in time; ERR_AGENT_UNREACHABLE if the agent ends first */
  wait(index: LogIndex, timeoutMs: number): Promise<void> {
    if (index <= this.#reached) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(timeoutMs, () => {
        this.#waiters = this.#waiters.filter(w => w.cancel !== cancel)
        reject(new VxmeshError('ERR_TIMEOUT', `this host has not applied log index ${index} within ${timeoutMs} ms`))
      })
      this.#waiters.push({ index, resolve, reject, cancel })
    })
  }
}
