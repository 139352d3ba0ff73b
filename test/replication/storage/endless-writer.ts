// Appends to the log in the given directory until it is killed; prints the index of each entry that it has acknowledged.

import { writeSync } from 'node:fs'
import type { LogIndex, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { Wal } from '#replication/storage/wal.ts'

const [, , dataDir = ''] = process.argv
// Small, so that kills hit new segments and reservations, too.
const { wal, recovered } = await Wal.open(dataDir, { clock: systemClock, segmentBytes: 20_000, reserveBytes: 2_000 })
let last = recovered.durable.entries.at(-1)?.index ?? 0
const append = async (): Promise<void> => {
  last += 1
  const index = last as LogIndex
  const entry = { index, term: 1 as Term, kind: 'command' as const, data: Buffer.alloc(20 + (index % 1_500), index) }
  await wal.append([{ kind: 'entry', entry }])
  writeSync(1, `${index}\n`)
}
for (;;) await Promise.all(Array.from({ length: 1 + (last % 4) }, append))
