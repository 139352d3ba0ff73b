import { appendFile, mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'
import type { WalRecord } from '#replication/wal-record.ts'
import { Wal } from '#replication/wal.ts'

const entry = (index: number, term = 1, text = `e${index}`): WalRecord => ({
  kind: 'entry',
  entry: { index: index as LogIndex, term: term as Term, kind: 'command', data: Buffer.from(text) }
})

const vote = (term: number, votedFor: string | null): WalRecord => ({
  kind: 'hard-state',
  hardState: { term: term as Term, votedFor: votedFor as PeerId | null }
})

async function directory(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-wal-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function reopen(dir: string): ReturnType<typeof Wal.open> {
  const opened = await Wal.open(dir)
  await opened.wal.close()
  return opened
}

const texts = (entries: readonly Entry[]): string[] => entries.map(e => `${e.term}:${Buffer.from(e.data).toString()}`)
const segment = (dir: string): string => join(dir, 'log', '00000001.seg')

t.test('what was appended is read back: entries, truncations, vote, commit and origin', async t => {
  const dir = await directory(t)
  const { wal, recovered } = await Wal.open(dir)
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
  const { wal } = await Wal.open(dir)
  await Promise.all(Array.from({ length: 200 }, (_, at) => wal.append([entry(at + 1)])))
  await wal.close()
  t.equal((await reopen(dir)).recovered.durable.entries.length, 200)
})

t.test('a crash at any byte of the last append loses that append at most, and the log goes on', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir)
  await wal.append([vote(3, 'b'), entry(1), entry(2)])
  const before = (await readFile(segment(dir))).byteLength
  await wal.append([entry(3)])
  await wal.close()
  const whole = await readFile(segment(dir))
  for (let length = before; length < whole.byteLength; length++) {
    await writeFile(segment(dir), whole)
    await truncate(segment(dir), length)
    const { wal: cut, recovered } = await Wal.open(dir)
    t.same(texts(recovered.durable.entries), ['1:e1', '1:e2'], `cut to ${length} bytes`)
    t.same(recovered.durable.hardState, { term: 3, votedFor: 'b' })
    await cut.append([entry(3, 4, 'new')])
    await cut.close()
    t.same(texts((await reopen(dir)).recovered.durable.entries), ['1:e1', '1:e2', '4:new'])
  }
})

t.test('a flipped byte anywhere is found or lies in a record that was never finished', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir)
  await wal.append([vote(1, 'a'), entry(1), entry(2)])
  await wal.close()
  const whole = await readFile(segment(dir))
  for (let at = 0; at < whole.byteLength; at++) {
    const damaged = Buffer.from(whole)
    damaged[at] = (damaged[at] ?? 0) ^ 0x40
    await writeFile(segment(dir), damaged)
    const outcome = await reopen(dir).then(
      opened => opened.recovered,
      (err: unknown) => err as { code: string }
    )
    if ('code' in outcome) t.equal(outcome.code, 'ERR_STORAGE', `byte ${at}`)
    else t.ok(outcome.cutBytes > 0, `byte ${at}: a length that runs over the end looks like an unfinished append`)
  }
})

t.test('records that were swapped or spliced are refused', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir)
  await wal.append([entry(1, 1, 'aa')])
  const first = await readFile(segment(dir))
  await wal.append([entry(2, 1, 'bb')])
  await wal.close()
  await appendFile(segment(dir), first)
  await t.rejects(Wal.open(dir), { code: 'ERR_STORAGE' })
})

t.test('after a failed write every later append fails: nothing is retried', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir)
  await wal.append([entry(1)])
  await wal.close()
  await t.rejects(wal.append([entry(2)]), { code: 'ERR_STORAGE' })
  await t.rejects(wal.append([entry(2)]), { code: 'ERR_STORAGE' })
  const file = await open(segment(dir))
  await file.close()
  t.equal((await reopen(dir)).recovered.durable.entries.length, 1)
})

t.test('a log that ends before what it says is committed has lost something, and is refused', async t => {
  const dir = await directory(t)
  const { wal } = await Wal.open(dir)
  await wal.append([entry(1)])
  await wal.noteCommit(9 as LogIndex)
  await wal.close()
  await t.rejects(Wal.open(dir), { code: 'ERR_STORAGE', message: /entry 9 is committed, and the log ends with 1/ })
})
