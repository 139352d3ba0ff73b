import fc from 'fast-check'
import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { LogState } from '#replication/storage/log-state.ts'
import type { LogRecord } from '#replication/storage/wal-record.ts'

const entry = (index: number, term = 1): LogRecord => ({
  kind: 'entry',
  entry: { index: index as LogIndex, term: term as Term, kind: 'noop', data: new Uint8Array() }
})
const truncate = (from: number): LogRecord => ({ kind: 'truncate', from: from as LogIndex })
const commit = (index: number): LogRecord => ({ kind: 'commit', index: index as LogIndex })
const reset = (lastIndex: number, lastTerm: number): LogRecord => ({
  kind: 'reset',
  position: { lastIndex: lastIndex as LogIndex, lastTerm: lastTerm as Term }
})
const origin = (clusterId: string): LogRecord => ({
  kind: 'origin',
  origin: { clusterId: clusterId as ClusterId, configuration: { voters: ['a' as PeerId], learners: [] } }
})

function folded(...records: LogRecord[]): LogState {
  const state = new LogState()
  for (const record of records) state.fold(record)
  return state
}

const termsOf = (state: LogState, upTo: number): (number | undefined)[] =>
  Array.from({ length: upTo + 1 }, (_, index) => state.termAt(index as LogIndex))

t.test('entries, truncations and commits give last index, commit index and terms', t => {
  const state = folded(entry(1), entry(2), entry(3, 2), truncate(2), entry(2, 4), entry(3, 4), commit(2), commit(1))
  t.match(state, { lastIndex: 3, commitIndex: 2 }, 'a commit index never decreases')
  t.same(termsOf(state, 4), [0, 1, 4, 4, undefined])
  t.end()
})

t.test('a reset drops all entries and continues after its position', t => {
  const state = folded(entry(1), entry(2), reset(10, 3), entry(11, 5))
  t.match(state, { lastIndex: 11, commitIndex: 10 })
  t.same(termsOf(state, 11).slice(9), [undefined, 3, 5])
  t.end()
})

t.test('a truncation beyond the end changes nothing', t => {
  t.match(folded(entry(1), truncate(5)), { lastIndex: 1 })
  t.end()
})

t.test('records that contradict the log are refused', t => {
  for (const [what, records, message] of [
    ['a gap', [entry(1), entry(3)], /entry 3 after entry 1/],
    ['a repetition', [entry(1), entry(1)], /entry 1 after entry 1/],
    ['a first entry that is not 1', [entry(2)], /entry 2 after entry 0/],
    ['a truncation of committed entries', [entry(1), commit(1), truncate(1)], /committed and would be truncated/],
    ['a reset before the commit index', [entry(1), entry(2), commit(2), reset(1, 1)], /restart after entry 1/],
    ['another cluster', [origin('c1'), origin('c2')], /cluster c1 and to cluster c2/]
  ] as const) {
    t.throws(() => folded(...records), { code: 'ERR_STORAGE', message }, what)
  }
  t.equal(folded(origin('c1'), origin('c1')).origin?.clusterId, 'c1', 'the same cluster again is accepted')
  t.end()
})

t.test('a segment head restores the state of any log without its entries', t => {
  const steps = fc.array(fc.constantFrom('entry', 'new term', 'truncate', 'commit'), { maxLength: 40 })
  fc.assert(
    fc.property(steps, kinds => {
      const state = folded(origin('c1'))
      let term = 1
      for (const kind of kinds) {
        if (kind === 'new term') {
          term += 1
          state.fold({ kind: 'hard-state', hardState: { term: term as Term, votedFor: 'a' as PeerId } })
        } else if (kind === 'truncate') state.fold(truncate(Math.max(state.commitIndex + 1, state.lastIndex)))
        else if (kind === 'commit') state.fold(commit(state.lastIndex))
        else state.fold(entry(state.lastIndex + 1, term))
      }
      const restored = folded({ kind: 'segment', head: state.head() })
      t.same(restored.head(), state.head())
    }),
    { numRuns: 300 }
  )
  t.end()
})
