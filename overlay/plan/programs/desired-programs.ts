// What the tables of our programs must hold, and which device runs which program, from the desired state of this host's
// networks. Pure.

import type { IfName, Vni } from '#model/ids.ts'
import { ipv4Of, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import type { Shaping } from '#model/endpoint.ts'
import type { DesiredHost, DesiredNetwork } from '../network/desired.ts'
import { HOW, portValue, settingsValue, type SettingsEntry, type StationEntry } from './entries.ts'
import { emptyTables, stationWord, textOf, type Entries, type Key, type Tables, type TableSet } from './tables.ts'

export type ProgramName = 'from_container' | 'from_overlay' | 'to_host' | 'from_underlay'

/** A device, and the program that it runs on what it receives. */
export type Place = {
  readonly device: string
  readonly ifindex: number
  readonly program: ProgramName
  /** Null: the host's own. */
  readonly vni: Vni | null
}

export type DesiredPrograms = {
  readonly tables: Tables
  /** By ifindex. */
  readonly places: ReadonlyMap<number, Place>
}

/** A device by which VXLAN arrives. */
export type UnderlayDevice = {
  readonly name: string
  readonly ifindex: number
  /** Of its link-layer header. */
  readonly linkBytes: number
}

export type ProgramsInput = {
  readonly host: DesiredHost
  /** 0: the device does not exist, and nothing is wanted for it. */
  readonly ifindexOf: (device: IfName) => number
  /** Do the programs forward, or does a bridge or a switch? */
  readonly redirects: boolean
  readonly settings: SettingsEntry
  readonly underlays: readonly UnderlayDevice[]
  /** This host's addresses other than its VTEP, broadcast ones included. */
  readonly locals: readonly Ip[]
  /** Does VXLAN to this VTEP leave by the underlay's device? The programs wrap nothing that leaves by another. */
  readonly isDirect: (vtep: Ip) => boolean
  /** Whether what belongs to no network is wanted, too. */
  readonly whole: boolean
}

const HOST_WORD = 1

export function desiredPrograms(input: ProgramsInput): DesiredPrograms {
  const places = new Map<number, Place>()
  const tables = new Map<Vni | null, TableSet>()
  if (input.whole) {
    const own = emptyTables()
    tables.set(null, own)
    own.settings.set(0, textOf(settingsValue(input.settings)))
    for (const { name, ifindex, linkBytes } of input.underlays) {
      own.underlays.set(ifindex, linkBytes)
      places.set(ifindex, { device: name, ifindex, program: 'from_underlay', vni: null })
    }
    for (const address of input.locals) own.locals.set(ipv4Of(address), HOST_WORD)
  }
  for (const network of input.host.networks.values()) tables.set(network.vni, networkTables(input, network, places))
  return { tables, places }
}

function networkTables(
  { ifindexOf, redirects, isDirect }: ProgramsInput,
  network: DesiredNetwork,
  places: Map<number, Place>
): TableSet {
  const { vni } = network
  const tables = emptyTables()
  const [vxlan, bridge] = [ifindexOf(network.vxlan), ifindexOf(network.bridge)]
  const put = (device: string, ifindex: number, program: ProgramName): void => {
    if (ifindex !== 0) places.set(ifindex, { device, ifindex, program, vni })
  }
  put(network.bridge, bridge, 'to_host')
  if (redirects && vxlan !== 0) {
    put(network.vxlan, vxlan, 'from_overlay')
    tables.tunnels.set(vxlan, vni)
    tables.networks.set(vni, vxlan)
  }
  for (const vtep of network.flood) tables.vteps.set(ipv4Of(vtep), HOST_WORD)
  for (const vtep of network.entries.values()) tables.vteps.set(ipv4Of(vtep), HOST_WORD)
  const stations = new Stations(network.entries, vtep =>
    stationWord({ to: !redirects || isDirect(vtep) ? ipv4Of(vtep) : 0, how: HOW.tunnel })
  )
  for (const { device, mac, address, shaping } of network.endpoints.values()) {
    const ifindex = ifindexOf(device)
    if (ifindex === 0) continue
    put(device, ifindex, 'from_container')
    const { station, port } = portEntries({ vni, ifindex, mac, address, mtu: network.mtu, shaping, redirects })
    stations.local.set(mac, station)
    tables.ports.set(ifindex, port)
  }
  const neighbours: ReadonlyMap<Ipv4, Mac> = network.neighbours
  return { ...tables, stations, ...(redirects ? { neighbours } : {}) }
}

/** The stations of a network. Those on other hosts, of which there may be many, are not copied. */
class Stations implements Entries {
  readonly local = new Map<Key, number>()
  readonly #remote: ReadonlyMap<Key, Ip>
  readonly #wordOf: (vtep: Ip) => number
  /** By VTEP, of which there are few. */
  readonly #words = new Map<Ip, number>()

  constructor(remote: ReadonlyMap<Key, Ip>, wordOf: (vtep: Ip) => number) {
    this.#remote = remote
    this.#wordOf = wordOf
  }

  get size(): number {
    return this.local.size + this.#remote.size
  }

  has(mac: Key): boolean {
    return this.local.has(mac) || this.#remote.has(mac)
  }

  get(mac: Key): number | undefined {
    const vtep = this.#remote.get(mac)
    return vtep === undefined ? this.local.get(mac) : this.#word(vtep)
  }

  *[Symbol.iterator](): MapIterator<[Key, number]> {
    for (const [mac, vtep] of this.#remote) yield [mac, this.#word(vtep)]
    yield* this.local
  }

  #word(vtep: Ip): number {
    const known = this.#words.get(vtep)
    if (known !== undefined) return known
    const word = this.#wordOf(vtep)
    this.#words.set(vtep, word)
    return word
  }
}

export type PortFacts = {
  readonly vni: Vni
  readonly ifindex: number
  readonly mtu: number
  readonly shaping: Shaping
  readonly redirects: boolean
} & Pick<Parameters<typeof portValue>[0], 'mac'> & { readonly address: Parameters<typeof ipv4Of>[0] }

/** The values of one container's port in `stations` and `ports`. What is shaped takes the way on which its queue is. */
export function portEntries(p: PortFacts): { readonly station: number; readonly port: string } {
  const { vni, ifindex, mac, mtu, redirects } = p
  const { ingressRate, egressRate, delayUs } = p.shaping
  const how: StationEntry['how'] = !redirects ? 'bridge' : ingressRate > 0 || delayUs > 0 ? 'queue' : 'peer'
  const sends = redirects && egressRate === 0 && delayUs === 0
  const port = { network: vni, address: ipv4Of(p.address), mac, redirects: sends, mtu }
  return { station: stationWord({ to: ifindex, how: HOW[how] }), port: textOf(portValue(port)) }
}
