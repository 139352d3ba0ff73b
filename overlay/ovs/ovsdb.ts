// A client of ovsdb-server on its UNIX socket (RFC 7047): transactions and the notice that somebody changed something.
// No copy of the database is kept: whoever wants to know asks, 0.2 ms. It connects again for as long as it is open.

import { createConnection, type Socket } from 'node:net'
import { VxmeshError } from '#model/errors.ts'
import { JsonStream } from './json-stream.ts'

const DATABASE = 'Open_vSwitch'
const ANSWER_MS = 5_000
const [RETRY_MIN_MS, RETRY_MAX_MS] = [100, 2_000]

/** What only people and programs write, never ovs-vswitchd: a change of it by others is drift. */
const CONFIGURED = {
  Open_vSwitch: ['bridges'],
  Bridge: ['name', 'ports', 'fail_mode', 'datapath_type', 'external_ids', 'controller', 'protocols'],
  Port: ['name', 'interfaces', 'tag'],
  Interface: ['name', 'type', 'options', 'ofport_request', 'external_ids']
} as const

export type Operation = Readonly<Record<string, unknown>> & { readonly op: string }
export type Row = Readonly<Record<string, unknown>>
/** The answer to one operation. */
export type OperationResult = { readonly rows?: readonly Row[]; readonly count?: number; readonly uuid?: unknown }

type Pending = { resolve: (result: unknown) => void; reject: (err: unknown) => void; readonly timer: NodeJS.Timeout }
type Message = { id?: unknown; method?: unknown; params?: unknown; result?: unknown; error?: unknown }

export class Ovsdb {
  readonly #path: string
  readonly #pending = new Map<number, Pending>()
  #socket: Socket | null = null
  #nextId = 1
  /** Transactions under way: their effects are told before they are answered. */
  #transacting = 0
  #retryMs = RETRY_MIN_MS
  #retry: NodeJS.Timeout | null = null
  #closed = false
  /** Somebody else changed what is configured, or (`returned`) the server is back. */
  onChange: (returned: boolean) => void = () => undefined
  readonly #applied = new Set<() => void>()

  private constructor(path: string) {
    this.#path = path
  }

  /** @throws ERR_KERNEL when nobody answers on the socket */
  static async connect(path: string): Promise<Ovsdb> {
    const client = new Ovsdb(path)
    try {
      await client.#connect()
    } catch (err) {
      client.close()
      throw err
    }
    return client
  }

  /**
   * All of it happens, or nothing. One result an operation.
   * @throws ERR_KERNEL with the server's words; whether it happened is unknown only when the server went meanwhile
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

  /** Waits until ovs-vswitchd has done what was asked for up to this configuration. @throws ERR_KERNEL */
  async applied(config: number, timeoutMs: number): Promise<void> {
    let wake: () => void = () => undefined
    const until = AbortSignal.timeout(timeoutMs)
    for (;;) {
      const told = new Promise<void>(resolve => (wake = resolve))
      this.#applied.add(wake)
      until.addEventListener('abort', wake)
      try {
        const [answer] = await this.transact([{ op: 'select', table: DATABASE, where: [], columns: ['cur_cfg'] }])
        if (Number(answer?.rows?.[0]?.['cur_cfg'] ?? 0) >= config) return
        if (until.aborted)
          throw new VxmeshError('ERR_KERNEL', 'ovs-vswitchd does not do what ovsdb-server was asked for')
        await told
      } finally {
        this.#applied.delete(wake)
        until.removeEventListener('abort', wake)
      }
    }
  }

  close(): void {
    this.#closed = true
    if (this.#retry !== null) clearTimeout(this.#retry)
    this.#lost(new VxmeshError('ERR_KERNEL', 'the connection to ovsdb-server is closed'))
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
      this.#lost(new VxmeshError('ERR_KERNEL', 'the connection to ovsdb-server broke'))
      this.#reconnect()
    })
    socket.on('data', (chunk: Uint8Array) => {
      try {
        for (const message of stream.push(chunk)) this.#received(message as Message)
      } catch (err) {
        socket.destroy(err instanceof Error ? err : undefined)
      }
    })
    await this.#monitor('configured', CONFIGURED)
    await this.#monitor('applied', { Open_vSwitch: ['cur_cfg'] })
    this.#retryMs = RETRY_MIN_MS
  }

  /** Without what is there: it will be asked for. */
  async #monitor(name: string, tables: Readonly<Record<string, readonly string[]>>): Promise<void> {
    const select = { initial: false, insert: true, delete: true, modify: true }
    const requests = Object.fromEntries(
      Object.entries(tables).map(([table, columns]) => [table, [{ columns, select }]])
    )
    await this.#call('monitor_cond_since', [DATABASE, name, requests, '00000000-0000-0000-0000-000000000000'])
  }

  #reconnect(): void {
    if (this.#closed) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      this.#connect().then(
        () => this.onChange(true),
        () => {
          this.#lost(new VxmeshError('ERR_KERNEL', 'ovsdb-server does not answer'))
          this.#reconnect()
        }
      )
    }, this.#retryMs)
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS)
  }

  #lost(err: VxmeshError): void {
    const socket = this.#socket
    this.#socket = null
    socket?.destroy()
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
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
      // Whoever does not answer in time may answer later, to nobody: a new connection begins anew.
      const timer = setTimeout(() => socket.destroy(), ANSWER_MS)
      this.#pending.set(id, { resolve, reject, timer })
      socket.write(JSON.stringify({ id, method, params }))
    })
  }

  #received({ id, method, params, result, error }: Message): void {
    if (method === 'echo') {
      this.#socket?.write(JSON.stringify({ id, result: params, error: null }))
    } else if (method === 'update3' && Array.isArray(params)) {
      if (params[0] === 'applied') for (const wake of this.#applied) wake()
      else if (this.#transacting === 0) this.onChange(false)
    } else if (method === undefined && typeof id === 'number') {
      const pending = this.#pending.get(id)
      this.#pending.delete(id)
      clearTimeout(pending?.timer)
      if (error === null || error === undefined) pending?.resolve(result)
      else pending?.reject(refused('request', error))
    }
  }
}

/** A map of the database. */
export function toMap(values: Readonly<Record<string, string>>): unknown {
  return ['map', Object.entries(values)]
}

export function fromMap(value: unknown): Readonly<Record<string, string>> {
  return Array.isArray(value) && value[0] === 'map' ? Object.fromEntries(value[1] as [string, string][]) : {}
}

/** A set of the database; one of a single element is the bare element. */
export function fromSet(value: unknown): readonly unknown[] {
  return Array.isArray(value) && value[0] === 'set' ? (value[1] as unknown[]) : value === undefined ? [] : [value]
}

/** The row that a reference means. */
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
