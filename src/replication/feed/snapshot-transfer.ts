// The one way in which a snapshot gets from host to host: to a server that lags, to a client, to another founder. The
// receiver asks for the file piece by piece, and goes on at its offset with any server that has the same file, by content
// id. The sender keeps a file open while it is asked for, although a newer one may have replaced it on the disk.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { FileLayer, OpenFile } from '#platform/file-layer.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import { MAX_SNAPSHOT_BYTES } from '../codec/limits.ts'
import type { IncomingSnapshot, ReceivedSnapshot } from '../storage/incoming-snapshot.ts'
import { PIECE_BYTES, type SavedSnapshot } from '../storage/snapshot-reading.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'snapshot'
/** Of one piece; a slower link is as good as none. */
const TIMEOUT_MS = 10_000
/** How long a file stays open after the last piece. */
const KEPT_MS = 30_000
const MAX_OPEN = 8
/** Between two snapshots that are taken because others ask: they would fill the disk's time. */
const TAKE_PAUSE_MS = 10_000
/** Files that a receiver begins with before it gives a server up: they replace theirs now and then. */
const MAX_STARTS = 8

export type SnapshotSource = {
  readonly clusterId: ClusterId
  /** The newest snapshot on the disk. */
  readonly latest: () => SavedSnapshot | null
  /** A snapshot that covers an entry, taken now if it must be; null when there is none. @throws ERR_STORAGE */
  readonly covering: (index: LogIndex) => Promise<SavedSnapshot | null>
}

type ServeOptions = {
  readonly clock: Clock
  readonly files: FileLayer
  /** Null while this host is no server. */
  readonly source: () => SnapshotSource | null
  /** A restored backup, for the other founders: by its content id, before there is a cluster. */
  readonly seed: () => SavedSnapshot | null
}

type Open = { readonly saved: SavedSnapshot; readonly file: OpenFile; cancel: Cancel }

/** Serves this host's snapshots. @returns a function that closes the files that are open */
export function serveSnapshots(rpc: Rpc, options: ServeOptions): () => Promise<void> {
  const server = new SnapshotServer(options)
  rpc.register(METHOD, body => server.answer(body))
  return () => server.close()
}

class SnapshotServer {
  readonly #options: ServeOptions
  /** By content id. */
  readonly #open = new Map<string, Promise<Open>>()
  #tookMs = -Infinity

  constructor(options: ServeOptions) {
    this.#options = options
  }

  async answer(body: unknown): Promise<readonly unknown[]> {
    const [clusterId, atLeast, id, offset] = Array.isArray(body) ? (body as unknown[]) : []
    if (!isCount(atLeast) || typeof id !== 'string' || !isCount(offset)) throw malformed('snapshot request')
    const source = this.#options.source()
    if (clusterId !== null && source === null) throw new VxmeshError('ERR_PEER', 'this host is not a server')
    if (clusterId !== null && clusterId !== source?.clusterId) throw new VxmeshError('ERR_PEER', 'another cluster')
    const held = this.#open.get(id)
    const { saved, file } = await (held ?? this.#begin(source, { isSeed: clusterId === null, atLeast, id }))
    this.#keep(saved.id)
    const at = saved.id === id ? offset : 0
    return [saved.id, saved.meta.lastIndex, saved.size, at, await file.read(at, PIECE_BYTES)]
  }

  async close(): Promise<void> {
    const all = [...this.#open.values()]
    this.#open.clear()
    for (const opening of all) {
      const open = await opening.catch(() => null)
      open?.cancel()
      await open?.file.close()
    }
  }

  /** Opens the wanted file, or the one that there is instead. */
  async #begin(
    source: SnapshotSource | null,
    wanted: { readonly isSeed: boolean; readonly atLeast: number; readonly id: string }
  ): Promise<Open> {
    const saved = wanted.isSeed ? this.#options.seed() : await this.#covering(source, wanted.atLeast as LogIndex)
    if (saved === null || (wanted.isSeed && saved.id !== wanted.id))
      throw new VxmeshError('ERR_PEER', 'there is no such snapshot')
    const held = this.#open.get(saved.id)
    if (held !== undefined) return held
    if (this.#open.size >= MAX_OPEN) throw new VxmeshError('ERR_BUSY', 'too many snapshots are in transfer; retry')
    const opening = this.#options.files.open(saved.path).then(file => ({ saved, file, cancel: (): void => undefined }))
    this.#open.set(saved.id, opening)
    opening.catch(() => this.#open.delete(saved.id))
    return opening
  }

  async #covering(source: SnapshotSource | null, atLeast: LogIndex): Promise<SavedSnapshot | null> {
    const latest = source?.latest() ?? null
    if (source === null || (latest !== null && latest.meta.lastIndex >= atLeast)) return latest
    const nowMs = this.#options.clock.nowMs()
    if (nowMs - this.#tookMs < TAKE_PAUSE_MS) throw new VxmeshError('ERR_BUSY', 'a snapshot was taken just now; retry')
    const taken = await source.covering(atLeast)
    if (taken !== null) this.#tookMs = nowMs
    return taken
  }

  /** Closes the file some time after the last piece. */
  #keep(id: string): void {
    const opened = this.#open.get(id)
    void opened?.then(open => {
      open.cancel()
      open.cancel = this.#options.clock.after(KEPT_MS, () => {
        if (this.#open.get(id) === opened) this.#open.delete(id)
        open.file.close().catch(() => undefined)
      })
    })
  }
}

/** Fetches a snapshot; durable in a temporary file when it resolves. @throws what the last server or the disk failed with */
export async function fetchSnapshot(
  rpc: Rpc,
  wanted: {
    /** Null for a restored backup. */
    readonly clusterId: ClusterId | null
    /** The lowest last entry of use. */
    readonly atLeast: LogIndex
    /** The content id, if only one will do. */
    readonly id?: string
    /** To ask, the best first. */
    readonly servers: readonly PeerId[]
    readonly receive: () => Promise<IncomingSnapshot>
    readonly signal: AbortSignal
  }
): Promise<ReceivedSnapshot> {
  const transfer = new Transfer(rpc, wanted)
  let failure = new VxmeshError('ERR_PEER', 'no server has a snapshot')
  for (const server of wanted.servers) {
    try {
      return await transfer.continueFrom(server)
    } catch (err) {
      failure = asVxmeshError(err)
      if (failure.code === 'ERR_INTERNAL' || wanted.signal.aborted) break
    }
  }
  await transfer.abandon()
  throw failure
}

type Wanted = Parameters<typeof fetchSnapshot>[1]
type Piece = { readonly id: string; readonly lastIndex: number; readonly size: number; readonly at: number }

class Transfer {
  readonly #rpc: Rpc
  readonly #wanted: Wanted
  #id: string
  #size = 0
  #received = 0
  #starts = 0
  #incoming: IncomingSnapshot | null = null

  constructor(rpc: Rpc, wanted: Wanted) {
    this.#rpc = rpc
    this.#wanted = wanted
    this.#id = wanted.id ?? ''
  }

  async continueFrom(server: PeerId): Promise<ReceivedSnapshot> {
    const { clusterId, atLeast, signal } = this.#wanted
    this.#starts = 0
    for (;;) {
      if (signal.aborted) throw new VxmeshError('ERR_PEER', 'the transfer was abandoned')
      const body = [clusterId, atLeast, this.#id, this.#received]
      const answer = await this.#rpc.call({ peer: server, method: METHOD, body, timeoutMs: TIMEOUT_MS })
      const { piece, bytes } = pieceOf(answer)
      if (this.#incoming === null || piece.id !== this.#id) await this.#restart(piece)
      await this.#take(piece, bytes)
      if (this.#received === this.#size) return this.#finish()
    }
  }

  async abandon(): Promise<void> {
    await this.#incoming?.discard()
    this.#incoming = null
    this.#received = 0
  }

  /** Starts over with the file that a server has. */
  async #restart({ id, lastIndex, size }: Piece): Promise<void> {
    const { atLeast, id: onlyId, receive } = this.#wanted
    if (onlyId !== undefined && id !== onlyId) throw malformed('snapshot')
    if (size > MAX_SNAPSHOT_BYTES) throw new VxmeshError('ERR_TOO_LARGE', `a snapshot of ${size} bytes`)
    if (lastIndex < atLeast) throw new VxmeshError('ERR_PEER', `a snapshot at ${lastIndex}, and ${atLeast} is needed`)
    this.#starts += 1
    if (this.#starts > MAX_STARTS) throw new VxmeshError('ERR_PEER', 'it has another snapshot each time')
    await this.abandon()
    this.#incoming = await receive()
    this.#id = id
    this.#size = size
  }

  async #take({ size, at }: Piece, bytes: Uint8Array): Promise<void> {
    const left = this.#size - this.#received
    // Only the last piece is smaller: a sender could keep a transfer alive for ever otherwise.
    const isRight = size === this.#size && at === this.#received && bytes.byteLength === Math.min(left, PIECE_BYTES)
    if (!isRight || bytes.byteLength === 0) throw malformed('piece of a snapshot')
    try {
      await this.#incoming?.write(bytes)
    } catch (err) {
      // Its bytes are wrong from the beginning, for all that is known: with the next server it starts over.
      await this.abandon()
      throw err
    }
    this.#received += bytes.byteLength
  }

  async #finish(): Promise<ReceivedSnapshot> {
    const { clusterId } = this.#wanted
    const incoming = this.#incoming
    if (incoming === null) throw malformed('snapshot')
    try {
      const received = await incoming.finish()
      const isRight = received.id === this.#id && (clusterId === null || received.clusterId === clusterId)
      if (!isRight || received.meta.lastIndex < this.#wanted.atLeast) throw malformed('snapshot')
      return received
    } catch (err) {
      await this.abandon()
      throw err
    }
  }
}

function pieceOf(answer: unknown): { readonly piece: Piece; readonly bytes: Uint8Array } {
  const [id, lastIndex, size, at, bytes] = Array.isArray(answer) ? (answer as unknown[]) : []
  const isPiece = typeof id === 'string' && isCount(lastIndex) && isCount(size) && isCount(at)
  if (!isPiece || !(bytes instanceof Uint8Array)) throw malformed('piece of a snapshot')
  return { piece: { id, lastIndex, size, at }, bytes }
}
