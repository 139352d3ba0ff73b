// The overhead of the write-ahead log: entries of 200 bytes appended in batches, each durable before the next, compared with
// a bare write and fdatasync of the same bytes to a plain file. Both alternate, so that they see the same disk.
//   npm run -s bench -- wal [--dir DIRECTORY]

import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { LogIndex, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import type { WalRecord } from '#replication/storage/wal-record.ts'
import { Wal } from '#replication/storage/wal.ts'
import { median, say, type Report } from './report.ts'

const ENTRY_BYTES = 200
const BATCHES = [1, 16, 64, 256]
const ROUNDS = 40
const APPENDS_A_ROUND = 10

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({ args: [...args], options: { dir: { type: 'string', default: tmpdir() } } })
  const dir = await mkdtemp(join(values.dir, 'vxmesh-bench-wal-'))
  try {
    return await compare(dir)
  } finally {
    await rm(dir, { recursive: true })
  }
}

async function compare(dir: string): Promise<Report> {
  const appends = await appender(dir)
  const plain = await plainWriter(dir)
  const [ours, limit]: [Record<string, number>, Record<string, number>] = [{}, {}]
  for (const batch of BATCHES) {
    await appends.round(batch)
    const times: { readonly ours: number; readonly bare: number }[] = []
    for (let round = 0; round < ROUNDS; round++) {
      times.push({ ours: await timed(() => appends.round(batch)), bare: await timed(() => plain.round(batch)) })
    }
    const perSecond = (ms: readonly number[]): number => (batch * APPENDS_A_ROUND * 1_000) / median(ms)
    const key = `entriesPerSecond${batch}`
    ours[key] = perSecond(times.map(time => time.ours))
    limit[key] = perSecond(times.map(time => time.bare))
    say(`batches of ${batch}: ${ours[key].toFixed(0)} entries/s, bare ${limit[key].toFixed(0)}`)
  }
  await appends.close()
  await plain.close()
  return { ours, limit, facts: { entryBytes: ENTRY_BYTES, appends: ROUNDS * APPENDS_A_ROUND } }
}

type Writer = { readonly round: (batch: number) => Promise<void>; readonly close: () => Promise<void> }

async function appender(dir: string): Promise<Writer> {
  const { wal } = await Wal.open(dir, { clock: systemClock })
  const data = Buffer.alloc(ENTRY_BYTES, 'entry')
  let index = 0
  const record = (): WalRecord => {
    index += 1
    return { kind: 'entry', entry: { index: index as LogIndex, term: 1 as Term, kind: 'command', data } }
  }
  const round = async (batch: number): Promise<void> => {
    for (let n = 0; n < APPENDS_A_ROUND; n++) await wal.append(Array.from({ length: batch }, record))
  }
  return { round, close: () => wal.close() }
}

async function plainWriter(dir: string): Promise<Writer> {
  const file: FileHandle = await open(join(dir, 'plain'), 'w')
  let offset = 0
  const round = async (batch: number): Promise<void> => {
    const bytes = Buffer.alloc(batch * ENTRY_BYTES, 'entry')
    for (let n = 0; n < APPENDS_A_ROUND; n++) {
      await file.write(bytes, 0, bytes.byteLength, offset)
      offset += bytes.byteLength
      await file.datasync()
    }
  }
  return { round, close: () => file.close() }
}

async function timed(work: () => Promise<void>): Promise<number> {
  const since = performance.now()
  await work()
  return performance.now() - since
}
