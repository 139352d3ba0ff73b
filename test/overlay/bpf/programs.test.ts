// The BPF programs in this kernel against a model of them that was written apart.

import t from 'tap'
import { compare, HOSTS } from './compare.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const PACKETS = 20_000
const SEEDS = [1, 2]

for (const [host, tables] of Object.entries(HOSTS)) {
  t.test(`the programs do with random packets what the model says: ${host}`, { skip }, t => {
    const { underlay, unwraps } = tables.settings
    for (const seed of SEEDS) {
      const { differences, verdicts } = compare(PACKETS, seed, tables)
      const count = (what: string): number => verdicts[what] ?? 0
      t.same(differences, [], `seed ${seed}`)
      for (const program of ['from_container', 'from_overlay', 'from_underlay']) {
        t.ok(count(`${program} next`) > 500, `${program} lets packets go on`)
      }
      for (const program of ['from_container', 'from_underlay']) {
        t.ok(count(`${program} drop`) > 300, `${program} drops packets`)
      }
      for (const program of ['from_container', 'from_overlay']) {
        t.ok(count(`${program} redirect`) > 300, `${program} redirects packets`)
      }
      for (const family of ['ipv4', 'ipv6']) {
        for (const verdict of ['drop', 'next', 'redirect']) {
          t.ok(count(`from_container ${verdict} ${family}`) > 100, `from_container: ${verdict} of ${family}`)
        }
        const wrapped = count(`from_container wraps ${family}`)
        const unwrapped = count(`from_underlay unwraps ${family}`)
        t.ok(underlay === 0 ? wrapped === 0 : wrapped > 30, `${wrapped} packets of ${family} are wrapped`)
        t.ok(unwraps ? unwrapped > 15 : unwrapped === 0, `${unwrapped} packets of ${family} are unwrapped`)
      }
      for (const family of ['arp', 'ipv6'])
        t.ok(count(`from_container answers ${family}`) > 30, `${family} is answered`)
    }
    t.end()
  })
}
