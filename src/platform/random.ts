// Randomness for the shells, injected where a test must be repeatable.

import { randomBytes, randomInt, randomUUID } from 'node:crypto'

export type Random = {
  /** Uniform in [0, 1). */
  readonly unit: () => number
  /** A UUID. */
  readonly id: () => string
}

export const systemRandom: Random = {
  unit: () => randomInt(0, 2 ** 32) / 2 ** 32,
  id: () => randomUUID()
}

/** Secret bytes; never from a test's generator. */
export function randomKey(bytes: number): Buffer {
  return randomBytes(bytes)
}
