// Waiting for a condition with a bound: tests never just sleep.

import { partialDeepStrictEqual } from 'node:assert'
import { Patience } from './patience.ts'

/** Bound of one test with hosts, for tap: only a test that hangs reaches it, even on a busy machine. */
export const TEST_TIMEOUT_MS = 1_800_000

type WaitOptions = {
  /** Stretched on a busy machine. */
  readonly timeoutMs?: number
  /** The polling interval, where it matters; otherwise it grows with the wait. */
  readonly everyMs?: number
  /** Appended to the error. */
  readonly explain?: () => string
}

/** Polling takes processor time from what is waited for: the interval is a tenth of the wait so far. */
const POLLS_A_WAIT = 10
const [MIN_INTERVAL_MS, MAX_INTERVAL_MS] = [25, 250]

/**
 * @param condition polled until it gives a value; an error means that it does not hold yet
 * @returns the value
 * @throws Error that names `what` and the condition's last error
 */
export async function waitFor<T>(
  what: string,
  condition: () => Promise<T | false | null | undefined> | T | false | null | undefined,
  options: WaitOptions = {}
): Promise<T> {
  const { timeoutMs = 10_000, everyMs, explain } = options
  const patience = new Patience(timeoutMs)
  for (;;) {
    let reason = ''
    try {
      const value = await condition()
      if (value !== false && value !== null && value !== undefined) return value
    } catch (err) {
      reason = `: ${err instanceof Error ? err.message : String(err)}`
    }
    if (patience.isOver()) {
      const elapsed = Math.round(patience.elapsedMs)
      throw new Error(
        `not within ${timeoutMs} ms (${elapsed} ms elapsed): ${what}${reason}${explain ? `\n${explain()}` : ''}`
      )
    }
    const growing = Math.min(MAX_INTERVAL_MS, Math.max(MIN_INTERVAL_MS, patience.elapsedMs / POLLS_A_WAIT))
    const intervalMs = everyMs ?? growing
    await new Promise(resolve => setTimeout(resolve, intervalMs))
  }
}

/**
 * Waits until a reading has these values. An agent's view of the cluster is eventually consistent: right after its
 * start, or after a change elsewhere, it may be incomplete.
 * @param expected the fields that matter
 * @returns the reading
 * @throws Error with the difference from the last reading
 */
export function waitForState<T extends object>(
  what: string,
  read: () => Promise<T>,
  expected: object,
  options: WaitOptions = {}
): Promise<T> {
  const matches = async (): Promise<T> => {
    const state = await read()
    partialDeepStrictEqual(state, expected)
    return state
  }
  return waitFor(what, matches, options)
}
