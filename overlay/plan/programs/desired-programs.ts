// What the tables of our programs must hold, and which device runs which program, from the desired state of this host's
// networks. Pure.

import type { IfName, Vni } from '#model/ids.ts'
import { ipv4Of, isIpv4, subnetContains, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { Shaping } from '#model/endpoint.ts'
import { eachRemote, type DesiredHost, type DesiredNetwork } from '../network/desired.ts'
import {
  HOW,
  networkValue,
  portValue,
  settingsValue,
  type PortEntry,
  type SettingsEntry,
  type StationEntry
} from './entries.ts'
import { SERVICE_MAC, serviceEntries, widerUse, type ServiceEntries, type ServiceUse } from './service-entries.ts'
import { emptyTables, stationWord, textOf, type Entries, type Key, type Tables, type TableSet } from './tables.ts'

export type ProgramName = 'from_container' | 'to_container' | 'from_overlay' | 'to_host' | 'from_underlay'

/** A device, and the program that it runs on what it receives, or (`to_container`) on what it sends. */
export type Place = {
  readonly device: string
  readonly ifindex: number
  readonly program: ProgramName
  /** Null: the host's own. */
  readonly vni: Vni | null
}

/** A device has one place for what it receives, and one for what it sends. */
export function placeKey({ ifindex, program }: Pick<Place, 'ifindex'> & { readonly program: string }): number {
  return sendsBy(program) ? -ifindex : ifindex
}

/** Does a device run it on what it sends? */
export function sendsBy(program: string): boolean {
  return program === 'to_container'
}

export type DesiredPrograms = {
  readonly tables: Tables
  /** By `placeKey`. */
  readonly places: ReadonlyMap<number, Place>
  /** Of the networks that have services, or flows to some that they had. */
  readonly services: ReadonlyMap<Vni, ServiceUse>
}

/** A device by which VXLAN arrives. */
export type UnderlayDevice = {
  readonly name: string
  readonly ifindex: number
  /** Of its link-layer header. */
  readonly linkBytes: number
}

/** What belongs to no network. */
export type HostEntries = {
  readonly settings: SettingsEntry
  readonly underlays: readonly UnderlayDevice[]
  /** This host's addresses other than its VTEP, broadcast ones included. */
  readonly locals: readonly Ip[]
}

export type ProgramsInput = {
  readonly host: DesiredHost
  /** 0: the device does not exist, and nothing is wanted for it. */
  readonly ifindexOf: (device: IfName) => number
  /** Do the programs forward, or does a bridge or a switch? */
  readonly redirects: boolean
  /** Null: nothing but what belongs to networks is wanted. */
  readonly own: HostEntries | null
  /** Does VXLAN to this VTEP leave by the underlay's device? The programs wrap nothing that leaves by another. */
  readonly isDirect: (vtep: Ip) => boolean
  /** What the flows of a network still need that has fewer services than it had; nothing by default. */
  readonly lingering?: (vni: Vni) => ServiceUse
}

const HOST_WORD = 1

export function desiredPrograms(input: ProgramsInput): DesiredPrograms {
  const places = new Map<number, Place>()
  const tables = new Map<Vni | null, TableSet>()
  const services = new Map<Vni, ServiceUse>()
  if (input.own !== null) {
    const { settings, underlays, locals } = input.own
    const own = emptyTables()
    tables.set(null, own)
    own.settings.set(0, textOf(settingsValue(settings)))
    for (const { name, ifindex, linkBytes } of underlays) {
      own.underlays.set(ifindex, linkBytes)
      places.set(ifindex, { device: name, ifindex, program: 'from_underlay', vni: null })
    }
    for (const address of locals) own.locals.set(ipv4Of(address), HOST_WORD)
  }
  for (const network of input.host.networks.values()) {
    const served = servicesOf(network, input.lingering?.(network.vni))
    if (served.use !== 'none') services.set(network.vni, served.use)
    tables.set(network.vni, networkTables(input, { network, served, places }))
  }
  return { tables, places, services }
}

function servicesOf(network: DesiredNetwork, lingering: ServiceUse = 'none'): ServiceEntries {
  const { vni, services, subnets, router } = network
  const macOf = (address: Ip): Mac | undefined =>
    network.neighbours.get(address) ??
    (subnets.some(subnet => subnetContains(subnet, address)) ? undefined : router?.mac)
  const entries = serviceEntries({ vni, services, subnets, macOf })
  return { ...entries, use: widerUse(entries.use, lingering) }
}

function networkTables(
  { ifindexOf, redirects, isDirect }: ProgramsInput,
  p: { readonly network: DesiredNetwork; readonly served: ServiceEntries; readonly places: Map<number, Place> }
): TableSet {
  const { network, served, places } = p
  const { vni } = network
  const tables = emptyTables()
  const [vxlan, bridge] = [ifindexOf(network.vxlan), ifindexOf(network.bridge)]
  const put = (device: string, ifindex: number, program: ProgramName): void => {
    if (ifindex !== 0) places.set(placeKey({ ifindex, program }), { device, ifindex, program, vni })
  }
  put(network.bridge, bridge, 'to_host')
  if (redirects && vxlan !== 0) {
    put(network.vxlan, vxlan, 'from_overlay')
    tables.tunnels.set(vxlan, vni)
    tables.networks.set(vni, textOf(networkValue({ tunnel: vxlan, told: network.told })))
  }
  for (const vtep of network.vteps) tables.vteps.set(ipv4Of(vtep), HOST_WORD)
  const { usual, unusual } = network.tells
  const tellsOf = (mac: Mac): number => unusual.get(mac) ?? usual
  const stations = new Stations(network, {
    // The bridge or switch answers if it forwards.
    tellsOf: redirects ? tellsOf : () => 0,
    toOf: vtep => (!redirects || isDirect(vtep) ? ipv4Of(vtep) : 0)
  })
  for (const { device, mac, addresses, shaping } of network.endpoints.values()) {
    const ifindex = ifindexOf(device)
    if (ifindex === 0) continue
    put(device, ifindex, 'from_container')
    if (served.use !== 'none') put(device, ifindex, 'to_container')
    const { station, port } = portEntries({
      ...{ vni, ifindex, mac, addresses, mtu: network.mtu, shaping, redirects, services: served.use },
      tells: tellsOf(mac)
    })
    stations.local.set(mac, station)
    tables.ports.set(ifindex, port)
  }
  const { services, backends } = served
  return { ...tables, stations, services, backends, ...notedOf(redirects ? network.noted : new Map(), served) }
}

/** By family. Nobody but the programs answers for a service. */
function notedOf(
  noted: DesiredNetwork['noted'],
  { addresses }: ServiceEntries
): Pick<TableSet, 'neighbours' | 'neighbours6'> {
  const [neighbours, neighbours6] = [new Map<Ip, Mac>(), new Map<Ip, Mac>()]
  const note = (address: Ip, mac: Mac): unknown => (isIpv4(address) ? neighbours : neighbours6).set(address, mac)
  for (const address of addresses) note(address, SERVICE_MAC)
  for (const [address, mac] of noted) note(address, mac)
  return { neighbours, neighbours6 }
}

/** The stations of a network. Those on other hosts, of which there may be many, are not copied. */
class Stations implements Entries {
  readonly local = new Map<Key, number>()
  readonly #network: Pick<DesiredNetwork, 'remote' | 'entries'>
  readonly #tellsOf: (mac: Mac) => number
  readonly #toOf: (vtep: Ip) => number
  /** By VTEP, of which there are few. */
  readonly #ways = new Map<Ip, number>()

  constructor(
    network: Pick<DesiredNetwork, 'remote' | 'entries'>,
    p: { readonly tellsOf: (mac: Mac) => number; readonly toOf: (vtep: Ip) => number }
  ) {
    this.#network = network
    this.#tellsOf = p.tellsOf
    this.#toOf = p.toOf
  }

  get size(): number {
    return this.local.size + this.#network.remote.macs.length
  }

  has(mac: Key): boolean {
    return this.local.has(mac) || this.#network.entries.has(mac as Mac)
  }

  get(mac: Key): number | undefined {
    const vtep = this.#network.entries.get(mac as Mac)
    return vtep === undefined ? this.local.get(mac) : this.#word(mac as Mac, vtep)
  }

  *keys(): MapIterator<Key> {
    yield* this.#network.remote.macs
    yield* this.local.keys()
  }

  forEach(take: (word: number, mac: Key) => void): void {
    eachRemote(this.#network.remote, (mac, vtep) => take(this.#word(mac, vtep), mac))
    this.local.forEach(take)
  }

  #word(mac: Mac, vtep: Ip): number {
    let to = this.#ways.get(vtep)
    if (to === undefined) this.#ways.set(vtep, (to = this.#toOf(vtep)))
    return stationWord({ to, how: HOW.tunnel, tells: this.#tellsOf(mac), awaits: 0 })
  }
}

export type PortFacts = {
  readonly vni: Vni
  readonly ifindex: number
  readonly shaping: Shaping
  readonly redirects: boolean
  /** See ../network/tells.ts. */
  readonly tells: number
} & Required<Pick<PortEntry, 'addresses' | 'mac' | 'services' | 'mtu'>>

/** The values of one container's port in `stations` and `ports`. What is shaped takes the way on which its queue is. */
export function portEntries(p: PortFacts): { readonly station: number; readonly port: string } {
  const { vni, ifindex, addresses, mac, mtu, redirects, services, tells } = p
  const { ingressRate, egressRate, delayUs } = p.shaping
  const how: StationEntry['how'] = !redirects ? 'bridge' : ingressRate > 0 || delayUs > 0 ? 'queue' : 'peer'
  const sends = redirects && egressRate === 0 && delayUs === 0
  const port = { network: vni, addresses, mac, redirects: sends, services, mtu }
  const station = stationWord({
    ...{ to: ifindex, how: HOW[how], tells: redirects ? tells : 0 },
    awaits: Number(services !== 'none')
  })
  return { station, port: textOf(portValue(port)) }
}
