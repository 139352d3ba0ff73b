// Damages every byte of a host's storage, one at a time: detected, or without effect. Also failing disks.

import t, { type Test } from 'tap'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { Random } from '#test/sim/random.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import { digestOf, openSmall, Workload, type Digest } from './storage-workload.ts'
import { sections } from '../snapshots.ts'

const FLIPS = 25_000

type Image = { readonly disk: SimulatedDisk; readonly allowed: readonly Digest[]; readonly commit: number }

t.test('a flipped byte anywhere in segments and snapshots is detected, or nothing acknowledged is lost', async t => {
  const random = new Random(7)
  const tally = { log: { detected: 0, harmless: 0 }, snapshot: { detected: 0, harmless: 0 } }
  let [flips, wrong] = [0, 0]
  for await (const image of images(new Random(3))) {
    for (const path of image.disk.paths()) {
      const file = path.endsWith('.snap') ? 'snapshot' : 'log'
      for (let at = 0; at < image.disk.bytes(path).byteLength; at++) {
        const mask = 1 + random.below(255)
        const outcome = await openFlipped(image, { path, at, mask })
        if (outcome === 'wrong' && ++wrong <= 10) t.fail(`${path} byte ${at} xor ${mask}`)
        if (outcome !== 'wrong') tally[file][outcome] += 1
        flips += 1
      }
    }
    if (flips >= FLIPS) break
  }
  t.equal(wrong, 0)
  t.ok(flips >= FLIPS)
  t.ok(tally.log.detected > FLIPS / 2 && tally.snapshot.detected > 50 && tally.snapshot.harmless > 50)
  t.comment(`${flips} flips: ${JSON.stringify(tally)}`)
})

/** States of a disk: at rest, and while a snapshot replaces the previous one beside a log at rest. */
async function* images(random: Random): AsyncGenerator<Image> {
  const disk = new SimulatedDisk()
  const workload = await Workload.start(disk, random)
  const image = (): Image => ({
    disk: disk.clone(),
    allowed: workload.allowed(),
    commit: workload.commit.requested
  })
  for (;;) {
    await workload.run(15)
    await workload.rest()
    yield image()
    await workload.commitAll()
    await workload.rest()
    const two: Image[] = []
    disk.afterEach = async () => {
      const snapshots = disk.paths().filter(path => path.endsWith('.snap'))
      if (snapshots.length === 2 && two.length === 0) two.push(image())
    }
    await workload.takeSnapshot(false)
    disk.afterEach = null
    yield* two
  }
}

async function openFlipped(
  { disk, allowed, commit }: Image,
  flip: { readonly path: string; readonly at: number; readonly mask: number }
): Promise<'detected' | 'harmless' | 'wrong'> {
  const damaged = disk.clone()
  damaged.flip(flip.path, flip.at, flip.mask)
  try {
    const storage = await openSmall(damaged)
    const isAllowed = allowed.includes(await digestOf(storage)) && storage.recovered.durable.commitIndex <= commit
    return isAllowed ? 'harmless' : 'wrong'
  } catch (err) {
    return (err as { code?: string }).code === 'ERR_STORAGE' ? 'detected' : 'wrong'
  }
}

t.test('a truncated segment is refused or gives an earlier state of the log, never a different one', async t => {
  const disk = new SimulatedDisk()
  const { wal } = await openSmall(disk)
  for (const index of [1, 2]) await wal.append([noop(index)])
  await wal.close()
  const [path = ''] = disk.paths()
  const outcomes = new Set<string>()
  for (let length = 0; length <= disk.bytes(path).byteLength; length++) {
    const cut = disk.clone()
    await (await cut.open(path)).truncate(length)
    const outcome = await openSmall(cut).then(
      opened => opened.recovered.durable.entries.map(entry => entry.index).join(),
      (err: unknown) => (err as { code: string }).code
    )
    outcomes.add(outcome)
  }
  t.same([...outcomes], ['ERR_STORAGE', '', '1', '1,2'])
})

t.test('a failed sync ends the log; the next start makes the content of the page cache durable', async t => {
  // Several sectors, so that later writes do not rewrite all of them by chance.
  const { entry } = noop(2)
  const large = { kind: 'entry' as const, entry: { ...entry, data: Buffer.alloc(2_000) } }
  for (let seed = 1; seed <= 20; seed++) {
    const disk = new SimulatedDisk()
    const { wal } = await openSmall(disk)
    await wal.append([noop(1)])
    disk.failNext = { operation: 'sync', code: 'EIO' }
    await t.rejects(wal.append([large]), { code: 'ERR_STORAGE', message: /EIO/ })
    await t.rejects(wal.append([large]), { code: 'ERR_STORAGE', message: /EIO/ })
    await t.rejects(wal.compact(1 as LogIndex), { code: 'ERR_STORAGE' })
    await wal.close()
    const restarted = disk.clone()
    const again = await openSmall(restarted)
    t.equal(again.recovered.durable.entries.length, 2, 'the page cache shows an entry that is not on the disk')
    await again.wal.append([noop(3)])
    const { recovered } = await openSmall(restarted.powerCut(new Random(seed)))
    t.equal(recovered.durable.entries.length, 3, 'the entries after it are durable together with it')
  }
})

t.test('a disk failure at any operation is a typed error, and nothing acknowledged before is lost', async t => {
  const failures = [
    ['write', 'ENOSPC'],
    ['write', 'EIO'],
    ['sync', 'EIO'],
    ['syncDirectory', 'EIO']
  ] as const
  for (const [operation, code] of failures) {
    for (let after = 1; after < 30; after++) await failOnce(t, { operation, code, after })
  }
})

/** Fails one operation in a small run of appends, snapshots and compactions. */
async function failOnce(
  t: Test,
  p: { readonly operation: 'write' | 'sync' | 'syncDirectory'; readonly code: string; readonly after: number }
): Promise<void> {
  const disk = new SimulatedDisk()
  const { wal, snapshots } = await openSmall(disk)
  await wal.append([{ kind: 'origin', origin: { clusterId: 'c1' as never, configuration: CONFIGURATION } }])
  snapshots.belong('c1' as never)
  const begin = disk.operations
  disk.afterEach = async () => {
    if (disk.operations === begin + p.after) disk.failNext = { operation: p.operation, code: p.code }
  }
  let [acknowledged, snapshotIndex] = [0, 0]
  try {
    for (let index = 1; index <= 12; index++) {
      await wal.append([{ kind: 'entry', entry: { ...noop(index).entry, data: Buffer.alloc(400) } }])
      acknowledged = index
      if (index % 4 !== 0) continue
      await snapshots.save(
        { lastIndex: index as LogIndex, lastTerm: 1 as Term, configuration: CONFIGURATION },
        sections(Buffer.alloc(9))
      )
      snapshotIndex = index
      await wal.compact(index as LogIndex)
    }
  } catch (err) {
    t.match(err, { code: 'ERR_STORAGE', message: new RegExp(p.code) }, `${p.operation} ${p.code} after ${p.after}`)
  }
  await wal.close().catch((err: unknown) => t.match(err, { code: 'ERR_STORAGE' }))
  const { recovered, snapshot } = await openSmall(disk.clone())
  const last = recovered.durable.entries.at(-1)?.index ?? snapshot?.meta.lastIndex ?? 0
  t.ok(last >= acknowledged && (snapshot?.meta.lastIndex ?? 0) >= snapshotIndex, `${last} of ${acknowledged}`)
}

const CONFIGURATION = { voters: ['a' as PeerId], learners: [] }

function noop(index: number): { kind: 'entry'; entry: { index: LogIndex; term: Term; kind: 'noop'; data: Buffer } } {
  return { kind: 'entry', entry: { index: index as LogIndex, term: 1 as Term, kind: 'noop', data: Buffer.alloc(0) } }
}
