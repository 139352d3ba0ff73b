// Time and randomness for the shells; the pure rooms get both as values.

import { randomBytes, randomInt, randomUUID } from 'node:crypto'

/** Monotonic milliseconds: never jumps with the wall clock. */
export function monotonicMs(): number {
  return performance.now()
}

/** Uniform in [0, 1). */
export function randomUnit(): number {
  return randomInt(0, 2 ** 32) / 2 ** 32
}

export function randomId(): string {
  return randomUUID()
}

export function randomKey(bytes: number): Buffer {
  return randomBytes(bytes)
}

/** Resolves after the time, or at once with `false` when the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise(resolve => {
    if (signal?.aborted === true) {
      resolve(false)
      return
    }
    const done = (): void => {
      clearTimeout(timer)
      resolve(false)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', done)
      resolve(true)
    }, ms)
    signal?.addEventListener('abort', done, { once: true })
  })
}

/** The promise's outcome, or the error that `late` makes when it takes longer. What comes after is dropped. */
export function within<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
