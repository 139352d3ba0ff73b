import t from 'tap'
import { HOST_MUTANTS } from './hosts/host-mutants.ts'
import { HOST_KILLING_SEEDS, KILLING_SEEDS } from './killing-seeds.ts'
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

t.test('each killing seed belongs to a mutant', t => {
  for (const [seeds, mutants] of [
    [KILLING_SEEDS, MUTANTS],
    [HOST_KILLING_SEEDS, HOST_MUTANTS]
  ] as const) {
    const names: readonly string[] = mutants.map(({ name }) => name)
    t.strictSame(
      Object.keys(seeds).filter(name => !names.includes(name)),
      []
    )
  }
  t.end()
})
