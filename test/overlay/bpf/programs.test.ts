// The BPF programs in this kernel against a model of them that was written apart.

import t from 'tap'
import { compare } from './compare.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const PACKETS = 20_000
const SEEDS = [1, 2]

t.test('the programs do with random packets what the model says', { skip }, t => {
  for (const seed of SEEDS) {
    const { differences, verdicts } = compare(PACKETS, seed)
    t.same(differences, [], `seed ${seed}`)
    for (const program of ['from_container', 'from_overlay', 'from_underlay']) {
      t.ok((verdicts[`${program} next`] ?? 0) > 500, `${program} lets packets go on`)
    }
    for (const program of ['from_container', 'from_underlay']) {
      t.ok((verdicts[`${program} drop`] ?? 0) > 500, `${program} drops packets`)
    }
    for (const program of ['from_container', 'from_overlay']) {
      t.ok((verdicts[`${program} redirect`] ?? 0) > 500, `${program} redirects packets`)
    }
  }
  t.end()
})
