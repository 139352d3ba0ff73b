import t from 'tap'
import type { PeerId, Term } from '#model/ids.ts'
import { LeaderHint } from '#replication/consensus/leader-hint.ts'

const [A, B] = ['a', 'b'] as unknown as [PeerId, PeerId]
const term = (n: number): Term => n as Term

t.test('nobody leads before there was word of it', t => {
  const word = new LeaderHint()
  t.same([word.leader(0), word.term], [null, 0])
  t.end()
})

t.test('a leader is known as long as it is heard, its term for ever', t => {
  const word = new LeaderHint()
  t.ok(word.update(A, term(2), 10_000))
  t.equal(word.leader(12_999), A)
  t.equal(word.leader(13_000), null, 'three seconds without a word')
  t.equal(word.term, 2)
  t.ok(word.update(A, term(2), 60_000))
  t.equal(word.leader(60_500), A, 'it is back')
  t.end()
})

t.test('word of an earlier term neither names a leader nor keeps one', t => {
  const word = new LeaderHint()
  word.update(B, term(3), 0)
  t.notOk(word.update(A, term(2), 2_000))
  t.equal(word.leader(2_000), B)
  t.equal(word.leader(3_000), null)
  t.equal(word.term, 3)
  t.ok(word.update(A, term(4), 3_000))
  t.equal(word.leader(3_000), A)
  t.end()
})
