// Mutants of the replicated state that the simulator must detect: the sums behind the digest no longer follow each change, so
// that a state that was restored from a snapshot differs from one that was applied.

import type { SourceMutant } from '../../mutant-loader.ts'

export const STATE_MUTANTS: readonly SourceMutant[] = [
  {
    name: 'cursor-restored-beside-the-digest',
    bug: 'a restored cursor is not in the digest',
    file: 'allocator/tables.ts',
    find: 'this.#moveCursor(pool, network.vni, () => pool.restoreCursor(cursor))',
    replace: 'pool.restoreCursor(cursor)'
  },
  {
    name: 'refusal-not-in-the-digest',
    bug: 'a refused request changes its session, and not the digest',
    file: 'allocator/sessions.ts',
    find: 'this.#rehash(session)\n    return outcome',
    replace: 'if (outcome.ok) this.#rehash(session)\n    return outcome'
  },
  {
    name: 'settled-answer-in-the-digest',
    bug: 'an answer that was settled stays in the digest',
    file: 'allocator/sessions.ts',
    find: '  answersHash.remove(remembered.hash)\n',
    replace: ''
  }
]
