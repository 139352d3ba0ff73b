// Fills the small file system at the given path, frees some space, and prints how storage behaved: one JSON object.

import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { asVxmeshError } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { SnapshotStore } from '#replication/storage/snapshot-store.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { sections } from '#test/replication/snapshots.ts'
import type { WalRecord } from '#replication/storage/wal-record.ts'

const [, , dataDir = ''] = process.argv
const SELF = 'peer-a' as PeerId
const CONFIGURATION = { voters: [SELF], learners: [] }
const ballast = join(dataDir, 'ballast')
const SMALL = { segmentBytes: 256 * 1024, reserveBytes: 16 * 1024 }

const entry = (index: number): WalRecord => ({
  kind: 'entry',
  entry: { index: index as LogIndex, term: 1 as Term, kind: 'command', data: Buffer.alloc(200, index) }
})
const save = (lastIndex: number, bytes: number): Promise<unknown> =>
  snapshots.save(
    { lastIndex: lastIndex as LogIndex, lastTerm: 1 as Term, configuration: CONFIGURATION },
    sections(Buffer.alloc(bytes, 1))
  )
const failure = async (work: Promise<unknown>): Promise<{ code: string; message: string } | null> =>
  work.then(
    () => null,
    (err: unknown) => asVxmeshError(err).toBody()
  )

await writeFile(ballast, Buffer.alloc(1024 * 1024))
const { wal, snapshots } = await openStorage(dataDir, SELF, { clock: systemClock, ...SMALL })
await wal.append([{ kind: 'origin', origin: { clusterId: 'c1' as ClusterId, configuration: CONFIGURATION } }])
snapshots.belong('c1' as ClusterId)
await wal.append([1, 2, 3].map(entry))
await save(2, 1_000)

let acknowledged = 3
let appendError = null
while (appendError === null) {
  appendError = await failure(wal.append([entry(acknowledged + 1)]))
  if (appendError === null) acknowledged += 1
}
const saveError = await failure(save(3, 500_000))
const snapshotWhileFull = (await SnapshotStore.open(dataDir)).latest?.meta.lastIndex
await rm(ballast)
const later = await failure(wal.append([entry(acknowledged + 1)]))
await wal.close()
await save(3, 500_000)

const again = await openStorage(dataDir, SELF, { clock: systemClock, ...SMALL })
const recovered = again.recovered.durable.entries.at(-1)?.index ?? 0
await again.wal.append([entry(recovered + 1)])
await again.wal.close()
const last = await openStorage(dataDir, SELF, { clock: systemClock, ...SMALL })
await last.wal.close()
const result = {
  acknowledged,
  appendError,
  saveError,
  laterError: later?.code,
  snapshotWhileFull,
  recovered,
  snapshotAfter: again.snapshot?.meta.lastIndex,
  continuedTo: last.recovered.durable.entries.at(-1)?.index
}
console.log(JSON.stringify(result))
