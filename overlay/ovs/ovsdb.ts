// A client of ovsdb-server on its UNIX socket (RFC 7047): transactions, and notification of changes by others. It keeps no
// replica of the database: a select takes 0.2 ms. It reconnects, with back-off, until it is closed.

import { createConnection, type Socket } from 'node:net'
import { VxmeshError } from '#model/errors.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { JsonStream } from './json-stream.ts'

const DATABASE = 'Open_vSwitch'
const REPLY_MS = 5_000
const [RETRY_MIN_MS, RETRY_MAX_MS] = [100, 2_000]

/** Columns that ovs-vswitchd never writes: a change of them by anyone else is drift. */
const CONFIGURED = {
  Open_vSwitch: ['bridges'],
  Bridge: ['name', 'ports', 'fail_mode', 'datapath_type', 'external_ids', 'controller', 'protocols'],
  Port: ['name', 'interfaces', 'tag'],
  Interface: ['name', 'type', 'options', 'ofport_request', 'external_ids']
} as const

export type Operation = Readonly<Record<string, unknown>> & { readonly op: string }
export type Row = Readonly<Record<string, unknown>>
/** The result of one operation. */
export type OperationResult = { readonly rows?: readonly Row[]; readonly count?: number; readonly uuid?: unknown }

type Pending = { resolve: (result: unknown) => void; reject: (err: unknown) => void; readonly cancel: Cancel }
type Message = { id?: unknown; method?: unknown; params?: unknown; result?: unknown; error?: unknown }

export class Ovsdb {
  readonly #path: string
  readonly #clock: Clock
  readonly #pending = new Map<number, Pending>()
  #socket: Socket | null = null
  #nextId = 1
  /** Transactions in flight: the server sends their updates before their replies. */
  #transacting = 0
  #retryMs = RETRY_MIN_MS
  #cancelRetry: Cancel | null = null
  #closed = false
  /** Called when someone else changes the configuration, and (`reconnected`) when the server is back. */
  onChange: (reconnected: boolean) => void = () => undefined
  readonly #onApplied = new Set<() => void>()

  private constructor(p: { readonly path: string; readonly clock: Clock }) {
    this.#path = p.path
    this.#clock = p.clock
  }

  /** @param p `path`: of the server's socket. @throws ERR_KERNEL when the server does not answer */
  static async connect(p: { readonly path: string; readonly clock: Clock }): Promise<Ovsdb> {
    const client = new Ovsdb(p)
    try {
      await client.#connect()
    } catch (err) {
      client.close()
      throw err
    }
    return client
  }

  /**
   * Atomic. Returns one result an operation.
   * @throws ERR_KERNEL with the server's error. The outcome is unknown only when the connection was lost
   */
  async transact(operations: readonly Operation[]): Promise<readonly OperationResult[]> {
    this.#transacting++
    try {
      const results = await this.#call('transact', [DATABASE, ...operations])
      if (!Array.isArray(results)) throw refused('transact', results)
      for (const result of results as unknown[]) if (isFailure(result)) throw refused('transact', result)
      return results as OperationResult[]
    } finally {
      this.#transacting--
    }
  }

  /** Waits until ovs-vswitchd has applied this configuration number. @throws ERR_KERNEL */
  async applied(config: number, timeoutMs: number): Promise<void> {
    const deadline = new AbortController()
    const cancel = this.#clock.after(timeoutMs, () => deadline.abort())
    try {
      let applied = false
      while (!applied) applied = await this.#hasApplied(config, deadline.signal)
    } finally {
      cancel()
    }
  }

  close(): void {
    this.#closed = true
    this.#cancelRetry?.()
    this.#disconnect(new VxmeshError('ERR_KERNEL', 'the connection to ovsdb-server is closed'))
  }

  /** Reads the applied number; returns false after its next update, or when the deadline passes. */
  async #hasApplied(config: number, deadline: AbortSignal): Promise<boolean> {
    let wake: () => void = () => undefined
    // Subscribe before the select: an update in between must not be missed.
    const updated = new Promise<void>(resolve => (wake = resolve))
    this.#onApplied.add(wake)
    deadline.addEventListener('abort', wake)
    try {
      const [answer] = await this.transact([{ op: 'select', table: DATABASE, where: [], columns: ['cur_cfg'] }])
      if (Number(answer?.rows?.[0]?.['cur_cfg'] ?? 0) >= config) return true
      if (deadline.aborted)
        throw new VxmeshError('ERR_KERNEL', 'ovs-vswitchd has not applied the configuration in time')
      await updated
      return false
    } finally {
      this.#onApplied.delete(wake)
      deadline.removeEventListener('abort', wake)
    }
  }

  async #connect(): Promise<void> {
    const socket = createConnection(this.#path)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', err => reject(new VxmeshError('ERR_KERNEL', `ovsdb-server: ${err.message}`, { cause: err })))
    })
    if (this.#closed) {
      socket.destroy()
      return
    }
    const stream = new JsonStream()
    this.#socket = socket
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (this.#socket !== socket) return
      this.#disconnect(new VxmeshError('ERR_KERNEL', 'the connection to ovsdb-server broke'))
      this.#reconnect()
    })
    socket.on('data', (chunk: Uint8Array) => {
      try {
        for (const message of stream.push(chunk)) this.#receive(message as Message)
      } catch (err) {
        socket.destroy(err instanceof Error ? err : undefined)
      }
    })
    await this.#monitor('configured', CONFIGURED)
    await this.#monitor('applied', { Open_vSwitch: ['cur_cfg'] })
    this.#retryMs = RETRY_MIN_MS
  }

  /** Subscribes to changes, without the initial contents. */
  async #monitor(name: string, tables: Readonly<Record<string, readonly string[]>>): Promise<void> {
    const select = { initial: false, insert: true, delete: true, modify: true }
    const requests = Object.fromEntries(
      Object.entries(tables).map(([table, columns]) => [table, [{ columns, select }]])
    )
    await this.#call('monitor_cond_since', [DATABASE, name, requests, '00000000-0000-0000-0000-000000000000'])
  }

  /** Schedules one attempt. A connection that breaks during its handshake asks for it twice. */
  #reconnect(): void {
    if (this.#closed || this.#cancelRetry !== null) return
    this.#cancelRetry = this.#clock.after(this.#retryMs, () => {
      this.#cancelRetry = null
      this.#connect().then(
        () => this.onChange(true),
        () => {
          this.#disconnect(new VxmeshError('ERR_KERNEL', 'ovsdb-server does not answer'))
          this.#reconnect()
        }
      )
    })
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS)
  }

  /** Every pending call fails with the error. */
  #disconnect(err: VxmeshError): void {
    const socket = this.#socket
    this.#socket = null
    socket?.destroy()
    for (const { reject, cancel } of this.#pending.values()) {
      cancel()
      reject(err)
    }
    this.#pending.clear()
  }

  #call(method: string, params: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const socket = this.#socket
      if (socket === null) {
        reject(new VxmeshError('ERR_KERNEL', 'there is no connection to ovsdb-server'))
        return
      }
      const id = this.#nextId++
      // A late reply would arrive after its caller has given up, so the connection is replaced.
      const cancel = this.#clock.after(REPLY_MS, () => socket.destroy())
      this.#pending.set(id, { resolve, reject, cancel })
      socket.write(JSON.stringify({ id, method, params }))
    })
  }

  #receive({ id, method, params, result, error }: Message): void {
    if (method === 'echo') {
      this.#socket?.write(JSON.stringify({ id, result: params, error: null }))
    } else if (method === 'update3' && Array.isArray(params)) {
      if (params[0] === 'applied') for (const wake of this.#onApplied) wake()
      else if (this.#transacting === 0) this.onChange(false)
    } else if (method === undefined && typeof id === 'number') {
      const pending = this.#pending.get(id)
      this.#pending.delete(id)
      pending?.cancel()
      if (error === null || error === undefined) pending?.resolve(result)
      else pending?.reject(refused('request', error))
    }
  }
}

/** Encodes an OVSDB map. */
export function toMap(values: Readonly<Record<string, string>>): unknown {
  return ['map', Object.entries(values)]
}

export function fromMap(value: unknown): Readonly<Record<string, string>> {
  return Array.isArray(value) && value[0] === 'map' ? Object.fromEntries(value[1] as [string, string][]) : {}
}

/** Decodes an OVSDB set; a set of one element is sent as the bare element. */
export function fromSet(value: unknown): readonly unknown[] {
  return Array.isArray(value) && value[0] === 'set' ? (value[1] as unknown[]) : value === undefined ? [] : [value]
}

/** The UUID of a row reference; an empty string when the value is none. */
export function uuidOf(value: unknown): string {
  return Array.isArray(value) && value[0] === 'uuid' ? String(value[1]) : ''
}

function isFailure(result: unknown): boolean {
  return typeof result === 'object' && result !== null && 'error' in result
}

function refused(what: string, answer: unknown): VxmeshError {
  const { error = 'no result', details = '' } = (answer ?? {}) as { error?: unknown; details?: unknown }
  return new VxmeshError('ERR_KERNEL', `ovsdb-server refused a ${what}: ${String(error)} ${String(details)}`.trim())
}
