// Keeps the two tables of plan/filter/ruleset.ts in the kernel, as a part of a pass and for each container that comes or
// goes. nft lists them only when the generation of the rule set shows that somebody else changed something; elements are
// written over netlink, in a transaction that the kernel refuses when the generation is not the one that was compared.

import { VxmeshError } from '#model/errors.ts'
import type { IfName } from '#model/ids.ts'
import { errnoOf, NetlinkSocket, type NetlinkRefusal } from '#platform/netlink-socket.ts'
import { Serial } from '#platform/serial.ts'
import { requestGeneration } from '../kernel/generation.ts'
import { listTable, runNft, type Netns } from '../kernel/nft.ts'
import {
  addSetElement,
  beginBatch,
  deleteSetElement,
  deleteTable,
  endBatch,
  nextGeneration,
  NFNETLINK
} from '../netlink/nftables.ts'
import { runPart, type Look, type OpNote, type Part, type PartPlan, type PartResult } from '../pass.ts'
import { desiredFilter, type DesiredFilter, type PortBinding } from '../plan/filter/desired-filter.ts'
import { elementsOf, isOfPort, portElement, type Element } from '../plan/filter/element.ts'
import { parseListing, type ObservedTable } from '../plan/filter/listing.ts'
import {
  describeFilterOp,
  filterOps,
  installScript,
  planFilter,
  type FilterOp,
  type TableInstall
} from '../plan/filter/plan-filter.ts'
import { FILTER_TABLES, type FilterParameters, type FilterTable } from '../plan/filter/ruleset.ts'
import { tryTables } from './try-tables.ts'

/** Changes in one transaction: some 25 KiB. */
const CHANGES = 200
/** Other programs may change their own tables between our look and our change, but not for ever. */
const ATTEMPTS = 10

/** A table, how it is listed when it is right, and what is wanted in it; null before that is known. */
type GuardedTable = { readonly table: FilterTable; readonly shape: string; wanted: Map<string, Element> | null }
/** What the kernel held at a generation, table by table. */
type Mirror = { readonly generation: number; readonly tables: ReadonlyMap<FilterTable, ObservedTable | null> }
/** Host-wide passes decide for all elements alike, an attach or detach for those of its port alone. */
type MayRemove = (element: Element) => boolean

type FilterPart = Part<Mirror, FilterOp>
type ElementOp = Exclude<FilterOp, TableInstall>

export class Guard implements FilterPart {
  readonly name = 'filters'
  readonly concern = 'filter'
  readonly attempts = ATTEMPTS
  readonly #netns: Netns
  readonly #socket: NetlinkSocket
  readonly #tables: readonly GuardedTable[]
  #mirror: Mirror | null = null
  /** Called with the generations before and after each change of elements, between which nothing else was changed. */
  onWrite: (from: number, to: number) => void = () => undefined
  /** Attaches and detaches write one after the other: the kernel refuses a write whose generation is stale. */
  readonly #turns = new Serial()

  private constructor(netns: Netns, tables: readonly GuardedTable[]) {
    this.#netns = netns
    this.#tables = tables
    this.#socket = NetlinkSocket.open(netns, [], NFNETLINK)
  }

  /**
   * Tries the tables in a scratch namespace; changes nothing in the host's.
   * @throws ERR_UNSUPPORTED naming `overlay.guard` and what is missing
   */
  static async open(netns: Netns, parameters: FilterParameters): Promise<Guard> {
    const tried = await tryTables(parameters)
    const tables = tried.map(({ table, shape, failure }) => {
      if (shape !== null) return { table, shape, wanted: null }
      const what = `${table.family} table ${table.name}`
      throw new VxmeshError(
        'ERR_UNSUPPORTED',
        `overlay.guard: this host cannot have the ${what} (${failure}); it needs nftables and a kernel with its bridge ` +
          'and inet families. To run without port security and underlay guard, set overlay.guard to off',
        { field: 'overlay.guard' }
      )
    })
    return new Guard(netns, tables)
  }

  observe({ desired, mayRemove }: Look): Promise<Mirror> {
    this.#want(desiredFilter(desired.host()), mayRemove)
    return this.#observe()
  }

  plan({ mayRemove }: Look, observed: Mirror): PartPlan<FilterOp> {
    return this.#plan(observed, () => mayRemove)
  }

  async execute(ops: readonly FilterOp[], observed: Mirror): Promise<PartResult<FilterOp>> {
    const installs = ops.filter(op => op.kind === 'table-install')
    // Looked at again: only the listing shows whether a table is as it should be, and elements come after it.
    if (installs.length > 0) {
      await this.#install(installs)
      return { done: installs, failures: [], again: 'something else keeps changing them' }
    }
    const elements = ops.filter(op => op.kind !== 'table-install')
    const done: FilterOp[] = []
    let mirror = observed
    for (let at = 0; at < elements.length; at += CHANGES) {
      const some = elements.slice(at, at + CHANGES)
      const written = this.#write(mirror, some)
      if ('refusal' in written) return { done, failures: [], again: written.refusal.message }
      mirror = written.mirror
      done.push(...some)
    }
    return { done, failures: [], again: null }
  }

  note(op: FilterOp): OpNote {
    // What may not be removed is not planned in the first place.
    return { kind: op.kind, vni: null, removes: false, repairs: false, text: () => describeFilterOp(op) }
  }

  /** Lets a container's port send; to be called before it is up. @throws ERR_KERNEL, ERR_BUSY */
  async admit(port: PortBinding): Promise<void> {
    const ports = this.#ports
    // Before the first pass it is not known which other ports to let through.
    if (ports === null) throw new VxmeshError('ERR_BUSY', 'the filters of this host are not set yet')
    forget(ports, port.device)
    const element = portElement(port)
    ports.set(element.text, element)
    await this.#settle(other => isOfPort(other, port.device))
  }

  /** Forgets a port that is gone. @throws ERR_KERNEL */
  async dismiss(device: IfName): Promise<void> {
    if (this.#ports === null) return
    forget(this.#ports, device)
    await this.#settle(element => isOfPort(element, device))
  }

  /** Netlink port id of what it writes. */
  get portId(): number {
    return this.#socket.portId
  }

  close(): void {
    this.#socket.close()
  }

  get #ports(): Map<string, Element> | null {
    return this.#tables.find(({ table }) => table.set === 'ports')?.wanted ?? null
  }

  #want(desired: DesiredFilter, mayRemove: boolean): void {
    for (const guarded of this.#tables) {
      const wanted = elementsOf(guarded.table, desired)
      // A state that knows nothing yet must not make a table that lets nobody through.
      if (guarded.wanted !== null || mayRemove || wanted.size > 0) guarded.wanted = wanted
    }
  }

  async #settle(mayRemove: MayRemove): Promise<void> {
    const part: FilterPart = {
      name: this.name,
      concern: this.concern,
      attempts: this.attempts,
      observe: () => this.#observe(),
      plan: (_look, observed) => this.#plan(observed, mayRemove),
      execute: (ops, observed) => this.execute(ops, observed),
      note: op => this.note(op)
    }
    await this.#turns.run(() => runPart(part, PORT_LOOK))
  }

  #plan(observed: Mirror, mayRemove: MayRemove): PartPlan<FilterOp> {
    const states = this.#tables.flatMap(({ table, shape, wanted }) =>
      wanted === null ? [] : [{ table, shape, desired: wanted, observed: observed.tables.get(table) ?? null }]
    )
    return { ops: filterOps(planFilter(states, mayRemove)), problems: [] }
  }

  async #install(installs: readonly TableInstall[]): Promise<void> {
    this.#mirror = null
    const script = installs.map(({ table, elements }) => installScript(table, elements)).join('')
    await runNft(this.#netns, script, 'install the filters')
  }

  #write(
    mirror: Mirror,
    ops: readonly ElementOp[]
  ): { readonly mirror: Mirror } | { readonly refusal: NetlinkRefusal } {
    this.#mirror = null
    const { generation } = mirror
    const messages = ops.map(({ kind, table, element }) =>
      kind === 'element-add' ? addSetElement(table, element.key) : deleteSetElement(table, element.key)
    )
    const refusal = this.#socket.transaction([beginBatch(generation), ...messages, endBatch()], 'change filter sets')
    if (refusal !== null) return { refusal }
    for (const { kind, table, element } of ops) {
      const held = mirror.tables.get(table)?.elements
      if (kind === 'element-add') held?.set(element.text, element)
      else held?.delete(element.text)
    }
    const next = { ...mirror, generation: nextGeneration(generation) }
    this.#mirror = next
    this.onWrite(generation, next.generation)
    return { mirror: next }
  }

  /** The mirror while it holds, or what nft lists. */
  async #observe(): Promise<Mirror> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const generation = this.#generation()
      if (this.#mirror?.generation === generation) return this.#mirror
      const listed = await Promise.all(this.#tables.map(async ({ table }) => [table, await this.#read(table)] as const))
      this.#mirror = { generation, tables: new Map(listed) }
    }
    throw new VxmeshError('ERR_KERNEL', 'the filters cannot be read: the rule set keeps changing')
  }

  /** Null also for a table that cannot be read: then it is installed anew, and that tells what is wrong. */
  async #read(table: FilterTable): Promise<ObservedTable | null> {
    try {
      return parseListing(table, await listTable(this.#netns, table))
    } catch {
      return null
    }
  }

  #generation(): number {
    const generation = requestGeneration(this.#socket)
    if (generation === null) throw new VxmeshError('ERR_KERNEL', 'the rule set has no generation')
    return generation
  }
}

/** For one port: what it may remove, its own plan decides; the desired state has nothing to say. */
const PORT_LOOK: Look = {
  scope: null,
  trust: false,
  mayRemove: true,
  desired: {
    host: () => ({ networks: new Map(), vteps: new Set() }),
    gateways: () => {
      throw new Error('filters follow from no router')
    }
  }
}

function forget(ports: Map<string, Element>, device: IfName): void {
  for (const element of ports.values()) if (isOfPort(element, device)) ports.delete(element.text)
}

/** Deletes both tables, if they are there: for a host that is to run without them. @throws ERR_KERNEL */
export function removeFilters(netns: Netns): void {
  let socket: NetlinkSocket
  try {
    socket = NetlinkSocket.open(netns, [], NFNETLINK)
  } catch (err) {
    // A kernel without nfnetlink has no tables.
    if (errnoOf(err) === 'EPROTONOSUPPORT') return
    throw err
  }
  try {
    for (const table of FILTER_TABLES) {
      const doing = `delete ${table.family} ${table.name}`
      const refused = socket.transaction([beginBatch(null), deleteTable(table), endBatch()], doing)
      if (refused === null || ABSENT.includes(refused.errno)) continue
      throw new VxmeshError('ERR_KERNEL', `${doing}: ${refused.message}`, { context: { errno: refused.errno } })
    }
  } finally {
    socket.close()
  }
}

/** No such table; no such family or no nf_tables at all. */
const ABSENT: readonly string[] = ['ENOENT', 'EAFNOSUPPORT', 'EOPNOTSUPP', 'EINVAL']
