// The simulation of whole hosts with a mutant in it.

import { loadMutated, type SourceMutant } from '../../mutant-loader.ts'
import type { RunResult } from '../run-result.ts'

const WORLD = new URL('./host-world.ts', import.meta.url).href

export async function loadMutant(mutant: SourceMutant): Promise<(seed: number) => Promise<RunResult>> {
  const { simulateHosts } = (await loadMutated(WORLD, mutant)) as typeof import('./host-world.ts')
  return simulateHosts
}
