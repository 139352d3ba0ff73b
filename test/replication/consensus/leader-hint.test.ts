import t from 'tap'
import type { PeerId, Term } from '#model/ids.ts'
import { LeaderHint } from '#replication/consensus/leader-hint.ts'

const [A, B] = ['a', 'b'] as unknown as [PeerId, PeerId]
const term = (n: number): Term => n as Term

t.test('no leader is known at first', t => {
  const hint = new LeaderHint()
  t.same([hint.leader(0), hint.term], [null, 0])
  t.end()
})

t.test('a leader is known while its messages come, its term for ever', t => {
  const hint = new LeaderHint()
  t.ok(hint.update(A, term(2), 10_000))
  t.equal(hint.leader(12_999), A)
  t.equal(hint.leader(13_000), null, 'after three seconds of silence')
  t.equal(hint.term, 2)
  t.ok(hint.update(A, term(2), 60_000))
  t.equal(hint.leader(60_500), A, 'it is back')
  t.end()
})

t.test('a message of an earlier term neither names a leader nor keeps one alive', t => {
  const hint = new LeaderHint()
  hint.update(B, term(3), 0)
  t.notOk(hint.update(A, term(2), 2_000))
  t.equal(hint.leader(2_000), B)
  t.equal(hint.leader(3_000), null)
  t.equal(hint.term, 3)
  t.ok(hint.update(A, term(4), 3_000))
  t.equal(hint.leader(3_000), A)
  t.end()
})

t.test('once a leader is silent, an earlier term counts again: its own may have been false', t => {
  const hint = new LeaderHint()
  hint.update(B, term(2 ** 40), 0)
  t.notOk(hint.update(A, term(2), 2_999))
  t.ok(hint.update(A, term(2), 3_000))
  t.same([hint.leader(3_000), hint.term], [A, 2])
  t.end()
})
