// The maps of our programs, and what they held when they were last read, with what was written since.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Vni } from '#model/ids.ts'
import {
  DROPS,
  ledgerKey,
  portTraffic,
  readPort,
  SCOPES,
  summed,
  word,
  type Drop,
  type PortTraffic
} from '../plan/programs/entries.ts'
import {
  BY_IFINDEX,
  bytesOf,
  decodeEntry,
  emptyTables,
  keyWriter,
  TABLES,
  valueWriter,
  type Changes,
  type Key,
  type MutableTableSet,
  type Table
} from '../plan/programs/tables.ts'
import type { BpfMap, Dump } from './map.ts'

/** What is counted of each port. */
const PORT_COUNTERS = ['vxm_traffic', 'vxm_buckets', 'vxm_flow_counts'] as const
/** Some 5 ms of work. */
const ENTRIES_A_STEP = 5_000

export class TableStore {
  readonly held = new Map<Vni | null, MutableTableSet>()
  readonly #maps: ReadonlyMap<string, BpfMap>
  /** How each table was read last, unless something was written since: while it reads the same, nothing has changed. */
  readonly #dumps = new Map<Table, Dump>()
  #read = false

  /** @param maps by name */
  constructor(maps: ReadonlyMap<string, BpfMap>) {
    this.#maps = maps
  }

  of(vni: Vni): MutableTableSet {
    return this.held.get(vni) ?? emptyTables()
  }

  /** By ifindex of its port, what each container's traffic was counted as. @throws ERR_KERNEL */
  traffic(): ReadonlyMap<number, PortTraffic> {
    return new Map(
      this.#map('vxm_traffic')
        .entries()
        .map(({ key, value }) => [new DataView(key.buffer, key.byteOffset).getUint32(0, true), portTraffic(value)])
    )
  }

  /** Packets that the programs dropped, by reason, since they were first loaded. @throws ERR_KERNEL */
  drops(): Readonly<Record<Drop, number>> {
    const map = this.#map('vxm_drops')
    const count = (i: number): number => summed(map.get(word(i)) ?? new Uint8Array(), 2)[0] ?? 0
    return Object.fromEntries(DROPS.map((why, i) => [why, count(i)])) as Record<Drop, number>
  }

  /** The container's port with this ifindex. */
  portOf(ifindex: number): (ReturnType<typeof readPort> & { readonly vni: Vni }) | null {
    for (const [vni, { ports }] of this.held) {
      const entry = ports.get(ifindex)
      if (entry !== undefined && vni !== null) return { vni, ...readPort(bytesOf(String(entry))) }
    }
    return null
  }

  /** @throws ERR_KERNEL */
  set(vni: Vni | null, table: Table, entries: Changes): void {
    const steps = this.steps(vni, table, entries)
    while (steps.next().done !== true);
  }

  /** The same in steps of some milliseconds. @throws ERR_KERNEL */
  *steps(vni: Vni | null, table: Table, entries: Changes): Generator<undefined> {
    if (table === 'ports') this.#addCounters(vni, entries.keys)
    this.#dumps.delete(table)
    const held = this.held.get(vni) ?? emptyTables()
    this.held.set(vni, held)
    const map = this.#map(`vxm_${table}`)
    const [keyBytes, valueBytes] = [map.shape.key.bytes, map.valueBytes]
    const all = entries.keys.length
    const size = Math.min(all, ENTRIES_A_STEP)
    const [keys, values] = [new Uint8Array(size * keyBytes), new Uint8Array(size * valueBytes)]
    const [writeKey, writeValue] = [keyWriter(table, vni, keys), valueWriter(table, values)]
    for (let from = 0; from < all; from += size) {
      const count = Math.min(size, all - from)
      for (let i = 0; i < count; i++) {
        writeKey(i * keyBytes, entries.keys[from + i] ?? 0)
        writeValue(i * valueBytes, entries.values[from + i] ?? 0)
      }
      map.write({ keys, values, count })
      for (let i = from; i < from + count; i++) held[table].set(entries.keys[i] ?? 0, entries.values[i] ?? 0)
      yield
    }
    if (!BY_IFINDEX.includes(table)) return
    // What another network had by the same ifindex has been replaced.
    for (const [of, other] of this.held) {
      if (other === held) continue
      for (const key of entries.keys) other[table].delete(key)
      this.#dropIfEmpty(of)
    }
  }

  /** Absent is success. @throws ERR_KERNEL */
  delete(vni: Vni | null, table: Table, keys: readonly Key[]): void {
    this.#dumps.delete(table)
    const map = this.#map(`vxm_${table}`)
    const bytes = new Uint8Array(keys.length * map.shape.key.bytes)
    const write = keyWriter(table, vni, bytes)
    for (const [n, key] of keys.entries()) write(n * map.shape.key.bytes, key)
    const counters = table === 'ports' ? PORT_COUNTERS.map(name => this.#map(name)) : []
    for (const each of [map, ...counters]) each.remove(bytes, keys.length)
    const held = this.held.get(vni)
    if (held === undefined) return
    for (const key of keys) held[table].delete(key)
    this.#dropIfEmpty(vni)
  }

  /** With its last entry a network's counters go. */
  #dropIfEmpty(vni: Vni | null): void {
    const held = this.held.get(vni)
    if (vni === null || held === undefined || TABLES.some(name => held[name].size > 0)) return
    this.held.delete(vni)
    this.#map('vxm_ledger').delete(SCOPES.map(scope => ledgerKey(vni, scope)))
  }

  /** A port's counters exist before its first packet; those of an earlier run go on. */
  #addCounters(vni: Vni | null, ports: Iterable<Key>): void {
    const zeros = (map: BpfMap): Uint8Array => new Uint8Array(map.valueBytes)
    const counters = PORT_COUNTERS.map(name => this.#map(name))
    for (const ifindex of ports) {
      for (const map of counters) map.add({ key: word(Number(ifindex)), value: zeros(map) })
    }
    const ledger = this.#map('vxm_ledger')
    if (vni !== null) for (const scope of SCOPES) ledger.add({ key: ledgerKey(vni, scope), value: zeros(ledger) })
  }

  /** Reads what the maps hold: all of them, or (not `whole`) only if they were never read. @throws ERR_KERNEL */
  async read(whole: boolean): Promise<void> {
    if (!whole && this.#read) return
    for (const table of TABLES) {
      const map = this.#map(`vxm_${table}`)
      const dump = map.dump()
      if (!isSame(dump, this.#dumps.get(table))) this.#take(table, map, dump)
      this.#dumps.set(table, dump)
      await nextTurn()
    }
    for (const [vni, tables] of this.held) {
      if (TABLES.every(table => tables[table].size === 0)) this.held.delete(vni)
    }
    if (this.#read) return
    // Counters of another shape than those of an earlier run are new, and the ports may be its own.
    for (const [vni, { ports }] of this.held) if (ports.size > 0) this.#addCounters(vni, ports.keys())
    this.#read = true
  }

  #take(table: Table, map: BpfMap, { keys, values, count }: Dump): void {
    for (const tables of this.held.values()) tables[table].clear()
    const [keyBytes, valueBytes] = [map.shape.key.bytes, map.valueBytes]
    for (let i = 0; i < count; i++) {
      const { vni, key, value } = decodeEntry(table, {
        key: keys.subarray(i * keyBytes, (i + 1) * keyBytes),
        value: values.subarray(i * valueBytes, (i + 1) * valueBytes)
      })
      const tables = this.held.get(vni) ?? emptyTables()
      this.held.set(vni, tables)
      tables[table].set(key, value)
    }
  }

  #map(name: string): BpfMap {
    const map = this.#maps.get(name)
    if (map === undefined) throw new Error(`no map ${name}`)
    return map
  }
}

function isSame(now: Dump, before: Dump | undefined): boolean {
  return (
    before !== undefined &&
    Buffer.compare(now.keys, before.keys) === 0 &&
    Buffer.compare(now.values, before.values) === 0
  )
}
