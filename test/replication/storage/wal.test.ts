import { mkdir, mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import t, { type Test } from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import type { Entry } from '#raft/types.ts'
import { encodePreamble, FRAME_HEADER_BYTES, sealFrame } from '#replication/storage/wal-frame.ts'
import { RecordBuffer, type LogRecord, type WalRecord } from '#replication/storage/wal-record.ts'
import { Wal } from '#replication/storage/wal.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'

const entry = (index: number, term = 1, text = `e${index}`): WalRecord => ({
  kind: 'entry',
  entry: { index: index as LogIndex, term: term as Term, kind: 'command', data: Buffer.from(text) }
})

const vote = (term: number, votedFor: string | null): WalRecord => ({
  kind: 'hard-state',
  hardState: { term: term as Term, votedFor: votedFor as PeerId | null }
})

/** The sync marker behind the last append: an empty frame. */
const MARKER_BYTES = 28

async function directory(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-wal-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function reopen(dir: string): ReturnType<typeof Wal.open> {
  const opened = await Wal.open(dir, { clock: systemClock })
  await opened.wal.close()
  return opened
}

const texts = (entries: readonly Entry[]): string[] => entries.map(e => `${e.term}:${Buffer.from(e.data).toString()}`)
const segment = (dir: string, number = 1): string => join(dir, 'log', `0000000${number}.seg`)

t.test('a reopened log returns the entries, truncations, vote, commit index and origin that were appended', async t => {
  const dir = await directory(t)
  const { wal, recovered } = await Wal.open(dir, { clock: systemClock })
  t.equal(recovered.origin, null)
  const origin = { clusterId: 'c1' as ClusterId, configuration: { voters: ['a', 'b'] as PeerId[], learners: [] } }
  await wal.append([{ kind: 'origin', origin }, vote(1, 'a'), entry(1), entry(2), entry(3)])
  await wal.append([{ kind: 'truncate', from: 2 as LogIndex }, entry(2, 2, 'other'), vote(2, null)])
  await wal.noteCommit(2 as LogIndex)
  await wal.close()
  const again = (await reopen(dir)).recovered
  t.same(texts(again.durable.entries), ['1:e1', '2:other'])
  t.same(again.durable.hardState, { term: 2, votedFor: null })
  t.equal(again.durable.commitIndex, 2)
  t.same(again.origin, origin)
  t.equal(again.cutBytes, 0)
})

t.test('concurrent appends keep their order', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: systemClock })
  await Promise.all(Array.from({ length: 200 }, (_, at) => wal.append([entry(at + 1)])))
  await wal.close()
  t.equal((await reopen(dir)).recovered.durable.entries.length, 200)
})

t.test('a crash at any byte of an append loses at most that append, and the log stays usable', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: systemClock })
  await wal.append([vote(3, 'b'), entry(1), entry(2)])
  await wal.close()
  const before = (await readFile(segment(dir))).byteLength
  const { wal: again } = await Wal.open(dir, { clock: systemClock })
  await again.append([entry(3)])
  await again.close()
  const whole = await readFile(segment(dir))
  for (let length = before; length < whole.byteLength - MARKER_BYTES; length++) {
    await writeFile(segment(dir), whole)
    await truncate(segment(dir), length)
    const { wal: cut, recovered } = await Wal.open(dir, { clock: systemClock })
    t.same(texts(recovered.durable.entries), ['1:e1', '1:e2'], `cut to ${length} bytes`)
    t.same(recovered.durable.hardState, { term: 3, votedFor: 'b' })
    await cut.append([entry(3, 4, 'new')])
    await cut.close()
    t.same(texts((await reopen(dir)).recovered.durable.entries), ['1:e1', '1:e2', '4:new'])
  }
})

t.test('a flipped byte anywhere in acknowledged data is detected or changes nothing', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: systemClock })
  await wal.append([vote(1, 'a'), entry(1)])
  await wal.append([entry(2)])
  await wal.close()
  const whole = await readFile(segment(dir))
  const harmless: number[] = []
  for (let at = 0; at < whole.byteLength; at++) {
    const damaged = Buffer.from(whole)
    damaged[at] = (damaged[at] ?? 0) ^ 0x40
    await writeFile(segment(dir), damaged)
    const outcome = await reopen(dir).then(
      opened => texts(opened.recovered.durable.entries),
      (err: unknown) => (err as { code: string }).code
    )
    if (outcome !== 'ERR_STORAGE') {
      t.same(outcome, ['1:e1', '1:e2'], `byte ${at}`)
      harmless.push(at)
    }
  }
  t.same(
    harmless,
    Array.from({ length: MARKER_BYTES }, (_, at) => whole.byteLength - MARKER_BYTES + at),
    'only the last sync marker is redundant'
  )
})

t.test('swapped, repeated, missing and foreign frames are refused', async t => {
  const [dir, other] = [await directory(t), await directory(t)]
  const ends: number[] = []
  for (const [at, path] of [dir, other].entries()) {
    const { wal } = await Wal.open(path, { clock: systemClock, reserveBytes: 0 })
    for (const index of [1, 2, 3]) {
      ends[index - 1] = (await readFile(segment(path))).byteLength
      await wal.append([entry(index, 1, at === 0 ? 'aa' : 'bb')])
    }
    await wal.close()
  }
  const whole = await readFile(segment(dir))
  const foreign = await readFile(segment(other))
  const [first = 0, second = 0, third = 0] = ends
  const [before, a, b, after] = [
    whole.subarray(0, first),
    whole.subarray(first, second),
    whole.subarray(second, third),
    whole.subarray(third)
  ]
  const changed = {
    swapped: [before, b, a, after],
    repeated: [before, a, a, b, after],
    missing: [before, a, after],
    foreign: [before, a, foreign.subarray(second, third), after]
  }
  for (const [how, parts] of Object.entries(changed)) {
    await writeFile(segment(dir), Buffer.concat(parts))
    await t.rejects(Wal.open(dir, { clock: systemClock }), { code: 'ERR_STORAGE' }, how)
  }
  await writeFile(segment(dir), Buffer.concat([before, a, b, after]))
  t.same(texts((await reopen(dir)).recovered.durable.entries), ['1:aa', '1:aa', '1:aa'])
})

t.test('after close every append fails, and nothing more is written', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: systemClock })
  await wal.append([entry(1)])
  await wal.close()
  await t.rejects(wal.append([entry(2)]), { code: 'ERR_STORAGE' })
  await t.rejects(wal.append([entry(2)]), { code: 'ERR_STORAGE' })
  const file = await open(segment(dir))
  await file.close()
  t.equal((await reopen(dir)).recovered.durable.entries.length, 1)
})

t.test('a log that ends before its own commit index is refused', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: systemClock })
  await wal.append([entry(1)])
  await wal.noteCommit(9 as LogIndex)
  await wal.close()
  await t.rejects(Wal.open(dir, { clock: systemClock }), {
    code: 'ERR_STORAGE',
    message: /entry 9 is committed, and the log ends with 1/
  })
})

t.test('a file that is not a segment is refused, and so is an empty one', async t => {
  const foreign: readonly (readonly [string, Buffer, RegExp])[] = [
    ['empty', Buffer.alloc(0), /it is empty/],
    ['zeros', Buffer.alloc(4_096), /it is not a segment file/],
    ['text', Buffer.from('#!/bin/sh\n'), /it is not a segment file/],
    ['a truncated preamble', Buffer.from('VXWL'), /the preamble does not match its checksum/]
  ]
  for (const [what, bytes, message] of foreign) {
    const dir = await directory(t)
    await mkdir(join(dir, 'log'))
    await writeFile(segment(dir), bytes)
    await t.rejects(Wal.open(dir, { clock: systemClock }), { code: 'ERR_STORAGE', message }, what)
    t.same(await readFile(segment(dir)), bytes, `${what}: left as it is`)
  }
})

t.test('a newer format and an unknown kind of record are refused', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: systemClock })
  await wal.append([entry(1)])
  await wal.close()
  const whole = await readFile(segment(dir))
  const later = Buffer.from(whole)
  later.writeUInt16BE(3, 4)
  later.writeUInt32BE(crc32(later.subarray(0, 12)), 12)
  await writeFile(segment(dir), later)
  await t.rejects(Wal.open(dir, { clock: systemClock }), { code: 'ERR_STORAGE', message: /version 3/ })
  const salt = whole.readUInt32BE(8)
  const body = Buffer.from([99, 0, 0, 0, 0])
  const frame = sealFrame(Buffer.concat([Buffer.alloc(28), body]), { salt, sequence: 4, synced: 3 })
  await writeFile(segment(dir), Buffer.concat([whole, frame]))
  await t.rejects(Wal.open(dir, { clock: systemClock }), { code: 'ERR_STORAGE', message: /does not know/ })
})

t.test(
  'the log of another host, or of another cluster than the snapshot, is refused by name and left unchanged',
  async t => {
    const dir = await directory(t)
    const { wal } = await Wal.open(dir, { clock: systemClock, self: 'peer-a' as PeerId })
    const configuration = { voters: ['a'] as PeerId[], learners: [] }
    await wal.append([{ kind: 'origin', origin: { clusterId: 'c1' as ClusterId, configuration } }])
    await t.rejects(wal.append([{ kind: 'origin', origin: { clusterId: 'c2' as ClusterId, configuration } }]), {
      message: /cluster c1 and to cluster c2/
    })
    await wal.close()
    const before = await readFile(segment(dir))
    await t.rejects(Wal.open(dir, { clock: systemClock, self: 'peer-b' as PeerId }), {
      code: 'ERR_STORAGE',
      message: /peer-a.*peer-b/
    })
    const meta = { lastIndex: 5 as LogIndex, lastTerm: 1 as Term, configuration }
    const foreign = { clusterId: 'c9' as ClusterId, meta }
    await t.rejects(Wal.open(dir, { clock: systemClock, snapshot: foreign }), {
      code: 'ERR_STORAGE',
      message: /c9.*c1/
    })
    await t.rejects(Wal.open(await directory(t), { clock: systemClock, snapshot: foreign }), {
      message: /no log of it/
    })
    t.same(await readFile(segment(dir)), before)
    await (await Wal.open(dir, { clock: systemClock, self: 'peer-a' as PeerId })).wal.close()
  }
)

t.test('an append that truncates committed entries or leaves a gap fails, and ends the log', async t => {
  for (const wrong of [entry(4), entry(2), { kind: 'truncate', from: 1 as LogIndex } as const]) {
    const dir = await directory(t)
    const { wal } = await Wal.open(dir, { clock: systemClock })
    await wal.append([entry(1), entry(2)])
    await wal.noteCommit(1 as LogIndex)
    await t.rejects(wal.append([wrong]), { code: 'ERR_STORAGE' })
    await t.rejects(wal.append([entry(3)]), { code: 'ERR_STORAGE' })
    await wal.close()
    t.same(texts((await reopen(dir)).recovered.durable.entries), ['1:e1', '1:e2'])
  }
})

/** The real disk, and the size of each write to the log, one number a system call; `fail` makes the next one fail. */
class CountingDisk {
  readonly writes: number[] = []
  fail = false
  readonly files: FileLayer = {
    ...diskFiles,
    openSynced: async path => {
      const file = await diskFiles.openSynced(path)
      const write: typeof file.write = async (buffers, position) => {
        if (this.fail) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })
        this.writes.push(buffers.reduce((sum, { byteLength }) => sum + byteLength, 0))
        await file.write(buffers, position)
      }
      return { ...file, write }
    }
  }
}

t.test('an append is one synced write, and appends that wait for it share the next one', async t => {
  const { files, writes } = new CountingDisk()
  const { wal } = await Wal.open(await directory(t), { clock: new ManualClock().clock, files })
  await wal.append([entry(1)])
  t.equal(writes.length, 1)
  await wal.append([vote(2, 'a'), entry(2), entry(3)])
  t.equal(writes.length, 2)
  const first = wal.append([entry(4)])
  await Promise.resolve()
  await Promise.resolve()
  await Promise.all([first, ...[5, 6, 7].map(index => wal.append([entry(index)]))])
  t.equal(writes.length, 4)
  await wal.close()
})

t.test('zeros are written ahead together with the append that needs them', async t => {
  const { files, writes } = new CountingDisk()
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: new ManualClock().clock, files, reserveBytes: 1_000 })
  const lengths: number[] = []
  for (let index = 1; index <= 20; index++) {
    await wal.append([entry(index, 1, 'x'.repeat(100))])
    lengths.push((await readFile(segment(dir))).byteLength)
  }
  t.equal(writes.length, 20)
  t.equal(new Set(lengths).size, 3, 'the file has grown twice')
  t.same(
    lengths,
    [...lengths].sort((a, b) => a - b)
  )
  await wal.close()
  t.equal((await reopen(dir)).recovered.durable.entries.length, 20)
})

t.test('a sync marker follows the last append before a pause, and none follows any other', async t => {
  const { files, writes } = new CountingDisk()
  const manual = new ManualClock()
  const { wal } = await Wal.open(await directory(t), { clock: manual.clock, files })
  const markers = (): number => writes.filter(bytes => bytes === MARKER_BYTES).length
  const pause = (): Promise<void> => manual.advance(1_000)
  for (let index = 1; index <= 50; index++) {
    await wal.append([entry(index)])
    await manual.advance(20)
  }
  t.equal(markers(), 0, 'the next frame proves an append durable')
  await pause()
  await wal.append([entry(51)])
  t.equal(markers(), 1)
  await wal.noteCommit(51 as LogIndex)
  await pause()
  await pause()
  await wal.append([entry(52)])
  t.equal(markers(), 2)
  t.equal(manual.pending, 1)
  await wal.close()
  t.equal(manual.pending, 0, 'no timer outlives the log')
  t.equal(markers(), 3, 'a clean stop proves the last append')
})

t.test('a sync marker that cannot be written ends the log: the next append reports it', async t => {
  const disk = new CountingDisk()
  const manual = new ManualClock()
  const dir = await directory(t)
  const { wal } = await Wal.open(dir, { clock: manual.clock, files: disk.files })
  await wal.append([entry(1)])
  disk.fail = true
  await manual.advance(1_000)
  disk.fail = false
  await t.rejects(wal.append([entry(2)]), { code: 'ERR_STORAGE', message: /cannot be written: EIO/ })
  await wal.close()
  t.same(texts((await reopen(dir)).recovered.durable.entries), ['1:e1'])
})

t.test(
  'a log of the release before is read: a marker behind each append, commit notes that were not synced',
  async t => {
    const dir = await directory(t)
    await mkdir(join(dir, 'log'))
    const salt = 77
    const frame = (sequence: number, synced: number, ...records: LogRecord[]): Buffer => {
      const buffer = new RecordBuffer(FRAME_HEADER_BYTES)
      for (const record of records) buffer.push(record)
      return Buffer.from(sealFrame(buffer.bytes, { salt, sequence, synced }))
    }
    const head = {
      ...{ self: null, origin: null, hardState: { term: 0 as Term, votedFor: null } },
      ...{ commitIndex: 0 as LogIndex, lastIndex: 0 as LogIndex, lastTerm: 0 as Term }
    }
    const frames = [
      frame(1, 0, { kind: 'segment', head }),
      frame(2, 1, vote(1, 'a'), entry(1), entry(2)),
      frame(3, 2),
      frame(4, 2, { kind: 'commit', index: 1 as LogIndex }),
      frame(5, 2, entry(3)),
      frame(6, 5),
      frame(7, 5, { kind: 'commit', index: 3 as LogIndex })
    ]
    await writeFile(segment(dir), Buffer.concat([encodePreamble(salt), ...frames, Buffer.alloc(4_096)]))
    const { wal, recovered } = await Wal.open(dir, { clock: systemClock })
    t.same(texts(recovered.durable.entries), ['1:e1', '1:e2', '1:e3'])
    t.equal(recovered.durable.commitIndex, 3)
    await wal.append([entry(4)])
    await wal.close()
    t.same(texts((await reopen(dir)).recovered.durable.entries), ['1:e1', '1:e2', '1:e3', '1:e4'])
  }
)
