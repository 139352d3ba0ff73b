// All mutants of the core that the simulator must detect.

import type { Mutant } from './mutant.ts'
import { CORE_MUTANTS } from './mutants-core.ts'
import { HINT_MUTANTS } from './mutants-hints.ts'
import { MEMBERSHIP_MUTANTS } from './mutants-membership.ts'
import { SNAPSHOT_MUTANTS } from './mutants-snapshot.ts'

export const MUTANTS: readonly Mutant[] = [...CORE_MUTANTS, ...HINT_MUTANTS, ...MEMBERSHIP_MUTANTS, ...SNAPSHOT_MUTANTS]
