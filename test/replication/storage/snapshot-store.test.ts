import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { diskFiles, type FileLayer, type OpenFile } from '#platform/file-layer.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import { checkSnapshotFile, writeSnapshotFile, type SavedSnapshot } from '#replication/storage/snapshot-reading.ts'
import { SnapshotStore } from '#replication/storage/snapshot-store.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { contentOf, sections } from '../snapshots.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const CLUSTER = 'c1' as ClusterId
const CONFIGURATION = { voters: ['a', 'b'] as PeerId[], learners: ['c'] as PeerId[] }

const meta = (lastIndex: number, lastTerm = 1): SnapshotMeta => ({
  lastIndex: lastIndex as LogIndex,
  lastTerm: lastTerm as Term,
  configuration: CONFIGURATION
})

const fileOf = (dir: string, index: number): string =>
  join(dir, 'snapshot', `${index.toString().padStart(16, '0')}.snap`)

async function directory(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-snapshot-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function opened(dir: string): Promise<SnapshotStore> {
  const { store } = await SnapshotStore.open(dir)
  store.belong(CLUSTER)
  return store
}

async function newest(dir: string): Promise<SavedSnapshot | null> {
  return (await SnapshotStore.open(dir)).latest
}

t.test('a saved snapshot is read back, and the previous one is removed', async t => {
  const dir = await directory(t)
  const store = await opened(dir)
  t.equal(await newest(dir), null)
  await store.save(meta(5), sections('five'))
  await store.save(meta(9, 2), sections('nine'))
  t.same(await readdir(join(dir, 'snapshot')), [fileOf('', 9).split('/').at(-1)])
  const { latest, damaged } = await SnapshotStore.open(dir)
  t.same(latest?.meta, meta(9, 2))
  t.equal(latest?.clusterId, CLUSTER)
  t.equal((await contentOf(diskFiles, latest)).toString(), 'nine')
  t.same(damaged, [])
})

t.test('an older snapshot never replaces a newer one, whichever save is called first', async t => {
  const dir = await directory(t)
  const store = await opened(dir)
  await Promise.all([store.save(meta(9), sections('nine')), store.save(meta(5), sections('five'))])
  t.equal((await SnapshotStore.open(dir)).latest?.meta.lastIndex, 9)
})

t.test('a snapshot without sections and one of long sections are both saved', async t => {
  const dir = await directory(t)
  const store = await opened(dir)
  await store.save(meta(1), sections())
  t.equal((await contentOf(diskFiles, await newest(dir))).byteLength, 0)
  const large = Buffer.alloc(5 * 1024 * 1024 + 3, 'vxmesh')
  await store.save(meta(2), sections(large, 'and more'))
  t.ok(Buffer.concat([large, Buffer.from('and more')]).equals(await contentOf(diskFiles, await newest(dir))))
})

t.test('writing and reading a large snapshot does not block the event loop', async t => {
  const dir = await directory(t)
  const store = await opened(dir)
  let turns = 0
  let going = true
  const turn = (): void => {
    turns += 1
    if (going) setImmediate(turn)
  }
  setImmediate(turn)
  await store.save(meta(1), sections(...Array.from({ length: 64 }, () => Buffer.alloc(512 * 1024))))
  t.ok(turns > 32, `${turns} turns while it was written`)
  turns = 0
  await newest(dir)
  going = false
  t.ok(turns > 32, `${turns} turns while it was read`)
})

t.test('a large snapshot is synced in steps, so that the log waits for none of them long', async t => {
  const steps: number[] = []
  let unsynced = 0
  const disk = new SimulatedDisk()
  const create = async (path: string): Promise<OpenFile> => {
    const file = await disk.create(path)
    return {
      ...file,
      write: (bytes, position) => {
        unsynced += bytes.byteLength
        return file.write(bytes, position)
      },
      sync: () => {
        steps.push(unsynced)
        unsynced = 0
        return file.sync()
      }
    }
  }
  const { list, read, open, openSynced, rename, remove, ensureDirectory, syncDirectory } = disk
  const files: FileLayer = { create, list, read, open, openSynced, rename, remove, ensureDirectory, syncDirectory }
  const large = sections(...Array.from({ length: 20 }, () => Buffer.alloc(1024 * 1024)))
  await writeSnapshotFile(files, '/data/1.snap', { clusterId: CLUSTER, meta: meta(1), sections: large })
  t.equal(unsynced, 0, 'the end is synced, too')
  t.equal(steps.length, 3)
  t.ok(Math.max(...steps) < 9 * 1024 * 1024, steps.join(' '))
})

t.test('a renamed, truncated, extended or foreign snapshot file is not used', async t => {
  const dir = await directory(t)
  const store = await opened(dir)
  await store.save(meta(5), sections('five'))
  const whole = await readFile(fileOf(dir, 5))
  const wrong = {
    renamed: whole,
    cut: whole.subarray(0, -1),
    longer: Buffer.concat([whole, Buffer.alloc(1)]),
    empty: Buffer.alloc(0),
    foreign: Buffer.from('not a snapshot at all, although it is longer than the shortest one')
  }
  for (const [how, bytes] of Object.entries(wrong)) {
    await writeFile(fileOf(dir, 7), bytes)
    const { latest, damaged } = await SnapshotStore.open(dir)
    t.equal(latest?.meta.lastIndex, 5, how)
    t.same(damaged, [fileOf(dir, 7)], how)
  }
})

t.test('a partial file left by a crash is removed, and unrelated files are kept', async t => {
  const dir = await directory(t)
  await (await opened(dir)).save(meta(5), sections('five'))
  await writeFile(`${fileOf(dir, 7)}.new`, 'half')
  await writeFile(join(dir, 'snapshot', 'notes.txt'), 'mine')
  const { store, latest } = await SnapshotStore.open(dir)
  t.equal(latest?.meta.lastIndex, 5)
  t.same((await readdir(join(dir, 'snapshot'))).sort(), ['0000000000000005.snap', 'notes.txt'])
  store.belong(CLUSTER)
  await store.save(meta(6), sections('six'))
  t.same((await readdir(join(dir, 'snapshot'))).sort(), ['0000000000000006.snap', 'notes.txt'])
})

t.test('a failed save keeps the previous snapshot, and the next save may succeed', async t => {
  for (const operation of ['write', 'sync', 'syncDirectory'] as const) {
    const disk = new SimulatedDisk()
    const { store } = await SnapshotStore.open('/data', disk)
    store.belong(CLUSTER)
    await store.save(meta(5), sections('five'))
    disk.failNext = { operation, code: 'ENOSPC' }
    await t.rejects(store.save(meta(7), sections('seven')), { code: 'ERR_STORAGE', message: /ENOSPC/ }, operation)
    const previous = await checkSnapshotFile(disk, fileOf('/data', 5))
    t.equal(previous.meta.lastIndex, 5)
    await store.save(meta(8), sections('eight'))
    t.equal((await SnapshotStore.open('/data', disk)).latest?.meta.lastIndex, 8)
    t.same(disk.paths(), [fileOf('/data', 8)])
  }
})

t.test('a snapshot of another cluster is refused by name', async t => {
  const dir = await directory(t)
  await (await opened(dir)).save(meta(5), sections('five'))
  const { store } = await SnapshotStore.open(dir)
  t.throws(() => store.belong('c2' as ClusterId), { code: 'ERR_STORAGE', message: /c1.*c2/ })
})

t.test('a damaged newest snapshot is fatal only when the log no longer reaches back to an older one', async t => {
  const dir = await directory(t)
  const storage = await openStorage(dir, 'a' as PeerId, { clock: systemClock, segmentBytes: 512 })
  storage.snapshots.belong(CLUSTER)
  await storage.wal.append([{ kind: 'origin', origin: { clusterId: CLUSTER, configuration: CONFIGURATION } }])
  const append = (index: number): Promise<void> =>
    storage.wal.append([
      { kind: 'entry', entry: { index: index as LogIndex, term: 1 as Term, kind: 'command', data: Buffer.alloc(100) } }
    ])
  for (let index = 1; index <= 10; index++) await append(index)
  await storage.snapshots.save(meta(5), sections('five'))
  const older = await readFile(fileOf(dir, 5))
  await storage.snapshots.save(meta(9), sections('nine'))
  const newer = await readFile(fileOf(dir, 9))
  const reopen = async (snapshot: Buffer): ReturnType<typeof openStorage> => {
    await writeFile(fileOf(dir, 9), snapshot)
    const again = await openStorage(dir, 'a' as PeerId, { clock: systemClock, segmentBytes: 512 })
    await again.wal.close()
    return again
  }
  const damaged = Buffer.from(newer)
  damaged.writeUInt8(damaged.readUInt8(30) ^ 1, 30)
  await writeFile(fileOf(dir, 5), older)
  await storage.wal.close()
  const fallback = await reopen(damaged)
  t.equal(fallback.snapshot?.meta.lastIndex, 5)
  t.same(
    fallback.recovered.durable.entries.map(({ index }) => index),
    [6, 7, 8, 9, 10]
  )
  t.same(fallback.damagedSnapshots, [fileOf(dir, 9)])
  t.equal((await reopen(newer)).snapshot?.meta.lastIndex, 9, 'this start removes the log before entry 9')
  await t.rejects(reopen(damaged), { code: 'ERR_STORAGE', message: /0{15}9\.snap.*Move the data directory away/ })
})
