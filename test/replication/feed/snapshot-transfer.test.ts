// The transfer of snapshots between real hosts: resumed, moved to another server, and not fooled.

import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { MAX_SNAPSHOT_BYTES } from '#replication/codec/limits.ts'
import { fetchSnapshot, serveSnapshots } from '#replication/feed/snapshot-transfer.ts'
import { IncomingSnapshot, type ReceivedSnapshot } from '#replication/storage/incoming-snapshot.ts'
import { checkSnapshotFile, PIECE_BYTES, type SavedSnapshot } from '#replication/storage/snapshot-reading.ts'
import { ManualClock } from '../../lab/manual-clock.ts'
import { scratch } from '../../api/scratch.ts'
import { CLUSTER, index } from '../entries.ts'
import { host, introduce, type Host } from '../hosts.ts'
import { snapshotBytes } from '../snapshots.ts'

const CONFIGURATION = { voters: ['a' as PeerId], learners: [] }
const head = (lastIndex: number, clusterId = CLUSTER): Parameters<typeof snapshotBytes>[0] => ({
  clusterId,
  meta: { lastIndex: lastIndex as LogIndex, lastTerm: 1 as Term, configuration: CONFIGURATION }
})

/** Five pieces. */
const content = (seed: number): Buffer[] =>
  Array.from({ length: 5 }, (_, n) => Buffer.alloc(PIECE_BYTES - 1_000, `${seed}${n}`))
const nine = await snapshotBytes(head(9), ...content(9))
const twelve = await snapshotBytes(head(12), ...content(12))

type Serving = {
  readonly host: Host
  readonly clock: ManualClock
  saved: SavedSnapshot | null
  /** Covers every entry asked for; called when `saved` does not. */
  taking: (index: LogIndex) => Promise<SavedSnapshot | null>
  /** Where the last file was put. */
  path: string
  put: (bytes: Buffer) => Promise<SavedSnapshot>
}

async function serving(t: Test, bytes?: Buffer): Promise<Serving> {
  const on = await host(t)
  const dir = scratch(t)
  const clock = new ManualClock()
  const made: Serving = {
    host: on,
    clock,
    saved: null,
    taking: () => Promise.resolve(null),
    path: '',
    put: async given => {
      made.path = join(dir, `${(await readdir(dir)).length}.snap`)
      await writeFile(made.path, given)
      made.saved = await checkSnapshotFile(diskFiles, made.path)
      return made.saved
    }
  }
  if (bytes !== undefined) await made.put(bytes)
  const source = {
    clusterId: CLUSTER,
    latest: () => made.saved,
    covering: (wanted: LogIndex) => made.taking(wanted)
  }
  t.teardown(serveSnapshots(on.rpc, { clock: clock.clock, files: diskFiles, source: () => source, seed: () => null }))
  return made
}

type Asking = {
  readonly dir: string
  readonly fetch: (servers: readonly Host[], p?: { atLeast?: number; files?: FileLayer }) => Promise<ReceivedSnapshot>
  /** Called before each piece is written. */
  onPiece: (count: number) => Promise<void> | void
  readonly host: Host
  readonly stop: AbortController
}

async function asking(t: Test, ...servers: readonly Host[]): Promise<Asking> {
  const on = await host(t)
  for (const server of servers) introduce(on, server)
  const dir = scratch(t)
  const stop = new AbortController()
  let count = 0
  const made: Asking = {
    dir,
    host: on,
    stop,
    onPiece: () => undefined,
    fetch: (from, p = {}) =>
      fetchSnapshot(on.rpc, {
        clusterId: CLUSTER,
        atLeast: index(p.atLeast ?? 1),
        servers: from.map(({ peer }) => peer),
        receive: async () => {
          const incoming = await IncomingSnapshot.create(p.files ?? diskFiles, join(dir, 'received.snap.new'))
          const write = incoming.write.bind(incoming)
          incoming.write = async bytes => {
            count += 1
            await made.onPiece(count)
            await write(bytes)
          }
          return incoming
        },
        signal: stop.signal
      })
  }
  return made
}

t.test('a snapshot arrives byte by byte, checked and durable', async t => {
  const server = await serving(t, nine)
  const asker = await asking(t, server.host)
  const received = await asker.fetch([server.host], { atLeast: 9 })
  t.match(received, { meta: { lastIndex: 9 }, id: server.saved?.id, size: nine.byteLength })
  t.ok(nine.equals(await readFile(received.path)))
})

t.test('when a server is lost in the middle, one with the same file continues at the offset', async t => {
  const [first, second] = [await serving(t, nine), await serving(t, nine)]
  const asker = await asking(t, first.host, second.host)
  let pieces = 0
  asker.onPiece = async count => {
    pieces = count
    if (count === 3) await first.host.mesh.stop()
  }
  const received = await asker.fetch([first.host, second.host])
  t.ok(nine.equals(await readFile(received.path)))
  t.equal(pieces, Math.ceil(nine.byteLength / PIECE_BYTES), 'no piece came twice')
})

t.test('when the next server has another snapshot, the transfer starts over with that', async t => {
  const [first, second] = [await serving(t, nine), await serving(t, twelve)]
  const asker = await asking(t, first.host, second.host)
  asker.onPiece = async count => {
    if (count === 3) await first.host.mesh.stop()
  }
  const received = await asker.fetch([first.host, second.host])
  t.equal(received.meta.lastIndex, 12)
  t.ok(twelve.equals(await readFile(received.path)))
})

t.test('a transfer goes on although a newer snapshot has replaced the file', async t => {
  const server = await serving(t, nine)
  const asker = await asking(t, server.host)
  asker.onPiece = async count => {
    if (count !== 2) return
    await rm(server.path)
    await server.put(twelve)
  }
  t.equal((await asker.fetch([server.host])).meta.lastIndex, 9)
  t.equal((await asker.fetch([server.host])).meta.lastIndex, 12, 'the next one gets the newer')
})

t.test('a snapshot is taken for an asker whom the newest one is too old for, and not for each', async t => {
  const server = await serving(t, nine)
  const asker = await asking(t, server.host)
  let taken = 0
  server.taking = async wanted => {
    taken += 1
    return wanted > 12 ? null : server.put(twelve)
  }
  await t.rejects(asker.fetch([server.host], { atLeast: 13 }), { code: 'ERR_PEER', message: /no such snapshot/ })
  t.equal((await asker.fetch([server.host], { atLeast: 12 })).meta.lastIndex, 12)
  server.saved = null
  await t.rejects(asker.fetch([server.host], { atLeast: 12 }), { code: 'ERR_BUSY', message: /just now/ })
  t.equal(taken, 2)
  await server.clock.advance(10_000)
  t.equal((await asker.fetch([server.host], { atLeast: 12 })).meta.lastIndex, 12)
})

t.test('a file is closed some time after its last piece', async t => {
  const server = await serving(t, nine)
  const asker = await asking(t, server.host)
  await asker.fetch([server.host])
  await rm(server.path)
  t.equal((await asker.fetch([server.host])).meta.lastIndex, 9, 'it is still open')
  await server.clock.advance(30_000)
  await t.rejects(asker.fetch([server.host]), { message: /ENOENT/ })
})

t.test('a transfer that is given up leaves no file', async t => {
  const server = await serving(t, nine)
  const asker = await asking(t, server.host)
  asker.onPiece = count => {
    if (count === 3) asker.stop.abort()
  }
  await t.rejects(asker.fetch([server.host]), { code: 'ERR_PEER', message: /abandoned/ })
  t.same(await readdir(asker.dir), [])
})

t.test('a full disk ends the transfer in words, leaves no file, and the next attempt succeeds', async t => {
  const server = await serving(t, nine)
  const asker = await asking(t, server.host)
  const full: FileLayer = {
    ...diskFiles,
    create: async path => {
      const file = await diskFiles.create(path)
      let written = 0
      return {
        ...file,
        write: (bytes, position) => {
          written += 1
          if (written < 3) return file.write(bytes, position)
          return Promise.reject(Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' }))
        }
      }
    }
  }
  await t.rejects(asker.fetch([server.host], { files: full }), { code: 'ERR_STORAGE', message: /ENOSPC/ })
  t.same(await readdir(asker.dir), [])
  t.equal((await asker.fetch([server.host])).meta.lastIndex, 9)
})

type Answer = (id: string, offset: number) => unknown
const piece = (bytes: Buffer, offset: number): Buffer => bytes.subarray(offset, offset + PIECE_BYTES)
const foreign = await snapshotBytes(head(9, 'another' as ClusterId), ...content(1))
const flipped = Buffer.from(nine.map((byte, at) => (at === 600_000 ? byte ^ 1 : byte)))
const HOSTILE: Readonly<Record<string, readonly [answer: Answer, words: RegExp]>> = {
  nothing: [() => null, /malformed/],
  'another shape': [() => ['x', 9, 5, 0], /malformed/],
  'a size of text': [() => ['x', 9, '5', 0, piece(nine, 0)], /malformed/],
  'more than the bound': [() => ['x', 9, MAX_SNAPSHOT_BYTES + 1, 0, piece(nine, 0)], /1073741825 bytes/],
  'an older snapshot': [() => ['x', 0, nine.byteLength, 0, piece(nine, 0)], /a snapshot at 0, and 1 is needed/],
  'empty pieces': [() => ['x', 9, nine.byteLength, 0, Buffer.alloc(0)], /malformed/],
  'small pieces without end': [(_id, at) => ['x', 9, nine.byteLength, at, nine.subarray(at, at + 10)], /malformed/],
  'a piece beyond the end': [() => ['x', 9, 10, 0, piece(nine, 0)], /malformed/],
  'the same piece again': [() => ['x', 9, nine.byteLength, 0, piece(nine, 0)], /malformed/],
  'another size in the middle': [(_id, at) => ['x', 9, nine.byteLength + at, at, piece(nine, at)], /malformed/],
  'another file at each piece': [
    () => [`x${Math.random()}`, 9, nine.byteLength, 0, piece(nine, 0)],
    /another snapshot each time/
  ],
  'a flipped bit': [(_id, at) => ['x', 9, nine.byteLength, at, piece(flipped, at)], /checksum does not match/],
  'a file that is cut': [
    (_id, at) => ['x', 9, nine.byteLength - 5, at, piece(nine.subarray(0, -5), at)],
    /length does not match/
  ],
  'another id than the file’s': [(_id, at) => ['x', 9, nine.byteLength, at, piece(nine, at)], /malformed snapshot/],
  'no snapshot file': [() => ['x', 9, 40, 0, Buffer.alloc(40)], /does not start with a snapshot header/],
  'a snapshot of another cluster': [(_id, at) => ['x', 9, foreign.byteLength, at, piece(foreign, at)], /malformed/]
}
for (const [what, [answer, words]] of Object.entries(HOSTILE)) {
  t.test(`a server that sends ${what} is passed over, and its bytes are gone`, async t => {
    const [bad, good] = [await host(t), await serving(t, twelve)]
    const asker = await asking(t, bad, good.host)
    bad.rpc.register('snapshot', body => {
      const [, , id, offset] = body as [string, number, string, number]
      return Promise.resolve(answer(id, offset))
    })
    await t.rejects(asker.fetch([bad]), { message: words })
    t.same(await readdir(asker.dir), [])
    t.equal((await asker.fetch([bad, good.host])).meta.lastIndex, 12)
  })
}

const REFUSED: Readonly<Record<string, readonly [body: unknown, words: RegExp]>> = {
  'no request': [null, /malformed/],
  'an offset of text': [[CLUSTER, 1, '', '0'], /malformed/],
  'an index below zero': [[CLUSTER, -1, '', 0], /malformed/],
  'no id': [[CLUSTER, 1, null, 0], /malformed/],
  'another cluster': [['another', 1, '', 0], /another cluster/],
  'a restored backup that is not here': [[null, 0, 'f'.repeat(16), 0], /no such snapshot/]
}
t.test('requests that cannot be served are refused in words', async t => {
  const server = await serving(t, nine)
  const asker = await asking(t, server.host)
  for (const [what, [body, message]] of Object.entries(REFUSED)) {
    const call = asker.host.rpc.call({ peer: server.host.peer, method: 'snapshot', body, timeoutMs: 5_000 })
    await t.rejects(call, { message }, what)
  }
  const idle = await host(t)
  introduce(asker.host, idle)
  serveSnapshots(idle.rpc, { clock: server.clock.clock, files: diskFiles, source: () => null, seed: () => null })
  await t.rejects(asker.fetch([idle]), { code: 'ERR_PEER', message: /not a server/ })
  await t.rejects(asker.fetch([]), { code: 'ERR_PEER', message: /no server has a snapshot/ })
})
