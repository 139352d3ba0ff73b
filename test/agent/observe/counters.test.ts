// Rates from totals: a window over readings, and what happens when a device begins to count anew.

import t from 'tap'
import type { Counters } from '#overlay/driver.ts'
import { CounterWindow, ratesOf } from '#agent/observe/counters.ts'

const at = (rxBytes: number, txBytes: number, ifindex = 7): ReadonlyMap<string, Counters> =>
  new Map([['ve1', { ifindex, rxBytes, txBytes, rxPackets: 0, txPackets: 0 }]])

t.test('a rate is the mean from the oldest reading that the newest one continues', async t => {
  const cases: [what: string, readings: [atMs: number, counters: ReadonlyMap<string, Counters>][], unknown][] = [
    ['none at all', [], [null, null]],
    ['one reading', [[0, at(0, 0)]], [null, null]],
    [
      'two',
      [
        [0, at(0, 0)],
        [1_000, at(125_000, 0)]
      ],
      [1e6, 0]
    ],
    [
      'a window',
      [
        [0, at(0, 0)],
        [1_000, at(9_000, 0)],
        [4_000, at(500_000, 4_000)]
      ],
      [1e6, 8_000]
    ],
    [
      'too close together',
      [
        [0, at(0, 0)],
        [100, at(125_000, 0)]
      ],
      [null, null]
    ],
    [
      'nothing before it',
      [
        [0, new Map()],
        [1_000, at(5, 5)]
      ],
      [null, null]
    ],
    [
      'gone',
      [
        [0, at(0, 0)],
        [1_000, new Map()]
      ],
      [null, null]
    ],
    [
      'another device, from its own start',
      [
        [0, at(9e9, 9e9, 6)],
        [1_000, at(0, 0)],
        [2_000, at(125_000, 0)]
      ],
      [1e6, 0]
    ],
    [
      'counters that fell',
      [
        [0, at(9e9, 0)],
        [1_000, at(5, 5)]
      ],
      [null, null]
    ]
  ]
  for (const [what, readings, expected] of cases) {
    const rates = ratesOf(
      readings.map(([atMs, counters]) => ({ atMs, counters })),
      've1'
    )
    t.strictSame([rates.rxRate, rates.txRate], expected, what)
  }
})

t.test('totals are the kernel’s at the moment, and a device that counts anew is told with what it had', async t => {
  let now = 0
  let counters = at(1_000, 2_000)
  const restarted: unknown[] = []
  const sampled: (() => void)[] = []
  const window = new CounterWindow({
    read: () => {
      for (const done of sampled.splice(0)) done()
      return Promise.resolve(counters)
    },
    nowMs: () => now,
    restarted: (name, last) => restarted.push([name, last.rxBytes, last.txBytes]),
    failed: err => {
      throw err
    }
  })
  t.teardown(() => window.stop())
  const first = new Promise<void>(resolve => sampled.push(resolve))
  window.start()
  await first
  now = 2_000
  counters = at(251_000, 2_000)
  const reading = await window.read()
  t.match(reading.counters('ve1'), { rxBytes: 251_000, ifindex: 7 })
  t.strictSame(reading.rates('ve1'), { rxRate: 1e6, txRate: 0 })
  t.equal(reading.counters('other'), undefined)
  counters = at(10, 20, 8)
  await new Promise<void>(resolve => sampled.push(resolve))
  await new Promise(resolve => setImmediate(resolve))
  t.strictSame(restarted, [['ve1', 1_000, 2_000]])
})
