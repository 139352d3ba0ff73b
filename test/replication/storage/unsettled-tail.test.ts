// A former voter's log converges to the committed entries without losing an entry that may be committed.

import fc from 'fast-check'
import t from 'tap'
import type { LogIndex, Term } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'
import { UnsettledTail } from '#replication/storage/unsettled-tail.ts'

const entry = (index: number, term: number): Entry => ({
  index: index as LogIndex,
  term: term as Term,
  kind: 'command',
  data: Uint8Array.from([index, term])
})

/** A log's entries after `settle`'s records; throws where a real log would. */
function written(log: readonly Entry[], tail: UnsettledTail, committed: readonly Entry[]): Entry[] {
  let entries = [...log]
  for (const record of tail.settle(committed)) {
    if (record.kind === 'truncate') entries = entries.filter(({ index }) => index < record.from)
    else if (record.kind === 'entry') {
      const last = entries.at(-1)?.index ?? record.entry.index - 1
      if (record.entry.index !== last + 1) throw new Error(`entry ${record.entry.index} after ${last}`)
      entries.push(record.entry)
    }
  }
  return entries
}

t.test('entries that the log already holds are not written again, and later ones are', async t => {
  const log = [entry(5, 2), entry(6, 2)]
  const tail = new UnsettledTail(log)
  t.same(tail.settle([entry(5, 2)]), [])
  t.same(tail.settle([entry(6, 2), entry(7, 3)]), [{ kind: 'entry', entry: entry(7, 3) }])
})

t.test('the first conflicting committed entry truncates the tail, and no earlier one does', async t => {
  const tail = new UnsettledTail([entry(5, 2), entry(6, 2), entry(7, 2)])
  t.same(tail.settle([entry(5, 2), entry(6, 3)]), [
    { kind: 'truncate', from: 6 },
    { kind: 'entry', entry: entry(6, 3) }
  ])
  t.same(tail.settle([entry(7, 3)]), [{ kind: 'entry', entry: entry(7, 3) }], 'and it is truncated only once')
})

t.test('a snapshot replaces a log that does not contain its last entry', async t => {
  const log = [entry(5, 2), entry(6, 2)]
  const at = (lastIndex: number, lastTerm: number) => ({ lastIndex: lastIndex as LogIndex, lastTerm: lastTerm as Term })
  t.equal(new UnsettledTail(log).yieldsTo(at(9, 3)), true, 'beyond the log')
  t.equal(new UnsettledTail(log).yieldsTo(at(5, 3)), true, 'another term')
  t.equal(new UnsettledTail(log).yieldsTo(at(5, 2)), false, 'the log continues after it')
  t.equal(new UnsettledTail([]).yieldsTo(at(5, 2)), true)
})

t.test('whatever the page sizes, the log converges to the committed entries and never loses one', () => {
  const terms = (maxLength: number): fc.Arbitrary<number[]> => fc.array(fc.integer({ min: 1, max: 3 }), { maxLength })
  // Terms grow along a log, and logs that have an entry in common are equal up to it.
  const rising = (list: readonly number[]): Entry[] => [...list].sort().map((term, n) => entry(n + 1, term))
  const pages = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 12, maxLength: 12 })
  const property = fc.property(terms(8), terms(12), pages, (held, decided, sizes) => {
    const committed = rising(decided)
    const matching = (log: readonly Entry[]): number => {
      const mismatch = log.findIndex(({ term }, n) => committed[n]?.term !== term)
      return mismatch < 0 ? log.length : mismatch
    }
    let log = rising(held)
    const tail = new UnsettledTail(log)
    let from = 0
    for (const size of sizes) {
      const before = matching(log)
      log = written(log, tail, committed.slice(from, from + size))
      from += size
      if (matching(log) < before) return false
    }
    return matching(log) >= committed.length
  })
  fc.assert(property, { numRuns: 2_000 })
  return Promise.resolve()
})
