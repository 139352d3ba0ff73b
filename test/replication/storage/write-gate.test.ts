import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Effect, Entry } from '#raft/types.ts'
import { WriteGate } from '#replication/storage/write-gate.ts'

type Of<K extends Effect['kind']> = Extract<Effect, { readonly kind: K }>

const entry = (index: number): Entry => ({
  index: index as LogIndex,
  term: 1 as Term,
  kind: 'command',
  data: Buffer.alloc(0)
})
const persist = (...entries: Entry[]): Of<'persist'> => ({
  kind: 'persist',
  hardState: null,
  truncateFrom: null,
  entries
})
const install: Of<'install'> = {
  kind: 'install',
  snapshot: {
    meta: { lastIndex: 9 as LogIndex, lastTerm: 1 as Term, configuration: { voters: ['a' as PeerId], learners: [] } },
    data: Buffer.from('state')
  }
}
const send = (term: number, beforePersist = false): Of<'send'> => ({
  kind: 'send',
  beforePersist,
  message: {
    kind: 'timeout-now',
    clusterId: 'c' as ClusterId,
    from: 'a' as PeerId,
    to: 'b' as PeerId,
    term: term as Term,
    incarnation: 0
  }
})

t.test('persists requested while a write is in flight go into the next batch', t => {
  const gate = new WriteGate()
  t.equal(gate.next(), null)
  gate.persist(persist(entry(1)))
  const first = gate.next()
  gate.persist(persist(entry(2)))
  gate.persist(persist(entry(3)))
  t.equal(gate.next(), null, 'one at a time')
  if (first === null) throw new Error('no batch')
  gate.written(first)
  t.match(gate.next(), { kind: 'append', records: [{ entry: { index: 2 } }, { entry: { index: 3 } }], count: 3 })
  t.end()
})

t.test('a message waits for every persist before it, and for none after it', t => {
  const gate = new WriteGate()
  t.ok(gate.admit(send(1)), 'nothing is in flight')
  gate.persist(persist(entry(1)))
  t.notOk(gate.admit(send(2)))
  t.ok(gate.admit(send(3, true)), 'a leader replicates while it writes')
  const first = gate.next()
  gate.persist(persist(entry(2)))
  t.notOk(gate.admit(send(4)))
  if (first === null) throw new Error('no batch')
  t.match(gate.written(first), [{ term: 2 }])
  const second = gate.next()
  if (second === null) throw new Error('no batch')
  t.match(gate.written(second), [{ term: 4 }])
  t.end()
})

t.test('a snapshot is a batch of its own, written in order', t => {
  const gate = new WriteGate()
  gate.persist(persist(entry(1)))
  gate.install(install)
  t.notOk(gate.admit(send(1)))
  gate.persist(persist(entry(10)))
  const kinds: string[] = []
  for (let batch = gate.next(); batch !== null; batch = gate.next()) {
    kinds.push(`${batch.kind} ${batch.count} ${gate.written(batch).length}`)
  }
  t.same(kinds, ['append 1 0', 'install 2 1', 'append 3 0'])
  t.end()
})
