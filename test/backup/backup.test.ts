import { existsSync } from 'node:fs'
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Caller, attach, create, makeHost } from '../allocator/fixtures.ts'
import { scratch } from '../api/scratch.ts'
import { inspectBackup, readBackup, restoreBackup } from '#backup/backup.ts'
import { digestOf } from '#allocator/digest.ts'
import { stateFrom, stateSections } from '#backup/state-bytes.ts'
import { encodeState } from '#allocator/snapshot.ts'
import { isVacant } from '#model/host.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { lockDirectory } from '#platform/lock.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { readSeed, seedPath } from '#replication/cluster/seed.ts'
import { snapshotFileBytes } from '#replication/storage/snapshot-file.ts'
import { sectionsOf } from '#replication/storage/snapshot-reading.ts'
import { joined, snapshotBytes } from '../replication/snapshots.ts'

const caller = Caller.ready()
caller.do(create('blue', { subnet: '10.2.0.0/24' }))
caller.do(attach('red', 'c1'))
caller.do(attach('blue', 'c2', { host: 2 }))

function backup(change: { readonly data?: unknown; readonly index?: number } = {}): Promise<Buffer> {
  const { state } = caller
  const lastIndex = (change.index ?? state.appliedIndex) as LogIndex
  const configuration = { voters: [makeHost(2).peerId, makeHost(1).peerId, 'gone' as PeerId], learners: [] }
  const head = { clusterId: 'c0ffee' as ClusterId, meta: { lastIndex, lastTerm: 5 as Term, configuration } }
  if (change.data !== undefined) return snapshotBytes(head, encodeMsgpack(change.data))
  return joined(snapshotFileBytes(head, stateSections(state)))
}

async function fileWith(t: Test, bytes: Uint8Array): Promise<string> {
  const file = join(scratch(t), 'backup.snap')
  await writeFile(file, bytes)
  return file
}

t.test('a backup’s content is described from the file alone', async t => {
  const bytes = await backup()
  const file = await fileWith(t, bytes)
  t.same(await inspectBackup(file, await readBackup(file)), {
    ...{ file, bytes: bytes.byteLength, version: 2, cluster: 'c0ffee', index: caller.state.appliedIndex, term: 5 },
    ...{
      digest: digestOf(caller.state),
      servers: ['gone', 'h1', 'h2'],
      hosts: 2,
      networks: 2,
      endpoints: 2,
      namespaces: 0,
      services: 0,
      policies: 0
    }
  })
})

const plain = (): Record<string, unknown> =>
  decodeMsgpack(encodeMsgpack(encodeState(caller.state))) as Record<string, unknown>
const another = async (): Promise<Buffer> => {
  const bytes = await backup()
  bytes.writeUInt16BE(9, 4)
  return bytes
}

const DAMAGED: readonly (readonly [what: string, bytes: Buffer, words: RegExp])[] = [
  ['nothing', Buffer.alloc(0), /does not start with a snapshot header/],
  ['another file', Buffer.from('#!/bin/sh\n'.repeat(20)), /does not start with a snapshot header/],
  ['a torn one', (await backup()).subarray(0, -1), /length does not match its header/],
  ['one with more behind it', Buffer.concat([await backup(), Buffer.from('x')]), /goes on after its end/],
  [
    'a flipped byte',
    Buffer.from((await backup()).map((byte, at) => (at === 200 ? byte ^ 1 : byte))),
    /checksum does not match/
  ],
  ['another version', await another(), /has version 9, and this program reads 1 and 2/],
  ['a state of another format', await backup({ data: { ...plain(), format: 99 } }), /format 99 is not known/],
  [
    'a state of another digest',
    await backup({ data: { ...plain(), digest: '0'.repeat(16) } }),
    /digest does not match/
  ],
  ['a state of another index', await backup({ index: 3 }), /its head says entry 3, its state entry/],
  ['a state that is none', await backup({ data: ['x'] }), /the snapshot cannot be used/]
]

t.test('a damaged backup is refused with the reason, and nothing is written', async t => {
  for (const [what, bytes, words] of DAMAGED) {
    const [file, dataDir] = [await fileWith(t, bytes), join(scratch(t), 'data')]
    await t.rejects(inspectBackup(file, bytes), { code: 'ERR_STORAGE', message: words }, what)
    await t.rejects(restoreBackup({ file, dataDir }), { code: 'ERR_STORAGE', message: words }, what)
    t.notOk(existsSync(dataDir), what)
  }
  const missing = join(scratch(t), 'none.snap')
  await t.rejects(readBackup(missing), { code: 'ERR_STORAGE', message: /none.snap cannot be read/ })
})

t.test(
  'a restored backup is in the data directory as a seed: the same networks and endpoints, the hosts vacant',
  async t => {
    const file = await fileWith(t, await backup())
    const [dataDir, same] = [join(scratch(t), 'a/data'), scratch(t)]
    t.match(await restoreBackup({ file, dataDir }), { networks: 2, endpoints: 2 })
    t.same(await readdir(dataDir), ['restore.snap'])
    t.equal((await stat(dataDir)).mode & 0o777, 0o700)
    t.equal((await stat(seedPath(dataDir))).mode & 0o777, 0o600)
    const seed = await readSeed({ dataDir, files: diskFiles })
    const state = await stateFrom(sectionsOf(diskFiles, seed?.snapshot.path ?? ''))
    t.equal(state.endpointCount, 2)
    t.ok([...state.hosts()].every(isVacant))
    await mkdir(join(same, 'lost+found'))
    await restoreBackup({ file, dataDir: same })
    t.equal(
      (await readSeed({ dataDir: same, files: diskFiles }))?.id,
      seed?.id,
      'and it is the same wherever it was restored'
    )
  }
)

t.test('a data directory that is in use, or holds anything, is refused and stays as it is', async t => {
  const file = await fileWith(t, await backup())
  const inUse = scratch(t)
  const lock = await lockDirectory(inUse)
  await t.rejects(restoreBackup({ file, dataDir: inUse }), {
    code: 'ERR_CONFIG',
    field: 'dataDir',
    message: /in use by the agent/
  })
  t.same(await readdir(inUse), ['agent.lock'])
  await lock.release()
  for (const name of ['identity.key', 'log', 'restore.snap', 'incarnation']) {
    const dataDir = scratch(t)
    await writeFile(join(dataDir, name), 'x')
    const refused = { code: 'ERR_CONFIG', field: 'dataDir', message: new RegExp(`is not empty \\(${name}\\)`) }
    await t.rejects(restoreBackup({ file, dataDir }), refused, name)
    t.same(await readdir(dataDir), [name])
  }
})
