// Rates from a window of readings, and devices that restart their counters.

import t from 'tap'
import type { Counters } from '#overlay/driver.ts'
import { CounterWindow, ratesOf } from '#agent/observe/counters.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

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

t.test(
  'totals are read at the call, and a device that restarts its counters is reported with its last totals',
  async t => {
    const time = new ManualClock()
    let counters = at(1_000, 2_000)
    const restarted: unknown[] = []
    const window = new CounterWindow({
      read: () => Promise.resolve(counters),
      clock: time.clock,
      restarted: (name, last) => restarted.push([name, last.rxBytes, last.txBytes]),
      failed: err => {
        throw err
      }
    })
    window.start()
    await time.advance(999)
    counters = at(125_875, 2_000)
    const reading = await window.read()
    t.match(reading.counters('ve1'), { rxBytes: 125_875, ifindex: 7 })
    t.strictSame(reading.rates('ve1'), { rxRate: 1e6, txRate: 0 })
    t.equal(reading.counters('other'), undefined)
    t.match(window.latest().counters('ve1'), { rxBytes: 1_000 }, 'the last sample')
    counters = at(10, 20, 8)
    await time.advance(1)
    t.strictSame(restarted, [['ve1', 1_000, 2_000]])
    window.stop()
    t.equal(time.pending, 0)
  }
)

t.test('a failed sample is reported, drops the window, and does not end the sampling', async t => {
  const time = new ManualClock()
  let failing = false
  let samples = 0
  const failures: unknown[] = []
  const window = new CounterWindow({
    read: () => (failing ? Promise.reject(new Error('ENOBUFS')) : Promise.resolve(at(1_000, 0))),
    clock: time.clock,
    restarted: () => undefined,
    failed: err => failures.push(err),
    sampled: () => (samples += 1)
  })
  window.start()
  await time.advance(1_000)
  t.strictSame(window.latest().rates('ve1'), { rxRate: 0, txRate: 0 })
  failing = true
  await t.rejects(window.read(), { message: 'ENOBUFS' })
  await time.advance(1_000)
  t.match(failures, [{ message: 'ENOBUFS' }])
  t.strictSame(window.latest().rates('ve1'), { rxRate: null, txRate: null })
  failing = false
  await time.advance(2_000)
  t.strictSame(window.latest().rates('ve1'), { rxRate: 0, txRate: 0 })
  t.equal(samples, 4)
  window.stop()
})
