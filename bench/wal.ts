// The overhead of the write-ahead log: entries of 200 bytes appended in batches, each durable before the next, compared with
// a bare write and fdatasync of the same bytes to a plain file. Both alternate, so that they see the same disk.
//   npm run -s bench -- wal [--dir DIRECTORY] [--against CHECKOUT]
// With --against, the log of another checkout of the project takes its turn, too, as the peer.

import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { LogIndex, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import type { WalRecord } from '#replication/storage/wal-record.ts'
import { Wal } from '#replication/storage/wal.ts'
import { median, quantile, say, type Figures, type Report } from './report.ts'

const ENTRY_BYTES = 200
const BATCHES = [1, 16, 64, 256]
const ROUNDS = 40
const APPENDS_A_ROUND = 25

export async function bench(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({
    args: [...args],
    options: { dir: { type: 'string', default: tmpdir() }, against: { type: 'string' } }
  })
  const dir = await mkdtemp(join(values.dir, 'vxmesh-bench-wal-'))
  try {
    return await compare(dir, values.against)
  } finally {
    await rm(dir, { recursive: true })
  }
}

async function compare(dir: string, against: string | undefined): Promise<Report> {
  const writers = new Map([
    ['ours', await appender(join(dir, 'ours'), Wal)],
    ['bare', await plainWriter(dir)]
  ])
  if (against !== undefined) {
    const path = join(resolve(against), 'src/replication/storage/wal.ts')
    const other = (await import(path)) as { readonly Wal: typeof Wal }
    writers.set('against', await appender(join(dir, 'against'), other.Wal))
  }
  const figures = new Map([...writers.keys()].map(name => [name, {}]))
  for (const batch of BATCHES) {
    const samples = new Map([...writers.keys()].map(name => [name, { us: [] as number[], cpuUs: [] as number[] }]))
    for (const append of writers.values()) await measured(append, batch)
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, append] of writers) {
        const { us, cpuUs } = await measured(append, batch)
        samples.get(name)?.us.push(...us)
        samples.get(name)?.cpuUs.push(cpuUs)
      }
    }
    for (const [name, { us, cpuUs }] of samples) {
      const found = { p50: median(us), p99: quantile(us, 0.99), cpu: median(cpuUs) }
      for (const [key, value] of Object.entries(found))
        Object.assign(figures.get(name) ?? {}, { [`${key}Us${batch}`]: value })
      say(
        `batches of ${batch}, ${name}: p50 ${found.p50.toFixed(0)}, p99 ${found.p99.toFixed(0)}, CPU ${found.cpu.toFixed(0)} us`
      )
    }
  }
  for (const writer of writers.values()) await writer.close()
  const of = (name: string): Figures => figures.get(name) ?? {}
  const facts = { entryBytes: ENTRY_BYTES, appends: ROUNDS * APPENDS_A_ROUND }
  return against === undefined
    ? { ours: of('ours'), limit: of('bare'), facts }
    : { ours: of('ours'), peer: of('against'), limit: of('bare'), facts }
}

type Writer = { readonly append: (batch: number) => Promise<void>; readonly close: () => Promise<void> }

async function appender(dir: string, log: typeof Wal): Promise<Writer> {
  const { wal } = await log.open(dir, { clock: systemClock })
  const data = Buffer.alloc(ENTRY_BYTES, 'entry')
  let index = 0
  const record = (): WalRecord => {
    index += 1
    return { kind: 'entry', entry: { index: index as LogIndex, term: 1 as Term, kind: 'command', data } }
  }
  return { append: batch => wal.append(Array.from({ length: batch }, record)), close: () => wal.close() }
}

async function plainWriter(dir: string): Promise<Writer> {
  const file: FileHandle = await open(join(dir, 'plain'), 'w')
  let offset = 0
  const append = async (batch: number): Promise<void> => {
    const bytes = Buffer.alloc(batch * ENTRY_BYTES, 'entry')
    await file.write(bytes, 0, bytes.byteLength, offset)
    offset += bytes.byteLength
    await file.datasync()
  }
  return { append, close: () => file.close() }
}

/** One round: microseconds of each append, and the process's CPU microseconds an append, all threads. */
async function measured(writer: Writer, batch: number): Promise<{ readonly us: number[]; readonly cpuUs: number }> {
  const us: number[] = []
  const cpu = process.cpuUsage()
  for (let n = 0; n < APPENDS_A_ROUND; n++) {
    const sinceMs = performance.now()
    await writer.append(batch)
    us.push((performance.now() - sinceMs) * 1_000)
  }
  const { user, system } = process.cpuUsage(cpu)
  return { us, cpuUs: (user + system) / APPENDS_A_ROUND }
}
