import t from 'tap'
import type { PeerId } from '#model/ids.ts'
import type { Message } from '#raft/types.ts'
import { Cluster, type Server } from './cluster.ts'

type Chunk = Extract<Message, { readonly kind: 'install-request' }>

/** s1 leads and has compacted entries 1 to 4, none of which s3 has; chunks are 4 bytes. */
function clusterWithCompactedLog(): { readonly cluster: Cluster; readonly s1: Server; readonly s3: Server } {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.campaign('s1', 's1', 's2')
  const s1 = cluster.at('s1')
  cluster.settle('s1', 's2')
  for (const text of ['a', 'b', 'c']) s1.propose(text)
  cluster.settle('s1', 's2')
  s1.takeSnapshot('state of abc')
  return { cluster, s1, s3: cluster.at('s3') }
}

/** Runs until s1 finds that s3 needs the snapshot. @returns the first chunk */
function firstChunk(cluster: Cluster): Chunk {
  for (let n = 0; n < 20; n++) {
    cluster.at('s1').advance(50)
    cluster.deliverUntil('install-request', 's1', 's3')
    const chunk = cluster.take({ kind: 'install-request' }).find(m => m.kind === 'install-request' && m.data.length > 0)
    cluster.settle('s1', 's2')
    if (chunk?.kind === 'install-request') return chunk
  }
  throw new Error('no snapshot was sent')
}

/** All chunks of the transfer, in order. */
function chunks(cluster: Cluster): Chunk[] {
  const all = [firstChunk(cluster)]
  for (let last = all[0]; last !== undefined && last.offset + last.data.length < last.size; last = all.at(-1)) {
    const reply = { kind: 'install-reply', lastIndex: last.meta.lastIndex, done: false, round: last.round } as const
    const { term, clusterId, incarnation } = last
    const ends = { from: 's3' as PeerId, to: 's1' as PeerId, term, clusterId, incarnation }
    cluster.deliver({ ...reply, ...ends, offset: last.offset + last.data.length })
    all.push(...cluster.take({ kind: 'install-request' }).filter(m => m.kind === 'install-request'))
  }
  return all
}

t.test('a follower that needs compacted entries gets the snapshot and then the later entries', t => {
  const { cluster, s1, s3 } = clusterWithCompactedLog()
  s1.propose('after')
  cluster.advance(2_000)
  t.same(s3.applied, ['state of abc', 'after'])
  t.equal(s3.state.log.baseIndex, 4)
  s3.restart()
  t.same([s3.state.log.baseIndex, s3.state.log.lastIndex, s3.state.snapshot?.meta.lastIndex], [4, 5, 4])
  t.end()
})

t.test('a snapshot is acknowledged only once it is durable', t => {
  const { cluster, s3 } = clusterWithCompactedLog()
  const all = chunks(cluster)
  t.equal(all.length, 3)
  s3.holdDisk = true
  cluster.deliver(...all)
  t.same(
    cluster.take({ kind: 'install-reply' }).filter(m => m.kind === 'install-reply' && m.done),
    []
  )
  s3.sync()
  t.match(cluster.take({ kind: 'install-reply' }).at(-1), { done: true, lastIndex: 4 })
  t.end()
})

t.test('a crash after any chunk restarts the transfer, and no partial snapshot is ever visible', t => {
  const { cluster, s3 } = clusterWithCompactedLog()
  const all = chunks(cluster)
  for (let until = 1; until < all.length; until++) {
    cluster.deliver(...all.slice(0, until))
    t.equal(s3.state.incoming?.received, 4 * until)
    s3.restart()
    t.same([s3.state.incoming, s3.state.log.lastIndex, s3.state.snapshot], [null, 0, null])
  }
  cluster.take()
  cluster.deliver(...all)
  t.same(s3.applied, ['state of abc'])
  t.end()
})

t.test('in every order of duplicated chunks, the state is the whole snapshot or unchanged', t => {
  const { cluster, s3 } = clusterWithCompactedLog()
  const all = chunks(cluster)
  let installed = 0
  for (const order of permutations([0, 1, 2, 0, 1, 2])) {
    s3.wipe(0)
    for (const at of order) {
      const chunk = all[at]
      if (chunk !== undefined) cluster.deliver(chunk)
      t.ok(s3.applied.length === 0 || s3.applied[0] === 'state of abc')
    }
    if (s3.applied.length > 0) installed += 1
    cluster.take()
  }
  t.ok(installed > 0)
  t.end()
})

t.test('a snapshot older than the log changes nothing and is acknowledged', t => {
  const { cluster, s3 } = clusterWithCompactedLog()
  const all = chunks(cluster)
  cluster.advance(2_000)
  const before = s3.state.log.lastIndex
  cluster.deliver(...all)
  t.equal(s3.state.log.lastIndex, before)
  t.same(
    s3.effectKinds().filter(kind => kind === 'install'),
    []
  )
  t.match(cluster.take({ kind: 'install-reply' }).at(-1), { done: true })
  t.end()
})

t.test('a snapshot whose last entry is in the log keeps the later entries', t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  const [s1, s3] = [cluster.at('s1'), cluster.at('s3')]
  for (const text of ['a', 'b', 'c']) s1.propose(text)
  // s3 has all entries on disk and does not know that they are committed.
  cluster.deliver(
    ...cluster
      .take({ to: 's3' })
      .map(m => (m.kind === 'append-request' ? { ...m, leaderCommit: s3.state.commitIndex } : m))
  )
  const { lastIndex } = s3.state.log
  cluster.settle('s1', 's2')
  const meta = { lastIndex: s1.state.commitIndex, lastTerm: s1.state.term, configuration: s1.state.configuration }
  const lower = { ...meta, lastIndex: (meta.lastIndex - 1) as typeof meta.lastIndex }
  const { clusterId, term } = s1.state
  cluster.deliver({
    kind: 'install-request',
    from: s1.id,
    to: s3.id,
    clusterId,
    term,
    incarnation: 0,
    meta: lower,
    size: 3,
    offset: 0,
    data: Buffer.from('abc'),
    round: 1
  })
  t.same([s3.state.log.lastIndex, s3.state.commitIndex], [lastIndex, lower.lastIndex])
  t.notOk(s3.effectKinds().includes('install'))
  t.end()
})

t.test('a newer snapshot supersedes an older transfer, and late chunks of the older one are ignored', t => {
  const { cluster, s1, s3 } = clusterWithCompactedLog()
  const older = chunks(cluster)
  cluster.deliver(...older.slice(0, 2))
  s1.propose('d')
  cluster.settle('s1', 's2')
  s1.takeSnapshot('state of abcd')
  const { meta } = s1.state.snapshot ?? {}
  const chunk = older[0]
  if (meta === undefined || chunk === undefined) throw new Error('no snapshot')
  const newer = { ...chunk, meta, size: 13 }
  cluster.deliver({ ...newer, data: Buffer.from('state') })
  t.equal(s3.state.incoming?.meta.lastIndex, 5)
  cluster.deliver(...older)
  t.equal(s3.state.incoming?.received, 5)
  cluster.deliver({ ...newer, offset: 5, data: Buffer.from(' of abcd') })
  t.same(s3.applied, ['state of abcd'])
  t.end()
})

t.test('chunks of two leaders’ snapshots of the same index are never mixed', t => {
  const { cluster, s3 } = clusterWithCompactedLog()
  const all = chunks(cluster)
  cluster.deliver(...all.slice(0, 2))
  const later = all.map(chunk => ({ ...chunk, from: 's2' as PeerId, term: (chunk.term + 1) as typeof chunk.term }))
  cluster.deliver(...later.slice(2))
  t.same(s3.applied, [], 'the third chunk of the new leader does not continue the second of the old one')
  cluster.deliver(...later)
  t.same(s3.applied, ['state of abc'])
  t.end()
})

t.test('entries that arrive during a transfer do not disturb it', t => {
  const { cluster, s1, s3 } = clusterWithCompactedLog()
  const all = chunks(cluster)
  const { clusterId, term } = s1.state
  const ends = { from: s1.id, to: s3.id, clusterId, term, incarnation: 0 }
  const stray = {
    ...ends,
    kind: 'append-request',
    prevIndex: s1.state.log.lastIndex,
    prevTerm: s1.state.log.lastTerm,
    entries: [],
    leaderCommit: s1.state.commitIndex,
    round: 1
  } as const
  for (const chunk of all) cluster.deliver(stray, chunk, stray)
  t.same(s3.applied, ['state of abc'])
  t.equal(s3.state.commitIndex, 4)
  t.end()
})

t.test('a snapshot larger than the limit is not received', t => {
  const { cluster, s3 } = clusterWithCompactedLog()
  const chunk = chunks(cluster)[0]
  if (chunk === undefined) throw new Error('no chunk')
  cluster.deliver({ ...chunk, size: 1_001 })
  t.same([s3.state.incoming, cluster.take({ kind: 'install-reply' })], [null, []])
  t.end()
})

t.test('no entries are sent during a snapshot transfer', t => {
  const { cluster, s1 } = clusterWithCompactedLog()
  firstChunk(cluster)
  for (let n = 0; n < 5; n++) s1.propose('x')
  s1.advance(400)
  t.same(cluster.take({ to: 's3', kind: 'append-request' }), [])
  const heartbeats = cluster.take({ to: 's3', kind: 'install-request' })
  t.ok(heartbeats.length >= 3)
  t.ok(
    heartbeats.every(m => m.kind === 'install-request' && m.data.length === 0),
    'only heartbeats are'
  )
  t.end()
})

function* permutations(items: readonly number[]): Generator<readonly number[]> {
  const seen = new Set<string>()
  const walk = function* (left: readonly number[], taken: readonly number[]): Generator<readonly number[]> {
    if (left.length === 0 && !seen.has(taken.join())) {
      seen.add(taken.join())
      yield taken
    }
    for (const [at, item] of left.entries()) {
      if (left.indexOf(item) === at) yield* walk(left.toSpliced(at, 1), [...taken, item])
    }
  }
  yield* walk(items, [])
}
