// How many faults the namespace tests inject: few by default, many with `npm run chaos:plane` (VXMESH_CHAOS=full).

import { TEST_TIMEOUT_MS } from './wait.ts'

export const CHAOS_IN_FULL = process.env['VXMESH_CHAOS'] === 'full'
// Agents inherit the environment and refuse settings that they do not know.
delete process.env['VXMESH_CHAOS']

export const CHAOS = CHAOS_IN_FULL
  ? { kills: 50, deadMs: 60_000, cutMs: 60_000, drifts: 1_000, flaps: 30, churn: 1_000 }
  : { kills: 4, deadMs: 3_000, cutMs: 9_000, drifts: 40, flaps: 2, churn: 60 }

/** How long one test may take. */
export const CHAOS_TIMEOUT = CHAOS_IN_FULL ? 3_600_000 : TEST_TIMEOUT_MS

export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
