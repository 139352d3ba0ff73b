// The applied log with the real allocator behind it.

import t from 'tap'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { encodeConfiguration } from '#raft/configuration.ts'
import type { Configuration, Entry } from '#raft/types.ts'
import { AppliedLog } from '#replication/consensus/applied-log.ts'
import { create } from '../../allocator/fixtures.ts'
import { sections, snapshotPart } from '../snapshots.ts'

const [ONE, TWO]: [Configuration, Configuration] = [
  { voters: ['a' as PeerId], learners: [] },
  { voters: ['a' as PeerId, 'b' as PeerId], learners: [] }
]

type Made = { readonly log: AppliedLog; readonly state: ClusterState; readonly reached: number[] }

function made(): Made {
  const state = new ClusterState()
  const reached: number[] = []
  const log = new AppliedLog({
    apply: (index, request) => state.apply(index, request),
    admit: () => null,
    notes: () => [],
    noted: () => undefined,
    rules: () => state.rules,
    skip: index => state.skip(index),
    ...snapshotPart(() => state),
    applied: index => reached.push(index)
  })
  return { log, state, reached }
}

const entry = (n: number, p: Partial<Entry> = {}): Entry => ({
  index: n as LogIndex,
  term: 3 as Term,
  kind: 'noop',
  data: new Uint8Array(),
  ...p
})
const command = (n: number, seq: number, body: Command): Entry =>
  entry(n, {
    kind: 'command',
    data: encodeMsgpack({ session: 's', seq, settledBelow: 0, command: body })
  })
const config = (n: number, configuration: Configuration): Entry =>
  entry(n, { kind: 'config', data: encodeConfiguration(configuration) })
const opened = command(1, 0, { kind: 'session-open' })

t.test('commands are applied in order, each with its outcome; other entries only advance the state', t => {
  const { log, state, reached } = made()
  log.begin(ONE)
  const results = log.apply([opened, command(2, 1, create('red')), entry(3), command(4, 2, create('red'))])
  t.match(results, [
    { index: 1, outcome: { ok: true } },
    { index: 2, outcome: { ok: true, result: { kind: 'network' } } },
    { index: 3, outcome: { ok: true } },
    { index: 4, outcome: { ok: false, error: { code: 'ERR_NETWORK_EXISTS' } } }
  ])
  t.equal(state.appliedIndex, 4)
  t.same(reached, [4], 'once per range')
  t.same(log.meta, { lastIndex: 4, lastTerm: 3, configuration: ONE })
  t.end()
})

t.test('an empty range changes nothing and is not reported', t => {
  const { log, reached } = made()
  t.same(log.apply([]), [])
  t.same(reached, [])
  t.equal(log.index, 0)
  t.end()
})

t.test('entries that were applied before are skipped, so that a log can be read again', t => {
  const { log, state } = made()
  log.begin(ONE)
  const entries = [opened, command(2, 1, create('red')), config(3, TWO)]
  log.apply(entries)
  log.begin(ONE)
  t.same(log.configuration, TWO, 'a log that is read again may end before what was applied')
  log.apply(entries.slice(0, 2))
  t.same(log.configuration, TWO)
  log.apply([...entries, command(4, 2, create('blue'))])
  t.equal(state.networkCount, 2)
  t.same(log.configuration, TWO)
  t.equal(log.index, 4)
  t.end()
})

t.test('a configuration counts from its entry on', t => {
  const { log } = made()
  log.begin(ONE)
  log.apply([config(1, TWO)])
  t.same(log.meta, { lastIndex: 1, lastTerm: 3, configuration: TWO })
  log.apply([config(2, ONE), entry(3, { term: 4 as Term })])
  t.same(log.meta, { lastIndex: 3, lastTerm: 4, configuration: ONE })
  t.end()
})

t.test('a snapshot restores state, position and configuration, and the log continues after it', async t => {
  const first = made()
  first.log.begin(ONE)
  first.log.apply([opened, command(2, 1, create('red')), config(3, TWO)])
  const { meta } = first.log
  const second = made()
  const prepared = await second.log.prepare(first.log.snapshot())
  t.equal(second.state.networkCount, 0, 'it is built beside the state in use')
  t.same([second.log.index, second.reached], [0, []])
  second.log.adopt(meta, prepared)
  t.same(second.reached, [3])
  t.same(second.log.meta, first.log.meta)
  second.log.apply([command(4, 2, create('blue'))])
  t.equal(second.state.networkCount, 2)
})

for (const [what, data] of [
  ['no msgpack', Buffer.alloc(9, 0xc1)],
  ['msgpack of something else', encodeMsgpack({ networks: 7 })],
  ['nothing', new Uint8Array()]
] as const) {
  t.test(`a snapshot that encodes no state is refused and changes nothing: ${what}`, async t => {
    const { log, state, reached } = made()
    log.apply([opened])
    await t.rejects(log.prepare(sections(...(data.byteLength === 0 ? [] : [data]))), { code: 'ERR_STORAGE' })
    t.equal(log.index, 1)
    t.equal(state.appliedIndex, 1)
    t.same(reached, [1])
  })
}

for (const [what, data] of [
  ['no msgpack', Buffer.alloc(9, 0xc1)],
  ['no request', encodeMsgpack(7)],
  ['a request of an unknown command', encodeMsgpack({ session: 's', seq: 0, settledBelow: 0, command: { kind: 'x' } })]
] as const) {
  t.test(`a committed command that cannot be read stops the replica instead of being skipped: ${what}`, t => {
    const { log, state } = made()
    t.throws(() => log.apply([entry(1, { kind: 'command', data })]))
    t.equal(state.appliedIndex, 0)
    t.end()
  })
}
