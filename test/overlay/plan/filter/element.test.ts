// Elements made from those of an earlier state are those that would be made anew.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { parseIp, type Ip } from '#model/ip.ts'
import { bytesOfIpv6, parseIpv6 } from '#model/ipv6.ts'
import type { DesiredFilter } from '#overlay/plan/filter/desired-filter.ts'
import { elementsOf, fits, parseElement, type Element } from '#overlay/plan/filter/element.ts'
import { filterTables, serfTable, type FilterTable } from '#overlay/plan/filter/ruleset.ts'
import { makeHost } from '../../fixtures.ts'

const tables = [makeHost(1).vtep, parseIp('fd00::1')].flatMap(own => {
  const [, underlay] = filterTables({ vtep: own, port: 4789 })
  return [underlay, serfTable({ bind: own, port: 7946 })].filter(table => table !== undefined)
})
const address = fc
  .tuple(fc.constantFrom('192.0.2.', 'fd00::'), fc.nat({ max: 7 }))
  .map(([front, n]) => parseIp(`${front}${n}`))
const addresses = fc.uniqueArray(address, { maxLength: 8 })

function filterOf(list: readonly Ip[]): DesiredFilter {
  const set = new Set(list)
  return { ports: new Map(), vteps: set, members: set }
}

t.test('elements that follow a change of addresses are those of the new addresses alone', async t => {
  t.equal(tables.length, 4)
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
  const [one, two, three] = ['192.0.2.1', 'fd00::2', 'fd00::3'].map(text => parseIp(text)) as [Ip, Ip, Ip]
  for (const table of tables) {
    const known = elementsOf(table, filterOf([one, two]))
    t.equal(elementsOf(table, filterOf([two, one]), known), known)
    t.not(elementsOf(table, filterOf([two, three]), known), known)
  }
})

t.test('a set has the addresses of the underlay’s family alone, as bytes in network order', async t => {
  const all = filterOf(['192.0.2.1', '10.0.0.5', 'fd00::1', '2001:db8::a:b'].map(text => parseIp(text)))
  const shown = (table: FilterTable): string[] =>
    [...elementsOf(table, all).values()].map(({ text, key }) => `${text} ${Buffer.from(key).toString('hex')}`).sort()
  for (const table of tables) {
    t.strictSame(
      shown(table),
      table.addresses === 'ipv4'
        ? ['10.0.0.5 0a000005', '192.0.2.1 c0000201']
        : ['2001:db8::a:b', 'fd00::1']
            .map(text => [text, Buffer.from(bytesOfIpv6(parseIpv6(text))).toString('hex')] as const)
            // nft has no words for what else the set of tunnel addresses is looked up with.
            .map(([text, bytes]) => `${table.set === 'vteps' ? `0x${bytes}` : text} ${bytes}`)
    )
    for (const element of elementsOf(table, all).values()) t.strictSame(parseElement(table.set, element.text), element)
    const foreign = parseElement(table.set, table.addresses === 'ipv4' ? 'fd00::1' : '192.0.2.1')
    t.notOk(foreign === null || fits(table, foreign), 'what a table of the other family held is not kept')
    for (const odd of ['', 'here', 7, null, { prefix: {} }, 'fd00::1/128', '192.0.2.1/32'])
      t.equal(parseElement(table.set, odd), null, JSON.stringify(odd))
  }
})
