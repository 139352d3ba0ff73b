// What one simulated run reports, of the consensus core and of whole hosts alike.

import type { Counters } from './counters.ts'

export type RunResult = {
  readonly seed: number
  /** The first violated invariant, or null. */
  readonly violation: string | null
  readonly events: number
  readonly committed: number
  readonly acknowledged: number
  readonly faults: Counters
  readonly probes: Counters
  readonly simulatedMs: number
  readonly traceHash: string
}
