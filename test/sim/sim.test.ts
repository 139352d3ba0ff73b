import t from 'tap'
import { MUTANTS } from './mutants.ts'
import { simulate } from './world.ts'

t.test('the same seed gives the same run twice, and different seeds give different runs', t => {
  const seeds = [1, 2, 3, 7, 11, 42]
  const first = seeds.map(seed => simulate(seed).traceHash)
  t.same(
    seeds.map(seed => simulate(seed).traceHash),
    first
  )
  t.equal(new Set(first).size, seeds.length)
  t.end()
})

t.test('there are at least 40 mutants, each with a unique name and bug', t => {
  t.ok(MUTANTS.length >= 40, `${MUTANTS.length} mutants`)
  t.equal(new Set(MUTANTS.map(mutant => mutant.name)).size, MUTANTS.length)
  t.equal(new Set(MUTANTS.map(mutant => mutant.bug)).size, MUTANTS.length)
  t.end()
})
