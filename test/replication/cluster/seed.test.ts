import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { foundingOrigin } from '#replication/cluster/bootstrap.ts'
import {
  installRestore,
  readSeed,
  seedPath,
  serveSeed,
  downloadSeed,
  writeSeed,
  type Seed
} from '#replication/cluster/seed.ts'
import { snapshotFileChunks } from '#replication/storage/snapshot-file.ts'
import type { HostDisk } from '#replication/storage/host-disk.ts'
import { openStorage, type Storage } from '#replication/storage/storage.ts'
import { scratch } from '../../api/scratch.ts'
import { host, introduce } from '../hosts.ts'

const disk = (dataDir: string): HostDisk => ({ dataDir, files: diskFiles })
const SELF = 'a' as PeerId
const VOTERS = [SELF, 'b' as PeerId, 'c' as PeerId]

function image(data: Uint8Array = Buffer.from('the state'), lastTerm = 7): Buffer {
  const configuration = { voters: ['old' as PeerId], learners: [] }
  const meta = { lastIndex: 41 as LogIndex, lastTerm: lastTerm as Term, configuration }
  return Buffer.concat([...snapshotFileChunks({ clusterId: 'old' as ClusterId, meta, data })])
}

async function seedIn(dataDir: string): Promise<Seed> {
  await writeSeed(disk(dataDir), image())
  const seed = await readSeed(disk(dataDir))
  if (seed === null) throw new Error('no seed')
  return seed
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
  t.equal(Buffer.from(again.snapshot?.data ?? []).toString(), 'the state')
})

t.test('the next start completes what a crash at any step interrupted', async t => {
  const steps: Record<string, (seed: Seed, dir: string) => Promise<void>> = {
    'after the origin': async (seed, dir) => {
      await (await joined(dir, seed)).wal.close()
    },
    'after the snapshot, before the log knows': async (seed, dir) => {
      const storage = await joined(dir, seed)
      const { configuration } = foundingOrigin(VOTERS, seed.id)
      await storage.snapshots.save({ ...seed.snapshot.meta, configuration }, seed.snapshot.data)
      await storage.wal.close()
    },
    'before the file is removed': async (seed, dir) => {
      const storage = await install(seed, await joined(dir, seed), dir)
      await storage.wal.close()
      await writeSeed(disk(dir), seed.bytes)
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
  t.equal((await openStorage(dir, SELF, { clock: systemClock })).snapshot, null)
  await storage.wal.close()
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
  const whole = image()
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

t.test('another founder fetches the whole seed in chunks, and only the one that it asked for', async t => {
  const [holder, asker] = [await host(t), await host(t)]
  introduce(holder, asker)
  const [from, to] = [scratch(t), scratch(t)]
  await writeSeed(disk(from), image(Buffer.alloc(2_500_000, 'state')))
  let held = await readSeed(disk(from))
  serveSeed(holder.rpc, () => held)
  const id = held?.id ?? ''
  const taken = await downloadSeed(asker.rpc, { peer: holder.peer, id, disk: disk(to) })
  t.equal(taken.id, id)
  t.same(await readFile(seedPath(to)), held?.bytes)
  const other = scratch(t)
  await t.rejects(downloadSeed(asker.rpc, { peer: holder.peer, id: 'f'.repeat(16), disk: disk(other) }), {
    code: 'ERR_PEER'
  })
  held = held && { ...held, bytes: image(Buffer.from('something else')) }
  await t.rejects(
    downloadSeed(asker.rpc, { peer: holder.peer, id, disk: disk(other) }),
    { code: 'ERR_PEER' },
    'it was changed'
  )
  held = held && { ...held, bytes: Buffer.alloc(0) }
  await t.rejects(
    downloadSeed(asker.rpc, { peer: holder.peer, id, disk: disk(other) }),
    { code: 'ERR_PEER' },
    'it is empty'
  )
  held = null
  await t.rejects(downloadSeed(asker.rpc, { peer: holder.peer, id, disk: disk(other) }), { code: 'ERR_PEER' })
  t.notOk(existsSync(seedPath(other)))
})
