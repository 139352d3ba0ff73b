// The two simulations that the tool runs: of the consensus core, and of whole hosts.

import { FAULTS } from './faults.ts'
import { HOST_FAULTS } from './hosts/host-faults.ts'
import { HOST_MUTANTS } from './hosts/host-mutants.ts'
import { HOST_PROBES } from './hosts/host-probes.ts'
import { simulateHosts } from './hosts/host-world.ts'
import { loadMutant } from './hosts/load-mutant.ts'
import { HOST_KILLING_SEEDS, KILLING_SEEDS } from './killing-seeds.ts'
import { MUTANTS } from './mutants.ts'
import { PROBES } from './probes.ts'
import type { RunResult } from './run-result.ts'
import { simulate } from './world.ts'

export type Simulate = (seed: number) => RunResult | Promise<RunResult>

export type MutantRun = {
  readonly name: string
  /** Tried first. */
  readonly killingSeed: number
  readonly load: () => Promise<Simulate>
}

export type Mode = {
  /** Command-line arguments that select it. */
  readonly args: string
  readonly faults: readonly string[]
  readonly probes: readonly string[]
  readonly mutants: readonly MutantRun[]
  readonly simulate: Simulate
  /** How many seeds each mutant gets before it counts as surviving. */
  readonly mutantSeeds: number
}

export const CORE: Mode = {
  args: '',
  faults: FAULTS,
  probes: PROBES,
  mutants: MUTANTS.map(mutant => ({
    name: mutant.name,
    killingSeed: KILLING_SEEDS[mutant.name] ?? 1,
    load: () => Promise.resolve(seed => simulate(seed, mutant))
  })),
  simulate: seed => simulate(seed),
  mutantSeeds: 3_000
}

export const HOSTS: Mode = {
  args: ' --hosts',
  faults: HOST_FAULTS,
  probes: HOST_PROBES,
  mutants: HOST_MUTANTS.map(mutant => ({
    name: mutant.name,
    killingSeed: HOST_KILLING_SEEDS[mutant.name] ?? 1,
    load: () => loadMutant(mutant)
  })),
  simulate: simulateHosts,
  mutantSeeds: 400
}
