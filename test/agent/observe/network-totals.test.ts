// Totals by network over devices that appear, disappear and restart their counters.

import t from 'tap'
import { NetworkTotals } from '#agent/observe/network-totals.ts'
import type { NetworkName } from '#model/ids.ts'
import type { Counters } from '#overlay/driver.ts'

const RED = 'red' as NetworkName
const BLUE = 'blue' as NetworkName
const NETWORKS: Readonly<Record<string, NetworkName>> = { ve1: RED, ve2: RED, ve3: BLUE }
const networkOf = (hostInterface: string): NetworkName | undefined => NETWORKS[hostInterface]

type Reading = Readonly<Record<string, readonly [ifindex: number, rxBytes: number]>>

function counters(reading: Reading): ReadonlyMap<string, Counters> {
  return new Map(
    Object.entries(reading).map(([name, [ifindex, bytes]]) => {
      return [name, { ifindex, rxBytes: bytes, txBytes: 2 * bytes, rxPackets: 3 * bytes, txPackets: 4 * bytes }]
    })
  )
}

const CASES: readonly [what: string, readings: readonly Reading[], red: number, blue: number][] = [
  ['nothing was read', [], 0, 0],
  ['the first reading counts nothing: an earlier agent did', [{ ve1: [1, 500] }], 0, 0],
  ['a device counts on', [{ ve1: [1, 500] }, { ve1: [1, 700] }, { ve1: [1, 750] }], 250, 0],
  ['two of one network are summed, another is apart', [{}, { ve1: [1, 10], ve2: [2, 5], ve3: [3, 7] }], 15, 7],
  ['a device that came counts from its beginning', [{ ve1: [1, 500] }, { ve1: [1, 500], ve2: [2, 40] }], 40, 0],
  ['a device that goes takes nothing away', [{}, { ve1: [1, 90], ve2: [2, 1] }, { ve2: [2, 3] }], 93, 0],
  ['a device made anew counts from its beginning', [{}, { ve1: [1, 90] }, { ve1: [9, 100] }], 190, 0],
  ['counters that fell began anew', [{}, { ve1: [1, 90] }, { ve1: [1, 20] }], 110, 0],
  ['a device of no network is nobody’s', [{}, { ve9: [9, 1_000] }], 0, 0]
]

t.test('a network’s totals sum its devices’ counts since the first sample, and never fall', t => {
  for (const [what, readings, red, blue] of CASES) {
    const totals = new NetworkTotals()
    let before = 0
    for (const reading of readings) {
      totals.add(counters(reading), networkOf)
      t.ok(totals.of(RED).rxBytes >= before, what)
      before = totals.of(RED).rxBytes
    }
    t.same(totals.of(RED), { rxBytes: red, txBytes: 2 * red, rxPackets: 3 * red, txPackets: 4 * red }, what)
    t.equal(totals.of(BLUE).rxBytes, blue, what)
  }
  t.end()
})

t.test('a deleted network is forgotten: a new one of its name starts at zero', t => {
  const totals = new NetworkTotals()
  totals.add(counters({}), networkOf)
  totals.add(counters({ ve1: [1, 10], ve3: [3, 10] }), networkOf)
  totals.keep(network => network === BLUE)
  t.equal(totals.of(RED).rxBytes, 0)
  t.equal(totals.of(BLUE).rxBytes, 10)
  t.end()
})
