// Elements made from those of an earlier state are those that would be made anew.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Ip } from '#model/ip.ts'
import type { DesiredFilter } from '#overlay/plan/filter/desired-filter.ts'
import { elementsOf, type Element } from '#overlay/plan/filter/element.ts'
import { filterTables, serfTable } from '#overlay/plan/filter/ruleset.ts'
import { makeHost } from '../../fixtures.ts'

const [, underlay] = filterTables({ vtep: makeHost(1).vtep, port: 4789 })
const tables = [underlay, serfTable({ bind: makeHost(1).vtep, port: 7946 })].filter(table => table !== undefined)
const addresses = fc.uniqueArray(fc.integer({ min: 0xc0000200, max: 0xc0000208 }), { maxLength: 8 })

function filterOf(list: readonly number[]): DesiredFilter {
  const set = new Set(list as Ip[])
  return { ports: new Map(), vteps: set, members: set }
}

t.test('elements that follow a change of addresses are those of the new addresses alone', async t => {
  t.equal(tables.length, 2)
  fc.assert(
    fc.property(fc.array(addresses, { maxLength: 6 }), states => {
      for (const table of tables) {
        let known: Map<string, Element> | null = null
        for (const list of states) {
          const before: Map<string, Element> | null = known
          const copy: Map<string, Element> | null = before === null ? null : new Map(before)
          known = elementsOf(table, filterOf(list), before)
          const anew = elementsOf(table, filterOf(list))
          assert.deepEqual([...known].sort(), [...anew].sort())
          if (known !== before) assert.deepEqual(before, copy, 'the earlier elements stay as they were')
        }
      }
    }),
    { numRuns: 300 }
  )
})

t.test('the same addresses give the same elements', async t => {
  for (const table of tables) {
    const known = elementsOf(table, filterOf([0xc0000201, 0xc0000202]))
    t.equal(elementsOf(table, filterOf([0xc0000202, 0xc0000201]), known), known)
    t.not(elementsOf(table, filterOf([0xc0000202, 0xc0000203]), known), known)
  }
})
