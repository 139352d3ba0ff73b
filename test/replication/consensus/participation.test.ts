import t from 'tap'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { encodeConfiguration } from '#raft/configuration.ts'
import type { Configuration, DurableState, Entry } from '#raft/types.ts'
import { configurationAfter, hasWrongRole, mustTakePart, takesPart } from '#replication/consensus/participation.ts'

const [A, B, C] = ['a', 'b', 'c'] as [PeerId, PeerId, PeerId]
const of = (voters: PeerId[], p: Partial<Configuration> = {}): Configuration => ({ voters, learners: [], ...p })
const [ONLY_A, BOTH] = [of([A]), of([A, B])]

const config = (n: number, configuration: Configuration): Entry => ({
  index: n as LogIndex,
  term: 1 as Term,
  kind: 'config',
  data: encodeConfiguration(configuration)
})
const command = (n: number): Entry => ({
  index: n as LogIndex,
  term: 1 as Term,
  kind: 'command',
  data: Buffer.from('x')
})

t.test('the last configuration among entries counts, without one the configuration before them', t => {
  t.same(configurationAfter(ONLY_A, []), ONLY_A)
  t.same(configurationAfter(ONLY_A, [command(1), command(2)]), ONLY_A)
  t.same(configurationAfter(ONLY_A, [config(1, BOTH), command(2), config(3, of([C])), command(4)]), of([C]))
  t.throws(() => configurationAfter(ONLY_A, [{ ...command(1), kind: 'config' }]), /malformed config entry/)
  t.end()
})

for (const { what, configuration, incarnation = 0, expected } of [
  { what: 'a voter', configuration: BOTH, expected: true },
  { what: 'a learner', configuration: of([A], { learners: [B] }), expected: true },
  { what: 'a host that is not named', configuration: ONLY_A, expected: false },
  { what: 'a later disk of a founder', configuration: BOTH, incarnation: 7, expected: false },
  {
    what: 'the disk that was added',
    configuration: of([A, B], { incarnations: { b: 7 } }),
    incarnation: 7,
    expected: true
  },
  {
    what: 'another disk than was added',
    configuration: of([A, B], { incarnations: { b: 7 } }),
    incarnation: 8,
    expected: false
  },
  {
    what: 'a founder whose disk was replaced by another',
    configuration: of([A, B], { incarnations: { b: 7 } }),
    expected: false
  }
]) {
  t.test(`${what} ${expected ? 'takes' : 'does not take'} part`, t => {
    t.equal(takesPart(configuration, { self: B, incarnation }), expected)
    t.end()
  })
}

for (const { what, durable = {}, origin = ONLY_A, expected } of [
  { what: 'founded it', origin: BOTH, expected: true },
  { what: 'joined it and is not in any configuration', expected: false },
  { what: 'is in the snapshot', durable: { snapshot: BOTH }, expected: true },
  { what: 'founded it and is not in the snapshot', origin: BOTH, durable: { snapshot: ONLY_A }, expected: false },
  {
    what: 'was added, as far as is committed',
    durable: { entries: [config(1, BOTH)], commitIndex: 1 },
    expected: true
  },
  {
    what: 'was added, and may be only in the log',
    durable: { entries: [config(1, BOTH)], commitIndex: 0 },
    expected: true
  },
  {
    what: 'was removed, as far as is committed',
    origin: BOTH,
    durable: { entries: [config(1, ONLY_A)], commitIndex: 1 },
    expected: false
  },
  {
    what: 'was removed in an entry that may not be committed',
    origin: BOTH,
    durable: { entries: [command(1), config(2, ONLY_A)], commitIndex: 1 },
    expected: true
  },
  {
    what: 'was removed and added again',
    durable: { entries: [config(1, ONLY_A), config(2, BOTH)], commitIndex: 1 },
    expected: true
  }
] satisfies {
  what: string
  durable?: { entries?: Entry[]; commitIndex?: number; snapshot?: Configuration }
  origin?: Configuration
  expected: boolean
}[]) {
  t.test(`a host that ${what} ${expected ? 'must take' : 'does not take'} part at its start`, t => {
    const {
      entries = [],
      commitIndex = 0,
      snapshot
    } = durable as {
      entries?: Entry[]
      commitIndex?: number
      snapshot?: Configuration
    }
    const state: DurableState = {
      hardState: { term: 1 as Term, votedFor: null },
      entries,
      commitIndex: commitIndex as LogIndex,
      snapshot:
        snapshot === undefined ? null : { lastIndex: 0 as LogIndex, lastTerm: 1 as Term, configuration: snapshot }
    }
    t.equal(mustTakePart({ self: B, incarnation: 0, durable: state, origin }), expected)
    t.end()
  })
}

const log = (
  configuration: Configuration,
  configurationCommitted = true
): Parameters<typeof hasWrongRole>[0]['log'] => ({
  configuration,
  configurationCommitted
})
for (const { what, applied, log: own, expected } of [
  { what: 'a client that was added', applied: BOTH, log: null, expected: true },
  { what: 'a client that was not', applied: ONLY_A, log: null, expected: false },
  { what: 'a voter of the committed configuration', applied: BOTH, log: log(BOTH), expected: false },
  { what: 'a voter whose removal is committed and applied', applied: ONLY_A, log: log(ONLY_A), expected: true },
  {
    what: 'a voter whose removal is in its log and not committed',
    applied: BOTH,
    log: log(ONLY_A, false),
    expected: false
  },
  { what: 'a voter whose removal is committed and not applied', applied: BOTH, log: log(ONLY_A), expected: false },
  { what: 'a voter that was added again in its log', applied: ONLY_A, log: log(BOTH), expected: false },
  { what: 'a voter that was added again, not committed', applied: ONLY_A, log: log(BOTH, false), expected: false },
  {
    what: 'a removed voter with a later change that is not committed',
    applied: ONLY_A,
    log: log(of([A, C]), false),
    expected: false
  }
]) {
  t.test(`${what} has ${expected ? 'the wrong' : 'the right'} role`, t => {
    t.equal(hasWrongRole({ self: B, incarnation: 0, applied, log: own }), expected)
    t.end()
  })
}
