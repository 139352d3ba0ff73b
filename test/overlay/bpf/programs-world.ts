// One host whose programs run on veths in a namespace of the test's own; the devices only have the names of bridges and tunnels.

import type { Test } from 'tap'
import type { Endpoint } from '#model/endpoint.ts'
import type { IfName, NetworkName, Vni } from '#model/ids.ts'
import { parseIp, parseSubnet, type Ip } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import type { Network } from '#model/network.ts'
import { closeDatapath, loadDatapath, readObjects, type Datapath, type ProgramName } from '#overlay/bpf/datapath.ts'
import { readProgram } from '#overlay/bpf/filter.ts'
import type { BpfMap } from '#overlay/bpf/map.ts'
import { Programs, type ProgramsOptions } from '#overlay/bpf/programs.ts'
import { attachRequest, type AttachRequest } from '#overlay/driver.ts'
import { runPart, type Look, type PartReport } from '#overlay/pass.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import { bridgeName, vethName, vxlanName } from '#overlay/plan/network/names.ts'
import { desiredPrograms, type HostEntries } from '#overlay/plan/programs/desired-programs.ts'
import type { DesiredService } from '#overlay/plan/services/service.ts'
import type { SettingsEntry } from '#overlay/plan/programs/entries.ts'
import { decodeEntry, TABLES, type Bytes, type Table } from '#overlay/plan/programs/tables.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../fixtures.ts'
import { Scratch } from './scratch.ts'
import { encodeKey, encodeValue, pairsOf } from '../entry-bytes.ts'

export const red = makeNetwork('red', 0xa1)
export const blue = makeNetwork('blue', 0xb2)
/** With both families, and with IPv6 alone. */
export const dual = makeNetwork('dual', 0xc3, { subnet6: parseSubnet('fd00:1::/64') })
export const six = makeNetwork('six', 0xd4, { subnet: parseSubnet('fd00:2::/64'), gateway: parseIp('fd00:2::1') })
const NETWORKS = [red, blue, dual, six]
const SETTINGS: SettingsEntry = {
  ...{ vtep: parseIpv4('192.0.2.1'), vxlanPort: 4789, flowsRate: 20_000, broadcastsRate: 1_000 },
  ...{ underlay: 2, underlayMtu: 1_500, unwraps: true }
}
const NETNS = '/proc/self/ns/net'

export const device = (endpoint: Endpoint): IfName => vethName(endpoint.containerId, endpoint.ifname)

/** A container of a network, on this host (1) or another. */
export function on(host: number, container: string, last: number, network = red): Endpoint {
  const [high, low] = [Math.floor(last / 250), 2 + (last % 250)]
  const address = network === six ? `fd00:2::${high}:${low.toString(16)}` : `10.1.${high}.${low}`
  return makeEndpoint(network, { container, host, address })
}

function hostWith(
  endpoints: readonly Endpoint[],
  networks: readonly Network[],
  services: World['services']
): DesiredHost {
  return desired({
    services,
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks,
    endpoints: byNetwork(endpoints),
    hosts: [1, 2, 3].map(index => makeHost(index)),
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789
  })
}

export function requestFor(endpoint: Endpoint): AttachRequest {
  const network = NETWORKS.find(({ vni }) => vni === endpoint.vni) ?? red
  return attachRequest({ endpoint, network, overlayMtu: 1450, netns: NETNS, withRoute: true })
}

export class World {
  readonly scratch: Scratch
  readonly datapath: Datapath
  readonly programs: Programs
  readonly indexes = new Map<string, number>()
  /** Is the program of this device read by a pass over the whole host? */
  sampled: (ifindex: number) => boolean = () => true
  /** Addresses of the host, other than its VTEP. */
  locals = [parseIpv4('127.0.0.1')]
  /** Does VXLAN to this host leave by the underlay's device? */
  isDirect: (vtep: Ip) => boolean = () => true
  /** For each pass, whether it asked anew. */
  readonly asked: boolean[] = []
  settled = 0
  /** Of the networks. */
  services: ReadonlyMap<NetworkName, readonly DesiredService[]> = new Map()
  readonly #options: ProgramsOptions

  constructor(
    t: Test,
    p: { readonly scratch?: Scratch; readonly datapath?: Datapath; readonly redirects?: boolean } = {}
  ) {
    const { scratch = new Scratch(t), datapath = loadDatapath(readObjects()), redirects = true } = p
    t.teardown(() => closeDatapath(datapath))
    this.scratch = scratch
    this.datapath = datapath
    this.#options = {
      ...{ kernel: scratch.kernel, datapath, redirects, indexes: this.indexes },
      sampling: { has: ifindex => this.sampled(ifindex) },
      look: whole => {
        this.asked.push(whole)
        return { own: whole ? this.#own() : null, isDirect: vtep => this.isDirect(vtep) }
      },
      settled: () => {
        this.settled++
      }
    }
    this.programs = new Programs(this.#options)
  }

  /** Adds the devices of these networks and of these endpoints of this host, and the underlay's. */
  build(endpoints: readonly Endpoint[], networks = [red, blue]): void {
    this.scratch.add('eth0')
    for (const { vni } of networks) for (const name of [bridgeName(vni), vxlanName(vni)]) this.scratch.add(name)
    for (const endpoint of endpoints.filter(({ host }) => host === peer(1))) this.scratch.add(device(endpoint))
  }

  /** A pass of the programs alone. As in the agent, one over a single network gets the desired state of that network. */
  pass(
    endpoints: readonly Endpoint[],
    { networks: all = NETWORKS, ...look }: Partial<Look> & { readonly networks?: readonly Network[] } = {}
  ): Promise<PartReport> {
    const { scope = null } = look
    const networks = all.filter(({ vni }) => scope === null || vni === scope)
    const host = (): DesiredHost => hostWith(endpoints, networks, this.services)
    const gateways = (): never => {
      throw new Error('not needed')
    }
    const whole = { scope: null, trust: false, mayRemove: true, desired: { host, gateways } }
    return runPart(this.programs, { ...whole, ...look })
  }

  #own(): HostEntries {
    const ifindex = this.#find('eth0')
    const underlays = ifindex === 0 ? [] : [{ name: 'eth0', ifindex, linkBytes: 14 }]
    return { settings: SETTINGS, underlays, locals: this.locals }
  }

  /** What the tables must hold. */
  wanted(endpoints: readonly Endpoint[]): string[] {
    const { redirects } = this.#options
    const { tables } = desiredPrograms({
      ...{ host: hostWith(endpoints, NETWORKS, this.services), ifindexOf: name => this.#find(name), redirects },
      ...{ own: this.#own(), isDirect: this.isDirect }
    })
    return [...tables]
      .flatMap(([vni, set]) =>
        TABLES.flatMap(table =>
          pairsOf(set[table]).map(([key, value]) =>
            lineOf(vni, table, { key: encodeKey(table, vni, key), value: encodeValue(table, value) })
          )
        )
      )
      .sort()
  }

  /** What the tables in the kernel hold. */
  held(): string[] {
    return TABLES.flatMap(table =>
      this.map(`vxm_${table}`)
        .entries()
        .map(entry => lineOf(decodeEntry(table, entry).vni, table, entry))
    ).sort()
  }

  map(name: string): BpfMap {
    const map = this.datapath.maps.get(name)
    if (map === undefined) throw new Error(`no map ${name}`)
    return map
  }

  /** The first four bytes of each key: an ifindex or a network. */
  keys(map: string): number[] {
    return this.map(map)
      .entries()
      .map(({ key }) => new DataView(key.buffer, key.byteOffset).getUint32(0, true))
      .sort((a, b) => a - b)
  }

  /** The program that a device runs, and whether it is of this run; null for none. */
  running(name: string, sends = false): string | null {
    const program = readProgram(this.scratch.socket, this.scratch.ifindexOf(name), sends)
    if (program === null) return null
    const own = this.datapath.programs.get(program.name)?.id === program.id
    return own ? program.name : `${program.name} of another run`
  }

  fdOf(name: ProgramName): number {
    return this.datapath.programs.get(name)?.fd ?? -1
  }

  #find(name: string): number {
    try {
      return this.scratch.ifindexOf(name)
    } catch {
      return 0
    }
  }
}

function lineOf(vni: Vni | null, table: Table, { key, value }: Bytes): string {
  return `${String(vni)} ${table} ${Buffer.from(key).toString('hex')} ${Buffer.from(value).toString('hex')}`
}

export const texts = (notes: PartReport['done']): string[] => notes.map(note => note.text())
