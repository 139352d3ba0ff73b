// Which devices a pass over the whole host reads one by one.

import t from 'tap'
import { Sampling } from '#overlay/kernel/sampling.ts'

const DEVICES = Array.from({ length: 100 }, (_, i) => i + 2)

function readIn(sampling: Sampling): number[] {
  sampling.next()
  return DEVICES.filter(ifindex => sampling.has(ifindex))
}

t.test('without notifications every pass reads all', t => {
  const sampling = new Sampling()
  for (let pass = 0; pass < 10; pass++) t.equal(readIn(sampling).length, DEVICES.length)
  t.end()
})

t.test('with notifications the first pass reads all, and the eight after it read each device once', t => {
  const sampling = new Sampling()
  readIn(sampling)
  sampling.notified = true
  t.equal(readIn(sampling).length, DEVICES.length, 'what was before they began is doubtful')
  const read = Array.from({ length: 8 }, () => readIn(sampling))
  t.strictSame(
    read.flat().sort((a, b) => a - b),
    DEVICES
  )
  t.ok(read.every(({ length }) => length < 15))
  t.end()
})

t.test('when notifications may be lost, or end, the next pass reads all', t => {
  const sampling = new Sampling()
  sampling.notified = true
  readIn(sampling)
  t.ok(readIn(sampling).length < 15)
  sampling.doubt()
  t.equal(readIn(sampling).length, DEVICES.length)
  t.ok(readIn(sampling).length < 15)
  sampling.notified = false
  for (let pass = 0; pass < 3; pass++) t.equal(readIn(sampling).length, DEVICES.length)
  t.end()
})
