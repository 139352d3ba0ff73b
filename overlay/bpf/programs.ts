// Keeps our programs on this host's devices and their tables as the state wants them, as a part of a pass and at each attach
// and detach. A pass over the whole host reads the tables; one over a single network trusts what was last written.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Shaping } from '#model/endpoint.ts'
import type { IfName, Vni } from '#model/ids.ts'
import { errnoOf, refusalError } from '#platform/netlink-error.ts'
import type { AttachRequest } from '../driver.ts'
import { readLink, readLinks, type Kernel } from '../kernel/kernel.ts'
import { getLinks } from '../netlink/link.ts'
import { createClsact, setProgramFilter } from '../netlink/tc.ts'
import type { Sampling } from '../kernel/sampling.ts'
import type { Look, OpNote, Part, PartPlan, PartProblem, PartResult } from '../pass.ts'
import {
  desiredPrograms,
  placeKey,
  portEntries,
  sendsBy,
  type DesiredPrograms,
  type Place,
  type ProgramsInput
} from '../plan/programs/desired-programs.ts'
import { isContainerDevice } from '../plan/network/names.ts'
import { HOW, readPort, type Drop, type PortTraffic } from '../plan/programs/entries.ts'
import {
  describeProgramOp,
  planPrograms,
  type ObservedPrograms,
  type ProgramOp
} from '../plan/programs/plan-programs.ts'
import type { ServiceUse } from '../plan/programs/service-entries.ts'
import { bytesOf, stationOf } from '../plan/programs/tables.ts'
import type { Datapath } from './datapath.ts'
import { findPrograms, PROGRAM_PRIORITY, readProgram, stopPrograms, type Running } from './filter.ts'
import { FlowTable } from './flow-table.ts'
import { TableStore } from './table-store.ts'

/** Entries that are written before the event loop gets a turn: some 5 ms. */
const ENTRIES_AT_ONCE = 5_000

export type ProgramsOptions = {
  readonly kernel: Kernel
  readonly datapath: Datapath
  /** Do the programs forward, or does a bridge or a switch? */
  readonly redirects: boolean
  /** See ProgramsInput. @param whole a pass over the whole host; any other does not ask the kernel anew, and gets no `own` */
  readonly look: (whole: boolean) => Pick<ProgramsInput, 'own' | 'isDirect'>
  /** By name, the devices of ours that a pass has seen. */
  readonly indexes: Map<string, number>
  readonly sampling: Pick<Sampling, 'has'>
  /** Of any clock that goes forward evenly. */
  readonly nowSeconds?: () => number
  /** Called once, after the first pass over the whole host that left nothing undone. */
  readonly settled: () => void
}

type Reading = { readonly desired: DesiredPrograms; readonly observed: ObservedPrograms }

export class Programs implements Part<Reading, ProgramOp> {
  readonly name = 'programs'
  readonly concern = 'programs'
  readonly attempts = 1
  readonly #options: ProgramsOptions
  readonly #tables: TableStore
  readonly #flows: FlowTable
  /** By `placeKey`, the devices that run the program they should. */
  #attached = new Map<number, Omit<Place, 'vni'>>()
  /** What the last passes found of networks with services. */
  readonly #services = new Map<Vni, ServiceUse>()
  #settled = false

  constructor(options: ProgramsOptions) {
    this.#options = options
    this.#tables = new TableStore(options.datapath.maps)
    this.#flows = new FlowTable(options.datapath.maps)
  }

  async observe({ scope, trust, desired }: Look): Promise<Reading> {
    const { redirects, look, indexes, kernel } = this.#options
    const whole = scope === null
    await this.#tables.read(whole)
    if (whole) await this.#sweepFlows(false)
    const ifindexOf = (name: IfName): number => {
      const known = indexes.get(name)
      if (known !== undefined) return known
      const ifindex = readLink(kernel.socket, name)?.ifindex ?? 0
      if (ifindex !== 0) indexes.set(name, ifindex)
      return ifindex
    }
    const wanted = desiredPrograms({
      host: desired.host(),
      ifindexOf,
      redirects,
      lingering: vni => this.#lingering(vni),
      ...look(whole)
    })
    const places = [...wanted.places.values()]
    this.#noteServices(scope, wanted.services)
    const unused = whole ? this.#forgetUnwanted(wanted.places) : []
    if (whole) {
      this.#readAttached(places.filter(place => this.#isDoubtful(place)))
    } else if (!trust) this.#readAttached(places)
    const tables = whole ? this.#tables.held : new Map([[scope, this.#tables.of(scope)]])
    const attached = new Map([...this.#attached.keys()].map(key => [key, true] as const))
    const surplus = whole && !this.#settled ? this.#findSurplus(wanted.places) : unused
    return { desired: wanted, observed: { tables, attached, surplus } }
  }

  /** What a network's ports have for services, as long as it had some in the last pass, or has flows to them. */
  #lingering(vni: Vni): ServiceUse {
    const { services, ports } = this.#tables.of(vni)
    const [port] = ports.values()
    if (port === undefined || (services.size === 0 && !this.#flows.mayHave(vni))) return 'none'
    return readPort(bytesOf(String(port))).services
  }

  #noteServices(scope: Vni | null, services: DesiredPrograms['services']): void {
    if (scope === null) this.#services.clear()
    else this.#services.delete(scope)
    for (const [vni, use] of services) this.#services.set(vni, use)
  }

  /** @returns what still runs on what a port sends, of a network that has services no longer */
  #forgetUnwanted(places: DesiredPrograms['places']): readonly Omit<Place, 'vni'>[] {
    const unused: Omit<Place, 'vni'>[] = []
    for (const [key, place] of this.#attached) {
      if (places.has(key)) continue
      // A device that is gone runs nothing.
      if (sendsBy(place.program) && this.#attached.has(place.ifindex) && places.has(place.ifindex)) unused.push(place)
      else this.#attached.delete(key)
    }
    return unused
  }

  /** What an earlier run, with another driver or another underlay, has left. */
  #findSurplus(places: DesiredPrograms['places']): readonly Running[] {
    const { socket } = this.#options.kernel
    return findPrograms(socket, readLinks(socket, getLinks())).filter(running => !places.has(placeKey(running)))
  }

  plan(_look: Look, { desired, observed }: Reading): PartPlan<ProgramOp> {
    return { ops: planPrograms(desired, observed), problems: [] }
  }

  async execute(ops: readonly ProgramOp[]): Promise<PartResult<ProgramOp>> {
    const done: ProgramOp[] = []
    const failures: PartResult<ProgramOp>['failures'][number][] = []
    for (const op of ops) {
      try {
        await this.#execute(op)
        done.push(op)
      } catch (err) {
        // A container that ended has taken its end with it: the next pass does not see it.
        if (op.kind === 'program-attach' && isContainerDevice(op.device) && errnoOf(err) === 'ENODEV') {
          this.#options.indexes.delete(op.device)
          continue
        }
        const { code, message } = asVxmeshError(err)
        const error = new VxmeshError(code, `${describeProgramOp(op)}: ${message}`, { cause: err })
        failures.push({ op, problem: { vni: op.vni, error } })
      }
    }
    if (done.some(op => op.kind.startsWith('entries-') && 'table' in op && op.table === 'backends'))
      await this.#sweepFlows(true)
    return { done, failures, again: null }
  }

  /** Flows whose port, or for datagrams whose backend, is gone are over at once. */
  async #sweepFlows(now: boolean): Promise<void> {
    const ports = new Map<number, Vni>()
    let served = 0
    for (const [vni, { ports: held, services }] of this.#tables.held) {
      if (vni === null) continue
      for (const ifindex of held.keys()) ports.set(Number(ifindex), vni)
      if (services.size > 0) served += held.size
    }
    const nowSeconds = this.#options.nowSeconds?.() ?? process.hrtime()[0]
    if (!now && !this.#flows.isDue(nowSeconds, served)) return
    await this.#flows.sweep({ nowSeconds, ports, served, tables: this.#tables.held })
  }

  note(op: ProgramOp): OpNote {
    const { kind, vni } = op
    return {
      kind,
      vni,
      removes: kind === 'entries-delete' || kind === 'program-detach',
      repairs: false,
      text: () => describeProgramOp(op)
    }
  }

  settled({ scope, mayRemove }: Look, _reading: Reading, problems: readonly PartProblem[]): void {
    if (this.#settled || scope !== null || !mayRemove || problems.length > 0) return
    this.#options.settled()
    this.#settled = true
  }

  /** Lets a container's port send and receive. Call it before the port is set up; idempotent. @throws ERR_KERNEL */
  admit(ifindex: number, request: AttachRequest): void {
    const { vni, mac, tells, mtu, shaping, hostInterface: device } = request
    const addresses = request.addresses.map(({ address }) => address)
    const { redirects, indexes } = this.#options
    indexes.set(device, ifindex)
    const services = this.#services.get(vni) ?? 'none'
    const { station, port } = portEntries({ vni, ifindex, mac, tells, addresses, mtu, shaping, redirects, services })
    if (services !== 'none') this.#attach({ device, ifindex, program: 'to_container', vni })
    this.#tables.set(vni, 'stations', { keys: [mac], values: [station] })
    this.#tables.set(vni, 'ports', { keys: [ifindex], values: [port] })
    this.#attach({ device, ifindex, program: 'from_container', vni })
  }

  /** Before queues are set: what is to be shaped leaves and arrives by the devices that have them. @throws ERR_KERNEL */
  shape(ifindex: number, shaping: Shaping): void {
    const { redirects } = this.#options
    const held = this.#tables.portOf(ifindex)
    if (held === null) return
    const known = this.#tables.of(held.vni).stations.get(held.mac)
    const tells = known === undefined ? 0 : stationOf(Number(known)).tells
    const { station, port } = portEntries({ ...held, ifindex, tells, shaping, redirects })
    this.#tables.set(held.vni, 'stations', { keys: [held.mac], values: [station] })
    this.#tables.set(held.vni, 'ports', { keys: [ifindex], values: [port] })
  }

  /** Deletes a deleted port's entries. @throws ERR_KERNEL */
  dismiss(device: string): void {
    const ifindex = this.#options.indexes.get(device)
    if (ifindex === undefined) return
    this.#options.indexes.delete(device)
    for (const key of [ifindex, -ifindex]) this.#attached.delete(key)
    const held = this.#tables.portOf(ifindex)
    if (held === null) return
    const { vni, mac } = held
    const station = this.#tables.of(vni).stations.get(mac)
    // The container may be elsewhere by now.
    if (station !== undefined && isPortOf(Number(station), ifindex)) this.#tables.delete(vni, 'stations', [mac])
    this.#tables.delete(vni, 'ports', [ifindex])
  }

  /** See TableStore. @throws ERR_KERNEL */
  traffic(): ReadonlyMap<number, PortTraffic> {
    return this.#tables.traffic()
  }

  /** See TableStore. @throws ERR_KERNEL */
  drops(): Readonly<Record<Drop, number>> {
    return this.#tables.drops()
  }

  async #execute(op: ProgramOp): Promise<void> {
    switch (op.kind) {
      case 'entries-set': {
        const steps = this.#tables.steps(op.vni, op.table, op.entries)
        while (steps.next().done !== true) await nextTurn()
        break
      }
      case 'entries-delete':
        for (const part of slices(op.keys)) {
          this.#tables.delete(op.vni, op.table, part)
          if (part.length === ENTRIES_AT_ONCE) await nextTurn()
        }
        break
      case 'program-attach':
        this.#attach(op)
        break
      case 'program-detach':
        stopPrograms(this.#options.kernel.socket, [op])
        this.#attached.delete(placeKey(op))
        break
    }
  }

  /** Atomically instead of the program before. */
  #attach(place: Place): void {
    const { device, ifindex, program: name } = place
    const { kernel, datapath } = this.#options
    const program = datapath.programs.get(name)
    if (program === undefined) throw new Error(`no program ${name}`)
    const filter = { ifindex, sends: sendsBy(name), priority: PROGRAM_PRIORITY, program: program.fd, name }
    const doing = `run ${name} on ${device}`
    const [anchor, set] = kernel.socket.batch([createClsact(ifindex), setProgramFilter(filter)], doing)
    // EEXIST: the anchor is there, ours or another program's.
    const refused = set ?? (anchor?.errno === 'EEXIST' ? null : anchor)
    if (refused !== null && refused !== undefined) throw refusalError(doing, refused)
    this.#attached.set(placeKey(place), place)
  }

  #isDoubtful(place: Place): boolean {
    return place.vni === null || !this.#attached.has(placeKey(place)) || this.#options.sampling.has(place.ifindex)
  }

  /** Reads which of these devices run the program that this agent loaded. */
  #readAttached(places: readonly Place[]): void {
    const { kernel, datapath } = this.#options
    for (const place of places) {
      const { ifindex, program } = place
      const runs = readProgram(kernel.socket, ifindex, sendsBy(program))
      if (runs !== null && datapath.programs.get(program)?.same.has(runs.id) === true)
        this.#attached.set(placeKey(place), place)
      else this.#attached.delete(placeKey(place))
    }
  }
}

function isPortOf(station: number, ifindex: number): boolean {
  const { to, how } = stationOf(station)
  return how !== HOW.tunnel && to === ifindex
}

function* slices<T>(all: readonly T[]): Iterable<readonly T[]> {
  for (let at = 0; at < all.length; at += ENTRIES_AT_ONCE) yield all.slice(at, at + ENTRIES_AT_ONCE)
}
