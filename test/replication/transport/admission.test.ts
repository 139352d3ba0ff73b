// Which connections are accepted, by a clock that the tests advance.

import t from 'tap'
import { createLogger } from '#platform/log.ts'
import {
  Admission,
  SOURCE_BURST,
  SOURCE_PER_SECOND,
  SOURCE_UNPROVEN,
  STRANGERS_BURST,
  STRANGERS_UNPROVEN
} from '#replication/transport/admission.ts'
import { Refusals } from '#replication/transport/refusals.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

const MEMBER = '192.0.2.1'
const MEMBER6 = 'fd00::1'

function world(): { admission: Admission; clock: ManualClock; refusals: Refusals } {
  const manual = new ManualClock()
  const { clock } = manual
  const refusals = new Refusals({ clock, logger: createLogger('silent') })
  const admission = new Admission({ isMember: address => [MEMBER, MEMBER6].includes(address), refusals, clock })
  return { admission, clock: manual, refusals }
}

/** How many of `count` connections are admitted. */
function admitted(admission: Admission, count: number, address: (n: number) => string): number {
  return Array.from({ length: count }, (_, n) => admission.admits(address(n))).filter(Boolean).length
}

const stranger = (n: number): string => `198.51.${n >> 8}.${n & 255}`

t.test('a source has a burst, and a rate after it', async t => {
  const { admission, clock, refusals } = world()
  t.equal(
    admitted(admission, 5_000, () => '198.51.100.1'),
    SOURCE_BURST
  )
  t.equal(refusals.totals['too many connections'], 5_000 - SOURCE_BURST)
  await clock.advance(1_000)
  t.equal(
    admitted(admission, 5_000, () => '198.51.100.1'),
    SOURCE_PER_SECOND
  )
  await clock.advance(3_600_000)
  t.equal(
    admitted(admission, 5_000, () => '198.51.100.1'),
    SOURCE_BURST,
    'the burst is not saved up'
  )
})

t.test('a hundred hosts behind one address restart at once, five dials each', async t => {
  t.equal(
    admitted(world().admission, 500, () => '198.51.100.1'),
    500
  )
})

t.test('strangers have a bound together, members are exempt from it', async t => {
  const { admission } = world()
  t.equal(admitted(admission, 20_000, stranger), STRANGERS_BURST)
  t.notOk(admission.admits('203.0.113.1'), 'a stranger more')
  t.equal(
    admitted(admission, 100, () => MEMBER),
    100,
    'a member'
  )
})

t.test('a source beyond its bound leaves the strangers’ to others', async t => {
  const { admission, clock } = world()
  for (let second = 0; second < 20; second++) {
    admitted(admission, 10_000, () => '198.51.100.1')
    await clock.advance(1_000)
    t.ok(admission.admits(stranger(second)), `second ${second}`)
  }
})

t.test('unproven connections are bounded for a source and for all strangers, until they end', async t => {
  const { admission, clock } = world()
  const open = Array.from({ length: SOURCE_UNPROVEN }, () => admission.startProof('198.51.100.1'))
  await clock.advance(60_000)
  t.notOk(admission.admits('198.51.100.1'))
  t.ok(admission.admits('198.51.100.2'), 'another source')
  open[0]?.()
  t.ok(admission.admits('198.51.100.1'), 'as soon as one has ended')
  for (let n = 0; n < STRANGERS_UNPROVEN - SOURCE_UNPROVEN + 1; n++) admission.startProof(stranger(n))
  t.notOk(admission.admits('198.51.100.2'), 'all strangers together')
  t.ok(admission.admits(MEMBER), 'not a member')
})

t.test('a member is bounded, too', async t => {
  const { admission } = world()
  t.equal(
    admitted(admission, 5_000, () => MEMBER),
    SOURCE_BURST
  )
})

t.test('of strangers a /64 is one source, and a member in it has bounds of its own', async t => {
  const { admission, clock } = world()
  const inLink = (n: number): string => `fd00::${n.toString(16)}:7`
  t.equal(admitted(admission, 600, inLink), SOURCE_BURST, 'however many addresses of it connect')
  t.notOk(admission.admits('fd00::2'), 'another one of the /64')
  t.ok(admission.admits('fd00:0:0:1::2'), 'one of the next /64')
  t.equal(
    admitted(admission, 100, () => 'FD00:0::1'),
    100,
    'a member, however its address is written'
  )
  await clock.advance(1_000)
  t.equal(admitted(admission, 600, inLink), SOURCE_PER_SECOND)
})

t.test('unproven connections of a /64 are counted together', async t => {
  const { admission } = world()
  const open = Array.from({ length: SOURCE_UNPROVEN }, (_, n) => admission.startProof(`fd00:1::${n.toString(16)}`))
  t.notOk(admission.admits('fd00:1::ffff'))
  t.ok(admission.admits('fd00:2::1'), 'another source')
  open[0]?.()
  t.ok(admission.admits('fd00:1::ffff'), 'as soon as one has ended')
})

t.test('the zone of a link-local address is no part of its source', async t => {
  const { admission } = world()
  t.equal(
    admitted(admission, 600, n => `fe80::${n.toString(16)}%eth${n % 2}`),
    SOURCE_BURST
  )
})
