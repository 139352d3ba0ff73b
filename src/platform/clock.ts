// Time for the shells, as a value that is handed to them: production passes `systemClock`, a test or the simulator passes
// a clock that it moves itself. Pure rooms know no clock at all; they get times inside events.

/** Stops a timer; a timer that has fired, or was stopped before, stays as it is. */
export type Cancel = () => void

/** What a clock must provide; `clockFrom` derives the rest. */
export type TimeSource = {
  /** Monotonic milliseconds: never jumps with the wall clock. */
  readonly nowMs: () => number
  /** Runs once after `ms`. */
  readonly after: (ms: number, run: () => void) => Cancel
  /** Runs every `ms`, first after `ms`. */
  readonly every: (ms: number, run: () => void) => Cancel
}

export type Clock = TimeSource & {
  /** Resolves with true after `ms`, or with false as soon as the signal is aborted. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<boolean>
  /** The promise's outcome, or the error that `late` makes after `ms`. A later outcome is dropped. */
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

/** For callers that do not take a `Clock` yet. */
export const monotonicMs = systemClock.nowMs
/** For callers that do not take a `Clock` yet. */
export const sleep = systemClock.sleep
/** For callers that do not take a `Clock` yet. */
export const within = systemClock.within
