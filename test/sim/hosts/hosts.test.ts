import t from 'tap'
import { HOST_MUTANTS } from './host-mutants.ts'
import { simulateHosts } from './host-world.ts'
import { mutate } from '../../mutant-loader.ts'
import { loadMutant } from './load-mutant.ts'

t.test('the same seed gives the same run of whole hosts twice, and different seeds give different runs', async t => {
  const seeds = [1, 2, 6]
  const hashes: string[] = []
  for (const seed of [...seeds, ...seeds]) hashes.push((await simulateHosts(seed)).traceHash)
  t.same(hashes.slice(3), hashes.slice(0, 3))
  t.equal(new Set(hashes).size, 3)
})

t.test('there are at least eight mutants, each unique, and each changes one place of the source', t => {
  t.ok(HOST_MUTANTS.length >= 8, `${HOST_MUTANTS.length} mutants`)
  t.equal(new Set(HOST_MUTANTS.map(({ name }) => name)).size, HOST_MUTANTS.length)
  t.equal(new Set(HOST_MUTANTS.map(({ bug }) => bug)).size, HOST_MUTANTS.length)
  for (const mutant of HOST_MUTANTS) t.ok(mutate(mutant).includes(mutant.replace), mutant.name)
  t.end()
})

t.test('a mutant whose text is not in the file is refused', t => {
  const [mutant] = HOST_MUTANTS
  if (mutant === undefined) throw new Error('no mutants')
  t.throws(() => mutate({ ...mutant, find: 'no such text' }), /contains "no such text" 0 times/)
  t.throws(() => mutate({ ...mutant, find: 'const' }), /times/)
  t.end()
})

t.test('a mutant changes the run that it is loaded into, and no other', async t => {
  const mutant = HOST_MUTANTS.find(({ name }) => name === 'feed-gap-ignored')
  if (mutant === undefined) throw new Error('no such mutant')
  const simulateMutant = await loadMutant(mutant)
  t.not((await simulateMutant(1)).violation, null)
  t.equal((await simulateHosts(1)).violation, null)
})
