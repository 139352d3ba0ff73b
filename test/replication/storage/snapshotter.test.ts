import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import { Snapshotter } from '#replication/storage/snapshotter.ts'
import type { SnapshotStore } from '#replication/storage/snapshot-store.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const CLUSTER = 'c1' as ClusterId
const CONFIGURATION = { voters: ['a' as PeerId], learners: [] }
const MIN_BYTES = 100

type Setup = {
  readonly disk: SimulatedDisk
  readonly snapshotter: Snapshotter
  readonly snapshots: SnapshotStore
  readonly taken: SnapshotMeta[]
  readonly failed: VxmeshError[]
  /** Snapshots whose data is still being serialised, by their last index. */
  readonly pending: Map<number, PromiseWithResolvers<Uint8Array>>
  /** The state can be captured. */
  known: boolean
  /** Appends an entry of so many bytes and applies it. */
  apply(bytes: number): Promise<void>
}

async function setup(): Promise<Setup> {
  const disk = new SimulatedDisk()
  const options = { clock: systemClock, files: disk, segmentBytes: 512, reserveBytes: 0 }
  const { wal, snapshots } = await openStorage('/data', 'a' as PeerId, options)
  await wal.append([{ kind: 'origin', origin: { clusterId: CLUSTER, configuration: CONFIGURATION } }])
  snapshots.belong(CLUSTER)
  let lastIndex = 0
  const meta = (): SnapshotMeta | undefined =>
    made.known ? { lastIndex: lastIndex as LogIndex, lastTerm: 1 as Term, configuration: CONFIGURATION } : undefined
  const pendingSections = (): AsyncGenerator<Uint8Array> => {
    const data = Promise.withResolvers<Uint8Array>()
    data.promise.catch(() => undefined)
    made.pending.set(lastIndex, data)
    return (async function* () {
      yield await data.promise
    })()
  }
  const made: Setup = {
    disk,
    snapshots,
    taken: [],
    failed: [],
    pending: new Map(),
    known: true,
    snapshotter: new Snapshotter({
      wal,
      snapshots,
      meta,
      sections: pendingSections,
      taken: ({ meta }) => made.taken.push(meta),
      failed: err => made.failed.push(err),
      minBytes: MIN_BYTES
    }),
    apply: async bytes => {
      lastIndex += 1
      const entry = {
        index: lastIndex as LogIndex,
        term: 1 as Term,
        kind: 'noop' as const,
        data: new Uint8Array(bytes)
      }
      await wal.append([{ kind: 'entry', entry }])
      made.snapshotter.applied(bytes)
    }
  }
  return made
}

async function serialise({ pending, snapshotter }: Setup, lastIndex: number, bytes: number): Promise<void> {
  pending.get(lastIndex)?.resolve(new Uint8Array(bytes))
  await snapshotter.settled()
}

const segments = (disk: SimulatedDisk): number => disk.paths().filter(path => path.endsWith('.seg')).length

t.test('a snapshot is taken at the threshold, saved, reported, and the log is compacted', async t => {
  const s = await setup()
  for (let n = 0; n < 9; n++) await s.apply(11)
  t.equal(s.pending.size, 0, '99 of 100 bytes')
  await s.apply(1)
  t.same([...s.pending.keys()], [10])
  t.same(s.taken, [], 'not reported before it is durable')
  const before = segments(s.disk)
  t.ok(before > 1)
  await serialise(s, 10, 50)
  t.match(s.taken, [{ lastIndex: 10 }])
  t.ok(segments(s.disk) < before)
  t.ok(s.disk.paths().includes('/data/snapshot/0000000000000010.snap'))
})

t.test('after a large snapshot the threshold is half of its size', async t => {
  const s = await setup()
  await s.apply(100)
  await serialise(s, 1, 1_000)
  const half = Math.ceil((s.snapshots.latest?.size ?? 0) / 2)
  t.ok(half > 500)
  await s.apply(half - 1)
  t.equal(s.pending.size, 1)
  await s.apply(1)
  t.equal(s.pending.size, 2)
  await serialise(s, 3, 1)
})

t.test('while a snapshot is in flight no other one is taken, and its entries count for the next', async t => {
  const s = await setup()
  await s.apply(100)
  await s.apply(100)
  t.same([...s.pending.keys()], [1])
  await serialise(s, 1, 10)
  await s.apply(0)
  t.same([...s.pending.keys()], [1, 3])
  await serialise(s, 3, 10)
  t.match(s.taken, [{ lastIndex: 1 }, { lastIndex: 3 }])
})

t.test('a state that cannot be captured is retried with the next entry', async t => {
  const s = await setup()
  s.known = false
  await s.apply(100)
  t.equal(s.pending.size, 0)
  s.known = true
  await s.apply(1)
  t.same([...s.pending.keys()], [2])
  await serialise(s, 2, 10)
})

t.test('a failed snapshot keeps the log, is reported, and is retried after as many bytes again', async t => {
  for (const fail of [
    (s: Setup) => s.pending.get(4)?.reject(new VxmeshError('ERR_STORAGE', 'not serialised')),
    (s: Setup) => {
      s.disk.failNext = { operation: 'write', code: 'ENOSPC' }
      s.pending.get(4)?.resolve(new Uint8Array(10))
    }
  ]) {
    const s = await setup()
    for (let n = 0; n < 4; n++) await s.apply(25)
    const before = segments(s.disk)
    fail(s)
    await s.snapshotter.settled()
    t.match(s.failed, [{ code: 'ERR_STORAGE' }])
    t.same([s.taken, segments(s.disk)], [[], before])
    await s.apply(99)
    t.equal(s.pending.size, 1)
    await s.apply(1)
    await serialise(s, 6, 10)
    t.match(s.taken, [{ lastIndex: 6 }])
  }
})

t.test('a snapshot that covers an entry is the newest one, or one that is taken now', async t => {
  const s = await setup()
  await s.apply(1)
  const first = s.snapshotter.covering(1 as LogIndex)
  await serialise(s, 1, 10)
  t.match(await first, { meta: { lastIndex: 1 } })
  t.match(await s.snapshotter.covering(1 as LogIndex), { meta: { lastIndex: 1 } })
  t.equal(s.pending.size, 1, 'the second asker gets the same')
  await s.apply(100)
  await s.apply(1)
  const second = s.snapshotter.covering(3 as LogIndex)
  s.pending.get(2)?.resolve(new Uint8Array(1))
  while (!s.pending.has(3)) await nextTurn()
  await serialise(s, 3, 10)
  t.match(await second, { meta: { lastIndex: 3 } }, 'the save in flight had begun too early')
  s.known = false
  await s.apply(1)
  t.equal(await s.snapshotter.covering(4 as LogIndex), null)
})
