// Time for the shells, injected: production passes `systemClock`, a test or the simulator a clock that it advances itself.
// Pure rooms use no clock; they receive times in events.

/** Cancels a timer. Does nothing when it has fired or was cancelled before. */
export type Cancel = () => void

/** What a clock must provide; `clockFrom` derives the rest. */
type TimeSource = {
  /** Monotonic milliseconds, independent of the wall clock. */
  readonly nowMs: () => number
  /** Runs once after `ms`. */
  readonly after: (ms: number, run: () => void) => Cancel
  /** Runs every `ms`, first after `ms`. */
  readonly every: (ms: number, run: () => void) => Cancel
}

export type Clock = TimeSource & {
  /** Resolves with true after `ms`, or with false as soon as `signal` is aborted. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<boolean>
  /** Settles like `promise`, or rejects with the error from `late` after `ms`. */
  readonly within: <T>(promise: Promise<T>, ms: number, late: () => Error) => Promise<T>
}

export function clockFrom(source: TimeSource): Clock {
  return {
    ...source,
    sleep: (ms, signal) =>
      new Promise(resolve => {
        if (signal?.aborted === true) {
          resolve(false)
          return
        }
        const aborted = (): void => {
          cancel()
          resolve(false)
        }
        const cancel = source.after(ms, () => {
          signal?.removeEventListener('abort', aborted)
          resolve(true)
        })
        signal?.addEventListener('abort', aborted, { once: true })
      }),
    within: (promise, ms, late) =>
      new Promise((resolve, reject) => {
        const cancel = source.after(ms, () => reject(late()))
        promise.then(resolve, reject).finally(cancel)
      })
  }
}

export const systemClock: Clock = clockFrom({
  nowMs: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  every: (ms, run) => {
    const timer = setInterval(run, ms)
    return () => clearInterval(timer)
  }
})
