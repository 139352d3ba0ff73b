// An ovsdb-server in the test's process, on a real UNIX socket: JSON-RPC, an in-memory database that executes
// transactions atomically, updates to monitors, and an ovs-vswitchd that opens ports. A test can replace any reply by
// raw bytes, stay silent, or drop the connection.

import { createServer, type Server, type Socket } from 'node:net'
import { JsonStream } from '#overlay/ovs/json-stream.ts'
import { fromMap, fromSet, uuidOf, type Operation, type Row } from '#overlay/ovs/ovsdb.ts'

type Table = Map<string, Record<string, unknown>>
export type Call = { readonly id: number; readonly method: string; readonly params: readonly unknown[] }
/** `normal` lets the peer reply; null is no reply; bytes or text are sent as they are; `drop` ends the connection. */
export type Reply = 'normal' | 'drop' | null | { readonly raw: string | Uint8Array }

export class OvsdbPeer {
  readonly path: string
  readonly calls: Call[] = []
  readonly replies: unknown[] = []
  readonly tables = new Map<string, Table>()
  /** How often clients have connected. */
  connections = 0
  /** Decides about the reply to each call. */
  onCall: (call: Call) => Reply = () => 'normal'
  /** The port number that ovs-vswitchd gives to an interface; null: it cannot open the device. */
  portNumberOf: (row: Row) => number | null = row =>
    typeof row['ofport_request'] === 'number' ? row['ofport_request'] : 1
  /** A daemon that hangs applies no configuration. */
  daemonHangs = false
  readonly #sockets = new Set<Socket>()
  #server: Server | null = null
  #nextUuid = 1

  constructor(path: string) {
    this.path = path
    this.insert('Open_vSwitch', { next_cfg: 0, cur_cfg: 0, bridges: ['set', []] })
  }

  async listen(): Promise<this> {
    this.#server = createServer(socket => this.#accept(socket))
    await new Promise<void>(resolve => this.#server?.listen(this.path, resolve))
    return this
  }

  /** Drops all connections and stops listening. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = null
    this.dropAll()
    if (server !== null) await new Promise(resolve => server.close(resolve))
  }

  /** Connections that are open. */
  get open(): number {
    return this.#sockets.size
  }

  /** Somebody deletes a bridge, with its ports. */
  deleteBridge(name: string): void {
    const bridges = this.#table('Bridge')
    for (const [uuid, row] of bridges) if (row['name'] === name) bridges.delete(uuid)
    this.#collectGarbage('Bridge', 'ports', 'Port')
    this.#collectGarbage('Port', 'interfaces', 'Interface')
    this.update('configured')
  }

  dropAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  send(message: unknown): void {
    for (const socket of this.#sockets) socket.write(typeof message === 'string' ? message : JSON.stringify(message))
  }

  /** What another client's change makes the server send to monitors. */
  update(monitor: 'configured' | 'applied'): void {
    this.send({ id: null, method: 'update3', params: [monitor, '00000000-0000-0000-0000-000000000001', {}] })
  }

  insert(table: string, row: Readonly<Record<string, unknown>>): string {
    const uuid = `uuid-${this.#nextUuid++}`
    this.#table(table).set(uuid, { _uuid: ['uuid', uuid], ...row })
    return uuid
  }

  /** A port of somebody else's bridge. */
  insertForeignPort(name: string): void {
    const inner = this.insert('Interface', { name, type: '', ofport: 2 })
    const port = this.insert('Port', { name, interfaces: ['uuid', inner] })
    this.insert('Bridge', { name: `br-${name}`, external_ids: ['map', []], ports: ['set', [['uuid', port]]] })
  }

  rows(table: string): Record<string, unknown>[] {
    return [...this.#table(table).values()]
  }

  row(table: string, name: string): Record<string, unknown> | undefined {
    return this.rows(table).find(row => row['name'] === name)
  }

  transactions(): readonly (readonly Operation[])[] {
    return this.calls.filter(({ method }) => method === 'transact').map(({ params }) => params.slice(1) as Operation[])
  }

  #table(name: string): Table {
    const table = this.tables.get(name) ?? new Map<string, Record<string, unknown>>()
    this.tables.set(name, table)
    return table
  }

  #accept(socket: Socket): void {
    this.connections++
    this.#sockets.add(socket)
    const stream = new JsonStream()
    socket.on('error', () => undefined)
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('data', (chunk: Uint8Array) => {
      for (const message of stream.push(chunk) as Call[]) this.#received(socket, message)
    })
  }

  #received(socket: Socket, call: Call): void {
    if (typeof (call as { method?: unknown }).method !== 'string') {
      this.replies.push(call)
      return
    }
    this.calls.push(call)
    const reply = this.onCall(call)
    if (reply === 'drop') socket.destroy()
    else if (reply === 'normal') socket.write(JSON.stringify({ id: call.id, error: null, result: this.#execute(call) }))
    else if (reply !== null) socket.write(reply.raw)
  }

  #execute({ method, params }: Call): unknown {
    return method === 'transact' ? this.#transact(params.slice(1) as Operation[]) : [false, '0', {}]
  }

  /** RFC 7047 section 4.1.3: all operations or none; a failed one ends the list of results. */
  #transact(operations: readonly Operation[]): unknown {
    const before = structuredClone(this.tables)
    const names = new Map<string, string>()
    const results: unknown[] = []
    for (const operation of operations) {
      try {
        results.push(this.#operation(operation, names))
      } catch (err) {
        this.tables.clear()
        for (const [name, table] of before) this.tables.set(name, table)
        return [...results, { error: 'constraint violation', details: err instanceof Error ? err.message : '' }]
      }
    }
    this.#resolve(names)
    this.#collectGarbage('Bridge', 'ports', 'Port')
    this.#collectGarbage('Port', 'interfaces', 'Interface')
    if (operations.some(({ op }) => op !== 'select')) this.#applyConfiguration()
    return results
  }

  #operation(operation: Operation, names: Map<string, string>): unknown {
    const { op, table, where } = operation
    const name = String(table)
    if (op === 'insert') {
      const row = operation['row'] as Row
      if (this.row(name, String(row['name'])) !== undefined) throw new Error(`${name} ${String(row['name'])} exists`)
      const uuid = this.insert(name, row)
      names.set(String(operation['uuid-name']), uuid)
      return { uuid: ['uuid', uuid] }
    }
    const found = this.rows(name).filter(row => matches(row, where as readonly unknown[][]))
    if (op === 'select') return { rows: structuredClone(found) }
    for (const row of found) {
      if (op === 'update') Object.assign(row, operation['row'])
      else if (op === 'mutate') mutate(row, operation['mutations'] as readonly (readonly unknown[])[])
      else throw new Error(`unknown operation ${op}`)
    }
    return { count: found.length }
  }

  /** Replaces the names of rows inserted by the transaction by their UUIDs. */
  #resolve(names: ReadonlyMap<string, string>): void {
    const resolved = (value: unknown): unknown => {
      if (!Array.isArray(value)) return value
      if (value[0] === 'named-uuid') return ['uuid', names.get(String(value[1])) ?? '']
      return value.map(resolved)
    }
    for (const table of this.tables.values()) {
      for (const row of table.values()) for (const [key, value] of Object.entries(row)) row[key] = resolved(value)
    }
  }

  /** Rows of these tables exist only while they are referenced (ovs-vswitchd.conf.db(5)). */
  #collectGarbage(from: string, column: string, table: string): void {
    const referenced = new Set(this.rows(from).flatMap(row => fromSet(row[column]).map(uuidOf)))
    for (const uuid of this.#table(table).keys()) if (!referenced.has(uuid)) this.#table(table).delete(uuid)
  }

  /** What ovs-vswitchd does with a new configuration. */
  #applyConfiguration(): void {
    if (this.daemonHangs) return
    const ports = this.rows('Bridge').flatMap(bridge => fromSet(bridge['ports']).map(uuidOf))
    const interfaces = this.rows('Port')
      .filter(port => ports.includes(uuidOf(port['_uuid'])))
      .flatMap(port => fromSet(port['interfaces']).map(uuidOf))
    for (const row of this.rows('Interface')) {
      if (!interfaces.includes(uuidOf(row['_uuid']))) continue
      const number = this.portNumberOf(row)
      Object.assign(
        row,
        number === null ? { ofport: -1, error: `could not open ${String(row['name'])}` } : { ofport: number }
      )
    }
    for (const row of this.rows('Open_vSwitch')) row['cur_cfg'] = row['next_cfg']
    this.update('applied')
  }
}

/** The external_ids of a row. */
export function idsOf(row: Row | undefined): Readonly<Record<string, string>> {
  return fromMap(row?.['external_ids'])
}

function matches(row: Row, where: readonly (readonly unknown[])[]): boolean {
  return where.every(([column, , value]) => JSON.stringify(row[String(column)]) === JSON.stringify(value))
}

function mutate(row: Record<string, unknown>, mutations: readonly (readonly unknown[])[]): void {
  for (const [column, mutator, value] of mutations) {
    const key = String(column)
    if (mutator === '+=') row[key] = Number(row[key]) + Number(value)
    else {
      const change = fromSet(value)
      const texts = new Set(change.map(item => JSON.stringify(item)))
      const rest = fromSet(row[key]).filter(item => !texts.has(JSON.stringify(item)))
      row[key] = ['set', mutator === 'delete' ? rest : [...rest, ...change]]
    }
  }
}
