// Keeps tables of plan/filter/ruleset.ts in the kernel, as a part of a pass and at each attach and detach. nft
// lists them only when the generation of the rule set shows a change by another program. Elements are written in a
// transaction that names the generation they were compared with: the kernel refuses it if the rules have changed since.

import { VxmeshError } from '#model/errors.ts'
import type { IfName } from '#model/ids.ts'
import { Serial } from '#platform/serial.ts'
import type { Netns } from '../kernel/nft.ts'
import { nextGeneration } from '../netlink/nftables.ts'
import { runPart, type Look, type OpNote, type Part, type PartPlan, type PartResult } from '../pass.ts'
import { desiredFilter, type PortBinding } from '../plan/filter/desired-filter.ts'
import type { DesiredHost } from '../plan/network/desired.ts'
import { elementsOf, isOfPort, portElements, type Element } from '../plan/filter/element.ts'
import type { ObservedTable } from '../plan/filter/listing.ts'
import { describeFilterOp, filterOps, planFilter, type FilterOp } from '../plan/filter/plan-filter.ts'
import { filterTables, type FilterParameters, type FilterTable } from '../plan/filter/ruleset.ts'
import { NftKernel, type ElementOp, type FilterKernel } from './filter-kernel.ts'
import { tryTables } from './try-tables.ts'

/** Changes in one transaction: some 25 KiB. */
const CHANGES = 200
/** Each attempt fails if another program changes any table between our read and our write. */
const ATTEMPTS = 10

/** A table, and the shape of its listing when its rules are right. */
export type TableShape = { readonly table: FilterTable; readonly shape: string }
/** `wanted` is null until a pass has determined it. */
type GuardedTable = TableShape & { wanted: Map<string, Element> | null }
/** What the kernel held at a generation, table by table. */
type Mirror = { readonly generation: number; readonly tables: ReadonlyMap<FilterTable, ObservedTable | null> }
/**
 * May an undesired element be removed? In a pass the answer is the same for all elements; an attach or detach may
 * remove only those of its own port.
 */
type MayRemove = (element: Element) => boolean

type FilterPart = Part<Mirror, FilterOp>

export class Guard implements FilterPart {
  readonly name = 'filters'
  readonly concern = 'filter'
  readonly attempts = ATTEMPTS
  readonly #kernel: FilterKernel
  readonly #tables: readonly GuardedTable[]
  /** A cache of what the kernel holds, valid while the generation is unchanged. */
  #mirror: Mirror | null = null
  /**
   * Called after each write with the generations of the rule set before and after it; nothing else changed between them.
   */
  onWrite: (from: number, to: number) => void = () => undefined
  /** Attaches and detaches write one after the other: the kernel refuses a write whose generation is stale. */
  readonly #turns = new Serial()

  constructor(kernel: FilterKernel, tables: readonly TableShape[]) {
    this.#kernel = kernel
    this.#tables = tables.map(({ table, shape }) => ({ table, shape, wanted: null }))
  }

  /**
   * Tries the tables in a scratch namespace; changes nothing in the host's.
   * @param only the table with this set; null: all
   * @throws ERR_UNSUPPORTED naming `overlay.guard` and what is missing
   */
  static async open(netns: Netns, parameters: FilterParameters, only: 'vteps' | null = null): Promise<Guard> {
    const tried = await tryTables(filterTables(parameters).filter(({ set }) => only === null || set === only))
    const tables = tried.map(({ table, shape, failure }) => {
      if (shape !== null) return { table, shape }
      const what = `${table.family} table ${table.name}`
      throw new VxmeshError(
        'ERR_UNSUPPORTED',
        `overlay.guard: this host cannot have the ${what} (${failure}); it needs nftables and a kernel with its bridge ` +
          'and inet families. To run without port security and underlay guard, set overlay.guard to off',
        { field: 'overlay.guard' }
      )
    })
    return new Guard(new NftKernel(netns), tables)
  }

  /**
   * Installs a table before the state is known. Elements that depend on the state are kept from an earlier run, and follow
   * with the first pass.
   * @returns why this kernel or this nft cannot have it, instead of a guard
   * @throws ERR_KERNEL
   */
  static async install(netns: Netns, wanted: FilterTable): Promise<Guard | string> {
    const [tried] = await tryTables([wanted])
    if (tried?.failure !== null) return tried?.failure ?? 'it was not tried'
    const guard = new Guard(new NftKernel(netns), [{ table: wanted, shape: tried.shape }])
    guard.#want(PORT_LOOK.desired.host(), true)
    await guard.#settle(() => wanted.set === 'doors')
    return guard
  }

  observe({ desired, mayRemove }: Look): Promise<Mirror> {
    this.#want(desired.host(), mayRemove)
    return this.#observe()
  }

  plan({ mayRemove }: Look, observed: Mirror): PartPlan<FilterOp> {
    return this.#plan(observed, () => mayRemove)
  }

  async execute(ops: readonly FilterOp[], observed: Mirror): Promise<PartResult<FilterOp>> {
    const installs = ops.filter(op => op.kind === 'table-install')
    // Observed again: only the listing shows whether a table is as it should be, and elements are written after that.
    if (installs.length > 0) {
      this.#mirror = null
      const before = this.#kernel.generation()
      await this.#kernel.install(installs)
      const after = this.#kernel.generation()
      if (after === nextGeneration(before)) this.onWrite(before, after)
      return { done: installs, failures: [], again: 'something else keeps changing them' }
    }
    const elements = ops.filter(op => op.kind !== 'table-install')
    const done: FilterOp[] = []
    let mirror = observed
    for (let at = 0; at < elements.length; at += CHANGES) {
      const some = elements.slice(at, at + CHANGES)
      const written = this.#write(mirror, some)
      if ('refused' in written) return { done, failures: [], again: written.refused }
      mirror = written
      done.push(...some)
    }
    return { done, failures: [], again: null }
  }

  note(op: FilterOp): OpNote {
    // The plan already leaves out removals that must wait.
    return { kind: op.kind, vni: null, removes: false, repairs: false, text: () => describeFilterOp(op) }
  }

  /** Lets a container's port send. Call it before the port is set up. @throws ERR_KERNEL, ERR_BUSY */
  async admit(port: PortBinding): Promise<void> {
    const ports = this.#ports
    // Before the first pass the other ports are unknown, and a new table would block them.
    if (ports === null) throw new VxmeshError('ERR_BUSY', 'the filters of this host are not set yet')
    forget(ports, port.device)
    for (const element of portElements(port)) ports.set(element.text, element)
    await this.#settle(other => isOfPort(other, port.device))
  }

  /** Removes a deleted port's elements. @throws ERR_KERNEL */
  async dismiss(device: IfName): Promise<void> {
    if (this.#ports === null) return
    forget(this.#ports, device)
    await this.#settle(element => isOfPort(element, device))
  }

  /** Something else of this agent changed rules of its own, and nothing else did: the mirror stays valid. */
  follow(from: number, to: number): void {
    if (this.#mirror?.generation === from) this.#mirror = { ...this.#mirror, generation: to }
  }

  /** See FilterKernel.counters; of all tables. @throws ERR_KERNEL */
  counters(): ReadonlyMap<string, number> {
    return new Map(this.#tables.flatMap(({ table }) => [...this.#kernel.counters(table)]))
  }

  /** See FilterKernel.portId. */
  get portId(): number {
    return this.#kernel.portId
  }

  close(): void {
    this.#kernel.close()
  }

  get #ports(): Map<string, Element> | null {
    return this.#tables.find(({ table }) => table.set === 'ports')?.wanted ?? null
  }

  #want(host: DesiredHost, mayRemove: boolean): void {
    const filter = desiredFilter(host)
    for (const guarded of this.#tables) {
      const wanted = elementsOf(guarded.table, filter, guarded.wanted)
      // An empty state must not install tables that drop everything.
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

  #write(mirror: Mirror, ops: readonly ElementOp[]): Mirror | { readonly refused: string } {
    this.#mirror = null
    const { generation } = mirror
    const refusal = this.#kernel.write(generation, ops)
    if (refusal !== null) return { refused: refusal.message }
    for (const { kind, table, element } of ops) {
      const held = mirror.tables.get(table)?.elements
      if (kind === 'element-add') held?.set(element.text, element)
      else held?.delete(element.text)
    }
    this.#mirror = { ...mirror, generation: nextGeneration(generation) }
    this.onWrite(generation, this.#mirror.generation)
    return this.#mirror
  }

  /** Returns the mirror if it is still valid, otherwise a new listing. */
  async #observe(): Promise<Mirror> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const generation = this.#kernel.generation()
      if (this.#mirror?.generation === generation) return this.#mirror
      const listed = await Promise.all(
        this.#tables.map(async ({ table }) => [table, await this.#kernel.list(table)] as const)
      )
      this.#mirror = { generation, tables: new Map(listed) }
    }
    throw new VxmeshError('ERR_KERNEL', 'the filters cannot be read: the rule set keeps changing')
  }
}

/** For an attach or detach: its plan takes its own MayRemove and does not read the desired state. */
const PORT_LOOK: Look = {
  scope: null,
  trust: false,
  mayRemove: true,
  desired: {
    host: () => ({ networks: new Map(), peers: new Map() }),
    gateways: () => {
      throw new Error('filters do not depend on routers')
    }
  }
}

function forget(ports: Map<string, Element>, device: IfName): void {
  for (const element of ports.values()) if (isOfPort(element, device)) ports.delete(element.text)
}
