// Keeps the two tables of filter/ruleset.ts in the kernel. They are read by nft only when the generation of the rule set
// tells that somebody else has changed something; elements are written over netlink, in a transaction that the kernel
// refuses when the generation is not the one that was compared.

import { VxmeshError } from '#model/errors.ts'
import type { IfName } from '#model/ids.ts'
import { errnoOf, NetlinkSocket, type NetlinkRefusal } from '#platform/netlink-socket.ts'
import {
  addSetElement,
  beginBatch,
  decodeGeneration,
  deleteSetElement,
  deleteTable,
  endBatch,
  getGeneration,
  nextGeneration,
  NFNETLINK
} from '../netlink/nftables.ts'
import type { DesiredFilter, PortBinding } from '../plan/filter/desired-filter.ts'
import { elementsOf, isOfPort, portElement, type Element } from '../plan/filter/element.ts'
import { parseListing, type ObservedTable } from '../plan/filter/listing.ts'
import { listTable, runNft, type Netns } from '../kernel/nft.ts'
import {
  describeFilterPlan,
  installScript,
  planFilter,
  type ElementChange,
  type FilterPlan
} from '../plan/filter/plan-filter.ts'
import { FILTER_TABLES, type FilterParameters, type FilterTable } from '../plan/filter/ruleset.ts'
import { tryTables } from './try-tables.ts'

/** Changes of one transaction: some 25 KiB. */
const CHANGES = 200
/** Other programs may change their own tables between our look and our change, but not for ever. */
const ATTEMPTS = 10

/** A table, how it is listed when it is right, and what is wanted in it; null before that is known. */
type Right = { readonly table: FilterTable; readonly shape: string; wanted: Map<string, Element> | null }
/** What the kernel held at a generation, table by table. */
type Mirror = { generation: number; readonly tables: ReadonlyMap<FilterTable, ObservedTable | null> }

export class Guard {
  readonly #netns: Netns
  readonly #socket: NetlinkSocket
  readonly #tables: readonly Right[]
  #mirror: Mirror | null = null
  /** Called with the generations before and after each change of elements, between which nothing else was changed. */
  onWrite: (from: number, to: number) => void = () => undefined
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(netns: Netns, tables: readonly Right[]) {
    this.#netns = netns
    this.#tables = tables
    this.#socket = NetlinkSocket.open(netns, [], NFNETLINK)
  }

  /**
   * Tries the tables where nobody sees it; changes nothing in the host's namespace.
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

  /** Compares and repairs; tells what there was to do. @throws ERR_KERNEL */
  async reconcile(desired: DesiredFilter, options: { readonly mayRemove: boolean }): Promise<readonly string[]> {
    for (const right of this.#tables) {
      const wanted = elementsOf(right.table, desired)
      // A state that knows nothing yet must not make a table that lets nobody through.
      if (right.wanted !== null || options.mayRemove || wanted.size > 0) right.wanted = wanted
    }
    return this.#settle(() => options.mayRemove)
  }

  /** Lets a container's port send; to be called before it is up. @throws ERR_KERNEL, ERR_BUSY */
  async admit(port: PortBinding): Promise<void> {
    const ports = this.#ports
    // Without a first pass nobody knows whom else to let through.
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

  /** One after the other: what changes between another's look and its write is refused. */
  #settle(mayRemove: (element: Element) => boolean): Promise<readonly string[]> {
    const turn = this.#turn.then(() => this.#settleNow(mayRemove))
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  /** Until nothing is left to do. */
  async #settleNow(mayRemove: (element: Element) => boolean): Promise<readonly string[]> {
    const done: string[] = []
    let why = 'something else keeps changing them'
    for (let failures = 0; failures < ATTEMPTS;) {
      const { generation, tables } = await this.#observe()
      const states = this.#tables.flatMap(({ table, shape, wanted }) =>
        wanted === null ? [] : [{ table, shape, desired: wanted, observed: tables.get(table) ?? null }]
      )
      const step = nextStep(planFilter(states, mayRemove))
      if (step === null) return done
      const refused = step.installs.length > 0 ? await this.#install(step) : this.#write(generation, step)
      if (refused === null) done.push(...describeFilterPlan(step))
      else why = refused.message
      if (refused !== null || step.installs.length > 0) failures++
    }
    throw new VxmeshError('ERR_KERNEL', `the filters cannot be set: ${why}`)
  }

  async #install({ installs }: FilterPlan): Promise<null> {
    this.#mirror = null
    const script = installs.map(({ table, elements }) => installScript(table, elements)).join('')
    await runNft(this.#netns, script, 'install the filters')
    return null
  }

  #write(generation: number, { adds, deletes }: FilterPlan): NetlinkRefusal | null {
    const mirror = this.#mirror
    this.#mirror = null
    const messages = [
      ...adds.map(({ table, element }) => addSetElement(table, element.key)),
      ...deletes.map(({ table, element }) => deleteSetElement(table, element.key))
    ]
    const refused = this.#socket.transaction([beginBatch(generation), ...messages, endBatch()], 'change filter sets')
    if (refused !== null || mirror === null) return refused
    const held = ({ table }: ElementChange): Map<string, Element> | undefined => mirror.tables.get(table)?.elements
    for (const change of adds) held(change)?.set(change.element.text, change.element)
    for (const change of deletes) held(change)?.delete(change.element.text)
    this.#mirror = { ...mirror, generation: nextGeneration(generation) }
    this.onWrite(generation, this.#mirror.generation)
    return null
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

  /** Null also for one that cannot be read: then it is made anew, and that tells what is wrong. */
  async #read(table: FilterTable): Promise<ObservedTable | null> {
    try {
      return parseListing(table, await listTable(this.#netns, table))
    } catch {
      return null
    }
  }

  #generation(): number {
    const [answer] = this.#socket.request(getGeneration(), 'read the generation of the rule set')
    const generation = answer === undefined ? null : decodeGeneration(answer)
    if (generation === null) throw new VxmeshError('ERR_KERNEL', 'the rule set tells no generation')
    return generation
  }
}

function forget(ports: Map<string, Element>, device: IfName): void {
  for (const element of ports.values()) if (isOfPort(element, device)) ports.delete(element.text)
}

/** Tables first; then so many elements as one transaction takes, adds before deletes. Null: nothing to do. */
function nextStep(plan: FilterPlan): FilterPlan | null {
  if (plan.installs.length > 0) return { installs: plan.installs, adds: [], deletes: [] }
  const adds = plan.adds.slice(0, CHANGES)
  const deletes = plan.deletes.slice(0, CHANGES - adds.length)
  return adds.length + deletes.length === 0 ? null : { installs: [], adds, deletes }
}

/** Takes both tables away, if they are there: for a host that is to run without them. @throws ERR_KERNEL */
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
