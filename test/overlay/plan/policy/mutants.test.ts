// What the comparison of the compiled form with the policies' meaning is worth: every mutant differs somewhere.

import t from 'tap'
import { loadMutated } from '../../../mutant-loader.ts'
import { POLICY_MUTANTS } from './mutants.ts'

const COMPARE = new URL('./compare.ts', import.meta.url).href

t.test('every mutant of the compiler and its evaluator decides otherwise than the policies mean it', async t => {
  t.ok(POLICY_MUTANTS.length >= 30, `${POLICY_MUTANTS.length} mutants`)
  for (const mutant of POLICY_MUTANTS) {
    const { compare } = (await loadMutated(COMPARE, mutant)) as typeof import('./compare.ts')
    const { difference, packets } = compare({ seed: 67, runs: 1_200, packetsEach: 20 })
    t.not(difference, null, `${mutant.name} is found after ${packets} packets: ${mutant.bug}`)
  }
})
