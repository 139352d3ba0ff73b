import { pino } from 'pino'
import t from 'tap'
import { DigestCheck, type DigestNote } from '#agent/observe/digest-check.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { parsePeerId } from '#model/ids.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

const [SELF, LEADER] = [parsePeerId(`12D3KooW${'a'.repeat(44)}`), parsePeerId(`12D3KooW${'b'.repeat(44)}`)]

/** A host that has applied this many entries; `digestAt` gives its digest at an index. */
function host(entries: number, digestAt: (index: number) => string): { check: DigestCheck; notes: DigestNote[] } {
  let index = 0
  const served: (() => unknown)[] = []
  const check = new DigestCheck({
    digest: () => digestAt(index),
    index: () => Math.min(index, entries) as LogIndex,
    repair: () => Promise.reject(new Error('nothing is repaired here')),
    leader: () => LEADER,
    self: SELF,
    followsFeed: () => false,
    ask: () => Promise.reject(new Error('nobody is asked here')),
    serve: (_, answer) => served.push(answer),
    clock: new ManualClock().clock,
    logger: pino({ level: 'silent' })
  })
  for (index = 1; index <= entries; index++) check.applied(index as LogIndex)
  check.start()
  check.stop()
  return { check, notes: served[0]?.() as DigestNote[] }
}

t.test('hosts with the same state agree, however far each has applied', async t => {
  const { check } = host(1_000, index => `d${index}`)
  check.compare(host(5_000, index => `d${index}`).notes)
  check.compare(host(100, index => `d${index}`).notes)
  t.equal(check.differsAt, null)
})

t.test('a difference is reported with the first index at which it was seen', async t => {
  const { check } = host(2_000, index => `d${index}`)
  check.compare(host(2_000, index => (index < 700 ? `d${index}` : `e${index}`)).notes)
  t.equal(check.differsAt, 704)
  check.compare(host(2_000, index => `f${index}`).notes)
  t.equal(check.differsAt, 704, 'which stays')
})

t.test('hosts without a common index are not compared', async t => {
  const { check } = host(50_000, index => `d${index}`)
  check.compare(host(1_000, index => `e${index}`).notes)
  t.equal(check.differsAt, null)
})

t.test('notes are bounded', async t => {
  t.equal(host(100_000, index => `d${index}`).notes.length, 256)
})

/** A check that compares with a leader, which answers with `answer`. */
function comparing(p: { readonly leader: PeerId | null; readonly answer: () => Promise<unknown> }): {
  readonly check: DigestCheck
  readonly time: ManualClock
  readonly asked: PeerId[]
} {
  const time = new ManualClock()
  const asked: PeerId[] = []
  const check = new DigestCheck({
    digest: () => 'ours',
    index: () => 64 as LogIndex,
    repair: () => Promise.reject(new Error('nothing is repaired here')),
    leader: () => p.leader,
    self: SELF,
    followsFeed: () => false,
    ask: peer => {
      asked.push(peer)
      return p.answer()
    },
    serve: () => undefined,
    clock: time.clock,
    logger: pino({ level: 'silent' })
  })
  check.applied(64 as LogIndex)
  check.start()
  return { check, time, asked }
}

t.test('the leader’s notes are compared every 5 s, until the check stops', async t => {
  const { check, time, asked } = comparing({ leader: LEADER, answer: () => Promise.resolve([[64, 'theirs']]) })
  await time.advance(4_999)
  t.same([asked.length, check.differsAt], [0, null])
  await time.advance(1)
  t.same([asked, check.differsAt], [[LEADER], 64])
  check.stop()
  await time.advance(60_000)
  t.equal(asked.length, 1)
})

t.test('a host does not ask while no leader is known, nor when it leads itself', async t => {
  for (const leader of [null, SELF]) {
    const { check, time, asked } = comparing({ leader, answer: () => Promise.resolve([[64, 'theirs']]) })
    await time.advance(20_000)
    t.same([asked, check.differsAt], [[], null])
  }
})

t.test('an answer that is malformed, or fails, is no difference', async t => {
  for (const answer of [null, 'x', {}, [64], [['64', 'x']], [[64, 7]], Array(257).fill([64, 'theirs'])] as unknown[]) {
    const { check, time, asked } = comparing({ leader: LEADER, answer: () => Promise.resolve(answer) })
    await time.advance(5_000)
    t.same([asked.length, check.differsAt], [1, null], JSON.stringify(answer).slice(0, 40))
  }
  const { check, time } = comparing({ leader: LEADER, answer: () => Promise.reject(new Error('unreachable')) })
  await time.advance(5_000)
  t.equal(check.differsAt, null)
})

t.test('hosts that reach no note compare their last entries', async t => {
  const { check } = host(10, () => 'a')
  check.compare(host(11, () => 'b').notes)
  t.equal(check.differsAt, null, 'they are at different indexes')
  check.compare(host(10, () => 'b').notes)
  t.equal(check.differsAt, 10)
})

for (const { claim, repair, repaired } of [
  { claim: 'a host whose state was replaced agrees again', repair: () => Promise.resolve(), repaired: true },
  { claim: 'a host that cannot be repaired goes on saying that it differs', repair: undefined, repaired: false }
]) {
  t.test(claim, async t => {
    const time = new ManualClock()
    let repairs = 0
    const check = new DigestCheck({
      digest: () => 'ours',
      index: () => 10 as LogIndex,
      repair: () => {
        repairs += 1
        return repair?.() ?? Promise.reject(new Error('this is a server'))
      },
      leader: () => LEADER,
      self: SELF,
      followsFeed: () => false,
      ask: () => Promise.resolve([[10, 'theirs']]),
      serve: () => undefined,
      clock: time.clock,
      logger: pino({ level: 'silent' })
    })
    check.start()
    await time.advance(5_000)
    check.stop()
    t.equal(repairs, 1)
    t.equal(check.differsAt, repaired ? null : 10)
  })
}

/** A client that has applied this many entries and follows the feed; `repairs` counts. */
function client(
  entries: number,
  digestAt: (index: number) => string
): {
  readonly check: DigestCheck
  readonly time: ManualClock
  readonly counts: { asked: number; repairs: number; applied: number }
} {
  const time = new ManualClock()
  const counts = { asked: 0, repairs: 0, applied: 0 }
  const check = new DigestCheck({
    digest: () => digestAt(counts.applied),
    index: () => counts.applied as LogIndex,
    repair: () => {
      counts.repairs += 1
      return Promise.resolve()
    },
    leader: () => LEADER,
    self: SELF,
    followsFeed: () => true,
    ask: () => {
      counts.asked += 1
      return Promise.resolve([])
    },
    serve: () => undefined,
    clock: time.clock,
    logger: pino({ level: 'silent' })
  })
  for (counts.applied = 1; counts.applied < entries; counts.applied++) check.applied(counts.applied as LogIndex)
  if (entries > 0) check.applied(counts.applied as LogIndex)
  check.start()
  return { check, time, counts }
}

t.test('a client compares with the notes of the leader’s beats and asks nobody', async t => {
  const leader = client(100, index => `d${index}`).check
  t.same(leader.latest(), [
    [64, '2 d64'],
    [100, '2 d100']
  ])
  const same = client(100, index => `d${index}`)
  same.check.heard(LEADER, leader.latest())
  await same.time.advance(60_000)
  t.same([same.check.differsAt, same.counts.asked, same.counts.repairs], [null, 0, 0])
  const other = client(100, index => `e${index}`)
  other.check.heard(LEADER, leader.latest())
  await other.time.advance(0)
  t.same([other.check.differsAt, other.counts.repairs], [null, 1], 'found at 64, repaired, and equal again')
})

t.test('a note that a client has not reached yet is compared when it has', async t => {
  const { check, counts } = client(60, index => `e${index}`)
  check.heard(LEADER, client(64, index => `d${index}`).check.latest())
  t.equal(check.differsAt, null)
  while (counts.applied < 64) check.applied(++counts.applied as LogIndex)
  t.equal(check.differsAt, 64)
})

t.test('notes of others than the leader, and of another version of the digest, are no difference', async t => {
  const { check, counts } = client(64, index => `d${index}`)
  check.heard(SELF, [[64, '2 x']])
  check.heard(LEADER, [
    [64, '1 x'],
    [64, '3 x'],
    [64, '']
  ])
  t.same([check.differsAt, counts.repairs], [null, 0])
})

t.test('the leader’s notes of entries to come are bounded', async t => {
  const { check, counts } = client(0, index => `e${index}`)
  for (let index = 64; index <= 64 * 10_000; index += 64) check.heard(LEADER, [[index, '2 d']])
  while (counts.applied < 64) check.applied(++counts.applied as LogIndex)
  t.equal(check.differsAt, null, 'the oldest are forgotten')
})
