import t from 'tap'
import { InFlight, QueryRate } from '#dns/limits.ts'

t.test('a container, a network and the host each have their own bound', t => {
  const limits = { container: 2, network: 3, host: 4 }
  const host = { count: 0 }
  const [red, blue] = [new InFlight(limits, host), new InFlight(limits, host)]
  const leave = red.enter('a')
  t.ok(leave)
  t.ok(red.enter('a'))
  t.equal(red.enter('a'), null, 'of a container')
  t.ok(red.enter('b'), 'another one has room')
  t.equal(red.enter('c'), null, 'of a network')
  t.ok(blue.enter('a'), 'another network has room')
  t.equal(blue.enter('b'), null, 'of the host')
  leave?.()
  t.ok(blue.enter('b'), 'what has ended makes room')
  t.equal(host.count, 4)
  t.end()
})

t.test('a bucket starts full, and fills by time up to a second’s worth', t => {
  const rate = new QueryRate(4, 0)
  for (let n = 0; n < 4; n++) t.equal(rate.take(0), 0)
  t.equal(rate.take(0), 250, 'then it says how long to wait')
  t.equal(rate.take(250), 0)
  t.equal(rate.take(250), 250)
  for (let n = 0; n < 4; n++) t.equal(rate.take(60_000), 0)
  t.not(rate.take(60_000), 0)
  t.end()
})
