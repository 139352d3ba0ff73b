import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { foundingOrigin } from '#replication/cluster/bootstrap.ts'
import { installRestore, readSeed, seedPath, downloadSeed, writeSeed, type Seed } from '#replication/cluster/seed.ts'
import { serveSnapshots } from '#replication/feed/snapshot-transfer.ts'
import { sectionsOf } from '#replication/storage/snapshot-reading.ts'
import type { HostDisk } from '#replication/storage/host-disk.ts'
import { openStorage, type Storage } from '#replication/storage/storage.ts'
import { scratch } from '../../api/scratch.ts'
import { host, introduce } from '../hosts.ts'
import { contentOf, oldSnapshotBytes, sections, snapshotBytes } from '../snapshots.ts'

const disk = (dataDir: string): HostDisk => ({ dataDir, files: diskFiles })
const SELF = 'a' as PeerId
const VOTERS = [SELF, 'b' as PeerId, 'c' as PeerId]

const META = {
  lastIndex: 41 as LogIndex,
  lastTerm: 7 as Term,
  configuration: { voters: ['old' as PeerId], learners: [] }
}
const HEAD = { clusterId: 'old' as ClusterId, meta: META }

async function seedIn(dataDir: string, ...content: readonly (Uint8Array | string)[]): Promise<Seed> {
  const given = content.length === 0 ? ['the', ' state'] : content
  const written = await writeSeed(disk(dataDir), { ...HEAD, sections: sections(...given) })
  const seed = await readSeed(disk(dataDir))
  t.same(seed, written)
  return written
}

/** Writes the origin first, as ClusterAdoption does. */
async function joined(dataDir: string, seed: Seed | null): Promise<Storage> {
  const storage = await openStorage(dataDir, SELF, { clock: systemClock })
  const origin = foundingOrigin(VOTERS, seed?.id ?? null)
  const hardState = { term: seed?.snapshot.meta.lastTerm ?? (0 as Term), votedFor: null }
  storage.snapshots.belong(origin.clusterId)
  await storage.wal.append([
    { kind: 'origin', origin },
    { kind: 'hard-state', hardState }
  ])
  return storage
}

const install = (seed: Seed, storage: Storage, dataDir: string, founder = true): Promise<Storage> =>
  installRestore(seed, {
    clock: systemClock,
    storage,
    origin: foundingOrigin(VOTERS, seed.id),
    founder,
    disk: disk(dataDir),
    self: SELF
  })

t.test('a founder’s log begins after the seed, in the founders’ configuration and the seed’s term', async t => {
  const dir = scratch(t)
  const seed = await seedIn(dir)
  const storage = await install(seed, await joined(dir, seed), dir)
  await storage.wal.append([
    { kind: 'entry', entry: { index: 42 as LogIndex, term: 8 as Term, kind: 'noop', data: Buffer.alloc(0) } }
  ])
  await storage.wal.close()
  t.notOk(existsSync(seedPath(dir)))
  const again = await openStorage(dir, SELF, { clock: systemClock })
  t.teardown(() => again.wal.close())
  const origin = foundingOrigin(VOTERS, seed.id)
  t.equal(again.recovered.origin?.clusterId, origin.clusterId)
  t.match(again.recovered.durable, {
    hardState: { term: 7, votedFor: null },
    commitIndex: 41,
    entries: [{ index: 42 }]
  })
  t.same(again.recovered.durable.snapshot, { lastIndex: 41, lastTerm: 7, configuration: origin.configuration })
  t.equal((await contentOf(diskFiles, again.snapshot)).toString(), 'the state')
})

t.test('the next start completes what a crash at any step interrupted', async t => {
  const steps: Record<string, (seed: Seed, dir: string) => Promise<void>> = {
    'after the origin': async (seed, dir) => {
      await (await joined(dir, seed)).wal.close()
    },
    'after the snapshot, before the log knows': async (seed, dir) => {
      const storage = await joined(dir, seed)
      const { configuration } = foundingOrigin(VOTERS, seed.id)
      await storage.snapshots.save({ ...seed.snapshot.meta, configuration }, sectionsOf(diskFiles, seed.snapshot.path))
      await storage.wal.close()
    },
    'before the file is removed': async (seed, dir) => {
      const bytes = await readFile(seedPath(dir))
      const storage = await install(seed, await joined(dir, seed), dir)
      await storage.wal.close()
      await writeFile(seedPath(dir), bytes)
    }
  }
  for (const [step, crash] of Object.entries(steps)) {
    const dir = scratch(t)
    const seed = await seedIn(dir)
    await crash(seed, dir)
    const found = await readSeed(disk(dir))
    t.equal(found?.id, seed.id, step)
    const storage = await install(seed, await openStorage(dir, SELF, { clock: systemClock }), dir)
    t.match(storage.recovered.durable, { commitIndex: 41, entries: [], snapshot: { lastIndex: 41 } }, step)
    t.notOk(existsSync(seedPath(dir)), step)
    await storage.wal.close()
  }
})

t.test('a host that joined later installs nothing, and removes the file', async t => {
  const dir = scratch(t)
  const seed = await seedIn(dir)
  const storage = await joined(dir, seed)
  t.equal(await install(seed, storage, dir, false), storage)
  t.notOk(existsSync(seedPath(dir)))
  await storage.wal.close()
  const again = await openStorage(dir, SELF, { clock: systemClock })
  t.equal(again.snapshot, null)
  await again.wal.close()
})

t.test('a seed beside the log of a cluster that did not start from it is refused, and both stay', async t => {
  const dir = scratch(t)
  const storage = await joined(dir, null)
  t.teardown(() => storage.wal.close())
  const seed = await seedIn(dir)
  const origin = foundingOrigin(VOTERS, null)
  const installed = installRestore(seed, {
    clock: systemClock,
    storage,
    origin,
    founder: true,
    disk: disk(dir),
    self: SELF
  })
  await t.rejects(installed, {
    code: 'ERR_STORAGE',
    message: /restore.snap cannot be used: this host belongs to cluster/
  })
  t.ok(existsSync(seedPath(dir)))
})

t.test('each flipped byte of a seed is detected, and each truncation', async t => {
  const dir = scratch(t)
  const whole = await snapshotBytes(HEAD, 'the', ' state')
  for (let at = 0; at < whole.byteLength; at++) {
    const flipped = Buffer.from(whole)
    flipped[at] = (flipped[at] ?? 0) ^ 0x10
    await writeFile(seedPath(dir), flipped)
    await t.rejects(readSeed(disk(dir)), { code: 'ERR_STORAGE' }, `byte ${at}`)
    await writeFile(seedPath(dir), whole.subarray(0, at))
    await t.rejects(readSeed(disk(dir)), { code: 'ERR_STORAGE' }, `cut at ${at}`)
  }
  t.equal(await readSeed(disk(scratch(t))), null, 'no file')
})

t.test('a seed that an earlier release restored is refused with what to do', async t => {
  const dir = scratch(t)
  await writeFile(seedPath(dir), oldSnapshotBytes(HEAD, Buffer.from('the state')))
  await t.rejects(readSeed(disk(dir)), {
    code: 'ERR_STORAGE',
    message: /restore.snap was written by an earlier version/
  })
})

t.test('another founder fetches the whole seed in pieces, and only the one that it asked for', async t => {
  const [holder, asker] = [await host(t), await host(t)]
  introduce(holder, asker)
  const [from, to] = [scratch(t), scratch(t)]
  let held: Seed | null = await seedIn(from, Buffer.alloc(900_000, 'state'), Buffer.alloc(900_000, 'more'))
  const { id } = held
  t.teardown(
    serveSnapshots(holder.rpc, {
      clock: systemClock,
      files: diskFiles,
      source: () => null,
      seed: () => held?.snapshot ?? null
    })
  )
  const download = (into: string, wanted = id): Promise<Seed> =>
    downloadSeed(asker.rpc, {
      peers: [holder.peer],
      id: wanted,
      disk: disk(into),
      signal: new AbortController().signal
    })
  t.equal((await download(to)).id, id)
  t.same(await readFile(seedPath(to)), await readFile(seedPath(from)))
  const other = scratch(t)
  await t.rejects(download(other, 'f'.repeat(16)), { code: 'ERR_PEER', message: /no such snapshot/ })
  held = null
  const gone = await seedIn(scratch(t), 'something else')
  await t.rejects(download(other, gone.id), { code: 'ERR_PEER' })
  t.notOk(existsSync(seedPath(other)))
})
