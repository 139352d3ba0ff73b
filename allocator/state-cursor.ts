// Reads a state in sections while it changes, as it was when the cursor was made: copy on write. The cursor walks networks
// by VNI and endpoints by address; of a row that changes before the cursor has passed it, the old one is kept. Making one
// costs O(networks + services + policies + hosts + sessions), each section O(its rows), and memory is taken by changed rows only. Pure.

import type { Endpoint } from '#model/endpoint.ts'
import type { PeerId, Vni } from '#model/ids.ts'
import { UNGATED_RULES } from '#model/command.ts'
import { compareIp, type Ip } from '#model/ip.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import type { Policy } from '#model/policy.ts'
import type { Service } from '#model/service.ts'
import { addressOfValue, poolValue } from './address-pool.ts'
import { digestOf } from './digest.ts'
import type { NetworkTable } from './network-table.ts'
import { capturedSession, plainEndpoint, plainHost, plainNetwork, plainSession } from './plain-rows.ts'
import { byNetworkAndName, type PlainEndpoint, type PlainHost, type PlainSession } from './plain-state.ts'
import type { ClusterState } from './state-machine.ts'
import {
  SECTION_FORMAT,
  SECTION_ROWS,
  UNGATED_FORMAT,
  type NetworkPart,
  type SectionHead,
  type StateSection
} from './state-sections.ts'
import type { RowWatcher, Tables } from './tables.ts'

/** What a network was before its first change since the cursor was made. */
type Kept = {
  readonly network: Network
  readonly cursor: number
  /** By address; null where there was no endpoint. */
  readonly rows: Map<Ip, Endpoint | null>
}

export class StateCursor implements RowWatcher {
  readonly #tables: Tables
  readonly #head: SectionHead
  readonly #hosts: readonly PlainHost[]
  /** Of each host in `#hosts`. */
  readonly #positions: ReadonlyMap<PeerId, number>
  readonly #services: readonly Service[]
  readonly #policies: readonly Policy[]
  readonly #namespaces: readonly Namespace[]
  readonly #sessions: readonly PlainSession[]
  /** Networks that are not passed yet, in the order of their VNIs. */
  readonly #ahead: Set<NetworkTable>
  readonly #kept = new Map<NetworkTable, Kept>()
  /** The network that is being passed, and the last value of its pool that was; its addresses in no pool are passed first. */
  #current: NetworkTable | null = null
  #at = -1
  readonly #sections: Generator<StateSection, undefined>
  readonly #sectionRows: number

  /** Watches the state from now on: `close` it, or read it to the end. @param sectionRows about this many rows a section */
  constructor(state: ClusterState, sectionRows = SECTION_ROWS) {
    this.#sectionRows = sectionRows
    const { tables, sessions, appliedIndex } = state
    this.#tables = tables
    const { rules } = tables
    const form = rules === UNGATED_RULES ? { format: UNGATED_FORMAT } : { format: SECTION_FORMAT, rules }
    this.#head = { ...form, digest: digestOf(state), appliedIndex, vniCursor: tables.vnis.cursor }
    this.#hosts = [...tables.hosts.values()].sort((a, b) => (a.peerId < b.peerId ? -1 : 1)).map(plainHost)
    this.#positions = new Map(this.#hosts.map(([, peerId], at) => [peerId as PeerId, at]))
    this.#services = [...state.services()]
    this.#policies = [...state.policies()]
    this.#namespaces = [...tables.namespaces.values()]
    this.#sessions = [...sessions.entries()].map(([id, session]) => capturedSession(id, session))
    this.#ahead = new Set([...tables.vnis.values()].flatMap(vni => tables.networkByVni.get(vni as Vni) ?? []))
    this.#sections = this.#walk()
    tables.watchers.add(this)
  }

  /** The index at which the state is read. */
  get appliedIndex(): number {
    return this.#head.appliedIndex
  }

  /** The next section; null at the end. */
  next(): StateSection | null {
    const { done, value } = this.#sections.next()
    if (done !== true) return value
    this.close()
    return null
  }

  /** Lets go of the state. Idempotent. */
  close(): void {
    this.#tables.watchers.delete(this)
    this.#ahead.clear()
    this.#kept.clear()
  }

  beforeChange(table: NetworkTable, address: Ip | null): void {
    if (!this.#ahead.has(table)) return
    const value = address === null ? null : poolValue(table.network.subnet, address)
    const isPassed = table === this.#current && (value === null || value <= this.#at)
    if (isPassed) return
    let kept = this.#kept.get(table)
    if (kept === undefined) {
      kept = { network: table.network, cursor: table.pool.cursor, rows: new Map() }
      this.#kept.set(table, kept)
    }
    if (address !== null && !kept.rows.has(address)) kept.rows.set(address, table.byAddress.get(address) ?? null)
  }

  *#walk(): Generator<StateSection, undefined> {
    yield ['head', this.#head]
    for (const rows of this.#pages(this.#hosts)) yield ['hosts', rows]
    yield* this.#networks()
    for (const rows of this.#pages(this.#services.toSorted(byNetworkAndName))) yield ['services', rows]
    for (const rows of this.#pages(this.#policies.toSorted(byNetworkAndName))) yield ['policies', rows]
    const namespaces = this.#namespaces.toSorted((a, b) => (a.name < b.name ? -1 : 1))
    for (const rows of this.#pages(namespaces)) yield ['namespaces', rows]
    yield* this.#answers()
    yield ['end']
  }

  *#networks(): Generator<StateSection> {
    let parts: NetworkPart[] = []
    let count = 0
    for (const table of this.#ahead) {
      this.#current = table
      this.#at = -1
      const { network, cursor } = this.#kept.get(table) ?? { network: table.network, cursor: table.pool.cursor }
      let rows: PlainEndpoint[] = []
      parts.push([plainNetwork(network, cursor), rows])
      count += 1
      for (const endpoint of this.#endpointsOf(table)) {
        if (count >= this.#sectionRows) {
          yield ['networks', parts]
          rows = []
          parts = [[network.vni, rows]]
          count = 0
        }
        rows.push(plainEndpoint(endpoint, this.#positions))
        count += 1
      }
      this.#ahead.delete(table)
      this.#kept.delete(table)
      if (count < this.#sectionRows) continue
      yield ['networks', parts]
      parts = []
      count = 0
    }
    this.#current = null
    if (parts.length > 0) yield ['networks', parts]
  }

  /** The endpoints that the network had, by address, those beyond its pool first. It may change whenever the caller is suspended. */
  *#endpointsOf(table: NetworkTable): Generator<Endpoint> {
    yield* this.#beyond(table)
    const { subnet } = table.network
    const taken = table.pool.values()
    let next = taken.next()
    // Rows that were kept: their addresses may be free by now, so that `taken` does not have them.
    let kept: number[] = []
    let known = 0
    for (;;) {
      const rows = this.#kept.get(table)?.rows
      if (rows !== undefined && rows.size !== known) {
        known = rows.size
        kept = [...rows.keys()].flatMap(address => poolValue(subnet, address) ?? []).sort((a, b) => b - a)
      }
      while ((kept.at(-1) ?? Infinity) <= this.#at) kept.pop()
      while (next.done !== true && next.value <= this.#at) next = taken.next()
      const at = Math.min(next.done === true ? Infinity : next.value, kept.at(-1) ?? Infinity)
      if (at === Infinity) return
      const address = addressOfValue(subnet, at)
      const before = rows?.get(address)
      const endpoint = before === undefined ? table.byAddress.get(address) : before
      this.#at = at
      // A reserved address has none.
      if (endpoint !== undefined && endpoint !== null) yield endpoint
    }
  }

  /** The endpoints that the network had and whose addresses are in no pool. All at once: there are few. */
  #beyond(table: NetworkTable): readonly Endpoint[] {
    const rows = this.#kept.get(table)?.rows ?? new Map<Ip, Endpoint | null>()
    const unchanged = [...table.beyond].filter(({ address }) => !rows.has(address))
    const before = [...rows].flatMap(([address, endpoint]) =>
      endpoint !== null && poolValue(table.network.subnet, address) === null ? endpoint : []
    )
    return [...unchanged, ...before].sort((a, b) => compareIp(a.address, b.address))
  }

  *#answers(): Generator<StateSection> {
    let rows: PlainSession[] = []
    let count = 0
    for (const session of this.#sessions) {
      rows.push(plainSession(session))
      count += 1 + session[3].length
      if (count < this.#sectionRows) continue
      yield ['sessions', rows]
      rows = []
      count = 0
    }
    if (rows.length > 0) yield ['sessions', rows]
  }

  *#pages<T>(rows: readonly T[]): Generator<readonly T[]> {
    for (let at = 0; at < rows.length; at += this.#sectionRows) yield rows.slice(at, at + this.#sectionRows)
  }
}
