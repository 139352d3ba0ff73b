// A client of Serf's RPC: msgpack values back to back over loopback TCP. Requests and replies are a header and an optional
// body; replies are matched by sequence number. Any protocol error closes the connection.

import { connect, type Socket } from 'node:net'
import { VxmeshError } from '#model/errors.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { encodeMsgpack, msgpackValueStream } from '#platform/msgpack.ts'

/** Unparsed bytes of one reply: a list of ten thousand members is about 4 MiB. */
const MAX_REPLY_BYTES = 16 * 1024 * 1024
const CALL_TIMEOUT_MS = 10_000
const CONNECT_TIMEOUT_MS = 2_000

type Pending = {
  readonly resolve: (body: unknown) => void
  readonly reject: (err: VxmeshError) => void
  readonly hasBody: boolean
  readonly cancelTimeout: Cancel
}

type Fields = Readonly<Record<string, unknown>>

type SerfRpcOptions = {
  readonly port: number
  readonly host?: string
  /** Token, if this Serf requires one. */
  readonly auth?: string | null
  readonly clock: Clock
  /** Called once when the connection ends, for any reason. */
  readonly closed?: (err: VxmeshError) => void
}

export class SerfRpc {
  readonly #socket: Socket
  readonly #clock: Clock
  readonly #pending = new Map<number, Pending>()
  readonly #closed: (err: VxmeshError) => void
  #logSeq: number | null = null
  #onLog: (line: string) => void = () => undefined
  /** Receives the next value on the stream: the body of a reply. */
  #onBody: ((body: unknown) => void) | null = null
  /** The last reply was an error for a command with a body. Some commands, such as `join`, send the body even then. */
  #bodyMayFollow = false
  #nextSeq = 0
  #ended: VxmeshError | null = null
  #unparsedBytes = 0

  private constructor(socket: Socket, { clock, closed = () => undefined }: SerfRpcOptions) {
    this.#socket = socket
    this.#clock = clock
    this.#closed = closed
    const values = msgpackValueStream()
    values.on('data', (value: unknown) => {
      this.#unparsedBytes = 0
      this.#take(value)
    })
    values.on('error', (err: Error) => this.#end(serfError(`sent invalid msgpack: ${err.message}`)))
    socket.on('data', chunk => {
      this.#unparsedBytes += chunk.byteLength
      if (this.#unparsedBytes > MAX_REPLY_BYTES) this.#end(serfError(`sent a reply of over ${MAX_REPLY_BYTES} bytes`))
      else values.write(chunk)
    })
    socket.on('error', err => this.#end(serfError(err.message)))
    socket.on('close', () => this.#end(serfError('closed the connection')))
  }

  /** Connects and performs the handshake. @throws ERR_SERF */
  static async open(options: SerfRpcOptions): Promise<SerfRpc> {
    const socket = connect({ port: options.port, host: options.host ?? '127.0.0.1', noDelay: true })
    await new Promise<void>((resolve, reject) => {
      const cancelTimeout = options.clock.after(CONNECT_TIMEOUT_MS, () => {
        socket.destroy(new Error('connection timed out'))
      })
      socket.once('connect', () => {
        cancelTimeout()
        resolve()
      })
      socket.once('error', err => {
        cancelTimeout()
        reject(serfError(`is not reachable on port ${options.port}: ${err.message}`))
      })
    })
    const rpc = new SerfRpc(socket, options)
    try {
      await rpc.#call('handshake', { Version: 1 }, false)
      const { auth = null } = options
      if (auth !== null) await rpc.#call('auth', { AuthKey: auth }, false)
      return rpc
    } catch (err) {
      rpc.close()
      throw err
    }
  }

  /** Serf's member records, unparsed. @throws ERR_SERF */
  async members(): Promise<readonly unknown[]> {
    return membersIn(await this.#call('members', null, true))
  }

  /** The records of these names, which must be names of hosts. @throws ERR_SERF */
  async membersNamed(names: Iterable<string>): Promise<readonly unknown[]> {
    // A regular expression, to which Serf adds the anchors.
    const Name = `(?:${[...names].map(name => name.replaceAll('.', '[.]')).join('|')})`
    return membersIn(await this.#call('members-filtered', { Tags: {}, Status: '', Name }, true))
  }

  /** @returns how many of the addresses were joined @throws ERR_JOIN_FAILED */
  async join(addresses: readonly string[]): Promise<number> {
    try {
      const body = (await this.#call('join', { Existing: addresses, Replay: false }, true)) as Fields | null
      return Number(body?.['Num'] ?? 0)
    } catch (err) {
      const text = err instanceof Error ? err.message : String(err)
      throw new VxmeshError('ERR_JOIN_FAILED', `cannot join ${addresses.join(', ')}: ${text}`, { cause: err })
    }
  }

  /** Leaves gracefully; Serf then exits. */
  async leave(): Promise<void> {
    await this.#call('leave', null, false)
  }

  async setTags(tags: Readonly<Record<string, string>>): Promise<void> {
    await this.#call('tags', { Tags: tags, DeleteTags: [] }, false)
  }

  /** Serf's statistics by group and key, such as `agent` and `name`; all values are text. */
  async stats(): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>> {
    return (await this.#call('stats', null, true)) as Record<string, Record<string, string>>
  }

  /** Streams Serf's log lines from now on. One listener per connection. */
  async monitor(listener: (line: string) => void): Promise<void> {
    this.#onLog = listener
    this.#logSeq = this.#nextSeq
    await this.#call('monitor', { LogLevel: 'INFO' }, false)
  }

  close(): void {
    this.#end(serfError('connection closed'))
  }

  #call(command: string, body: unknown, hasBody: boolean): Promise<unknown> {
    if (this.#ended !== null) return Promise.reject(this.#ended)
    return new Promise((resolve, reject) => {
      const seq = this.#nextSeq++
      const timedOut = (): void => this.#end(serfError(`did not reply to "${command}" in time`))
      const cancelTimeout = this.#clock.after(CALL_TIMEOUT_MS, timedOut)
      this.#pending.set(seq, { resolve, reject, hasBody, cancelTimeout })
      this.#socket.write(encodeMsgpack({ Command: command, Seq: seq }))
      if (body !== null) this.#socket.write(encodeMsgpack(body))
    })
  }

  #take(value: unknown): void {
    if (this.#ended !== null) return
    const onBody = this.#onBody
    if (onBody !== null) {
      this.#onBody = null
      onBody(value)
      return
    }
    const header = typeof value === 'object' && value !== null ? (value as Fields) : {}
    const isBody = this.#bodyMayFollow && !('Seq' in header)
    this.#bodyMayFollow = false
    if (isBody) return
    const { Seq: seq, Error: error } = header as { Seq?: unknown; Error?: unknown }
    if (typeof seq !== 'number' || typeof error !== 'string') {
      this.#end(serfError('sent something that is not a reply'))
      return
    }
    const pending = this.#pending.get(seq)
    if (pending !== undefined) this.#settle(seq, pending, error)
    else if (seq === this.#logSeq) this.#onBody = record => this.#takeLog(record)
    else this.#end(serfError(`replied to request ${seq}, which was never sent`))
  }

  #takeLog(record: unknown): void {
    const line = (record as Fields | null)?.['Log']
    if (typeof line === 'string') this.#onLog(line)
  }

  #settle(seq: number, pending: Pending, error: string): void {
    const settled = (): Pending => {
      this.#pending.delete(seq)
      pending.cancelTimeout()
      return pending
    }
    this.#bodyMayFollow = error !== '' && pending.hasBody
    if (error !== '') settled().reject(serfError(error))
    // A request stays pending until its body arrives: the connection may close first, or time out.
    else if (pending.hasBody) this.#onBody = body => settled().resolve(body)
    else settled().resolve(null)
  }

  #end(reason: VxmeshError): void {
    if (this.#ended !== null) return
    this.#ended = reason
    this.#socket.destroy()
    for (const { reject, cancelTimeout } of this.#pending.values()) {
      cancelTimeout()
      reject(reason)
    }
    this.#pending.clear()
    this.#closed(reason)
  }
}

function membersIn(body: unknown): readonly unknown[] {
  const members = (body as Fields | null)?.['Members']
  if (!Array.isArray(members)) throw serfError('replied to "members" without members')
  return members as readonly unknown[]
}

function serfError(message: string): VxmeshError {
  return new VxmeshError('ERR_SERF', `serf: ${message}`)
}
