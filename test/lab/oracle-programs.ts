// The oracle's part for the guard's programs: which device runs which, and what their tables hold, read with bpftool(8). The
// expectation follows from the API's listings and rules written for the oracle (docs/datapath.md), never from the planner.

import type { EndpointView, NetworkView } from '#model/views.ts'
import { parseIp } from '#model/ip.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { macOf } from '#model/mac.ts'
import { parseVni } from '#model/ids.ts'
import { must } from './kernel.ts'
import { checkServices, serviceFlags, serviceKey, serviceNeighbours, servicesIn } from './oracle-services.ts'
import { isTold, toldText } from './oracle-told.ts'
import { bridgeOf, compare, localOf, remoteOf, tunnelOf, type OracleView } from './oracle-view.ts'

type NetProgram = { readonly devname: string; readonly ifindex: number; readonly name: string; readonly id: number }
type Formatted = Readonly<Record<string, unknown>>
type Row = { readonly key: Formatted | number; readonly value: Formatted | number }

/** The programs that devices of a host run; none when the guard is another one. */
async function programsOf(namespace: string): Promise<readonly NetProgram[]> {
  const text = await must('ip', ['netns', 'exec', namespace, 'bpftool', '-j', 'net', 'show'])
  const [all] = JSON.parse(text) as readonly { readonly tc: readonly NetProgram[] }[]
  return all?.tc ?? []
}

async function mapsOf(program: number): Promise<ReadonlyMap<string, number>> {
  const { map_ids: ids } = JSON.parse(await must('bpftool', ['-j', 'prog', 'show', 'id', `${program}`])) as {
    readonly map_ids: readonly number[]
  }
  const shown = ids.map(async id => {
    const { name } = JSON.parse(await must('bpftool', ['-j', 'map', 'show', 'id', `${id}`])) as {
      readonly name: string
    }
    return [name, id] as const
  })
  return new Map(await Promise.all(shown))
}

async function rowsOf(map: number | undefined): Promise<readonly Row[]> {
  if (map === undefined) return []
  const rows = JSON.parse(await must('bpftool', ['-j', 'map', 'dump', 'id', `${map}`])) as readonly { formatted: Row }[]
  return rows.map(({ formatted }) => formatted)
}

/** Under driver linux no program forwards; which driver runs shows in whether the tunnels' devices run one. */
export async function checkPrograms(view: OracleView): Promise<string[]> {
  const running = await programsOf(view.host.namespace)
  if (running.length === 0) return []
  const forwards = running.some(({ name }) => name === 'from_overlay') || view.here.length === 0
  return [...checkPlaces(view, running, forwards), ...(await checkTables(view, running, forwards))]
}

function checkPlaces(view: OracleView, running: readonly NetProgram[], forwards: boolean): string[] {
  const want = view.here.flatMap(network => [
    `${bridgeOf(network)} runs to_host`,
    ...(forwards ? [`${tunnelOf(network)} runs from_overlay`] : []),
    ...localOf(view, network).map(e => `${e.hostInterface} runs from_container`),
    ...localOf(view, network).flatMap(e =>
      servicesIn(view, network).length === 0 ? [] : [`${e.hostInterface} runs to_container`]
    )
  ])
  // What the flows to a service need stays when that has gone.
  const mayLinger = (text: string): boolean => text.endsWith(' runs to_container') && !want.includes(text)
  const ours = running.filter(({ devname }) => /^v[bex]/.test(devname))
  return compare(
    want,
    ours.map(({ devname, name }) => `${devname} runs ${name}`).filter(text => !mayLinger(text))
  )
}

async function checkTables(view: OracleView, running: readonly NetProgram[], forwards: boolean): Promise<string[]> {
  const container = running.find(({ name }) => name === 'from_container')
  const underlay = running.find(({ name }) => name === 'from_underlay')
  if (underlay === undefined) return ['no device runs from_underlay']
  const vteps = (await rowsOf((await mapsOf(underlay.id)).get('vxm_vteps'))).map(
    ({ key }) => `${word(key, 'network')} accepts ${addressText(word(key, 'address'))}`
  )
  const wantVteps = view.here.flatMap(network =>
    remoteOf(view, network).map(({ vtep }) => `${network.vni} accepts ${vtep}`)
  )
  const wrong = compare([...new Set(wantVteps)], vteps)
  if (container === undefined) return wrong
  const maps = await mapsOf(container.id)
  const ifindexes = new Map(running.map(({ devname, ifindex }) => [devname, ifindex]))
  const indexOf = (device: string): number => ifindexes.get(device) ?? 0
  const flagsOf = new Map(view.here.map(network => [network.vni, serviceFlags(view, network)]))
  const ports = (await rowsOf(maps.get('vxm_ports'))).map(({ key, value }) => {
    return `port ${keyText(key)} ${portText(value, flagsOf.get(word(value, 'network')) ?? 0)}`
  })
  const stations = (await rowsOf(maps.get('vxm_stations'))).map(
    ({ key, value }) => `${word(key, 'network')} ${macText(key)} ${stationText(value)}`
  )
  const networks = (await rowsOf(maps.get('vxm_networks'))).map(
    ({ key, value }) =>
      `${keyText(key)} by ${word(value, 'tunnel')}, told: ${word(value, 'count')} from ${address6Text(value, 'subnet')} as ${word(value, 'first')}`
  )
  const settings = (await rowsOf(maps.get('vxm_settings'))).map(
    ({ value }) => `wraps at ${word(value, 'underlay')}, unwraps: ${word(value, 'unwraps')}`
  )
  // A host of the lab has Ethernet devices, and no IPsec policies.
  const [exit, ...others] = running.filter(({ name }) => name === 'from_underlay')
  const neighbours = (await rowsOf(maps.get('vxm_neighbours'))).map(
    ({ key, value }) => `${word(key, 'network')} ${addressText(word(key, 'address'))} is ${macText(value)}`
  )
  const neighbours6 = (await rowsOf(maps.get('vxm_neighbours6'))).map(
    ({ key, value }) => `${word(key, 'network')} ${address6Text(key, 'address')} is ${macText(value)}`
  )
  const locals = view.here.flatMap(network => localOf(view, network).map(e => ({ e, network })))
  const remotes = view.here.flatMap(network =>
    remoteOf(view, network).map(({ endpoint: e, vtep }) => ({ e, network, vtep }))
  )
  const noted = [...locals, ...remotes].flatMap(({ e, network }) =>
    addressesOf(e).flatMap(address => (isTold(network, e, address) ? [] : [`${network.vni} ${address} is ${e.mac}`]))
  )
  // A bridge or switch answers itself.
  const tells = (network: NetworkView, e: EndpointView): number =>
    forwards
      ? addressesOf(e).reduce((sum, each) => sum + (isTold(network, e, each) ? (each.includes(':') ? 2 : 1) : 0), 0)
      : 0
  const gateways = view.here
    .filter(({ egress, hostAccess }) => egress || hostAccess)
    .flatMap(({ vni, gateway, gateways }) => {
      const mac = macOf(parseVni(vni), parseIp(gateway))
      return gateways.map(address => `${vni} ${address} is ${mac}`)
    })
  return [
    ...wrong,
    ...compare(
      locals.map(({ e, network }) => {
        const address = `${network.vni} ${addressesOf(e).join()} ${e.mac}`
        const flags = sends(e, forwards) + serviceFlags(view, network)
        return `port ${indexOf(e.hostInterface)} ${address} ${flags} ${network.mtu}`
      }),
      ports
    ),
    ...compare(
      [
        ...locals.map(
          ({ e, network }) =>
            `${network.vni} ${e.mac} by ${receives(e, forwards)} ${indexOf(e.hostInterface)}, tells ${tells(network, e)}`
        ),
        ...remotes.map(
          ({ e, network, vtep }) => `${network.vni} ${e.mac} by ${TUNNEL} ${vtep}, tells ${tells(network, e)}`
        )
      ],
      stations
    ),
    ...compare([`wraps at ${others.length === 0 ? (exit?.ifindex ?? 0) : 0}, unwraps: 1`], settings),
    ...compare(
      forwards
        ? view.here.map(network => `${network.vni} by ${tunnelIndex(view, tunnelOf(network))}, ${toldText(network)}`)
        : [],
      networks
    ),
    ...compare(forwards ? [...noted, ...gateways, ...serviceNeighbours(view)] : [], [...neighbours, ...neighbours6]),
    ...checkServices(view, {
      services: (await rowsOf(maps.get('vxm_services'))).map(({ key, value }) => {
        return { key: serviceText(key), part: word(key, 'part'), slots: word(value, 'slots') }
      }),
      backends: (await rowsOf(maps.get('vxm_backends'))).map(({ key, value }) => {
        const to = `${mappedText(value)} ${portNumber(value)} ${macText(value)}`
        return { key: serviceText(key), backend: to }
      })
    })
  ]
}

/** Flag 1: what it sends may be redirected. What is shaped passes its queue. */
const sends = (e: EndpointView, forwards: boolean): number =>
  forwards && e.egressRate === 0 && e.delayUs === 0 ? 1 : 0

/** On another host: the packet is wrapped for its VTEP. */
const TUNNEL = 3

/** 1: into the container's device; 2: by its queue; 4: by the bridge. */
function receives(e: EndpointView, forwards: boolean): number {
  if (!forwards) return 4
  return e.ingressRate > 0 || e.delayUs > 0 ? 2 : 1
}

function tunnelIndex(view: OracleView, device: string): number {
  const link = view.kernel.links.find(({ ifname }) => ifname === device)
  return (link as unknown as { readonly ifindex?: number } | undefined)?.ifindex ?? 0
}

const addressesOf = (e: EndpointView): string[] => e.addresses.map(address => address.split('/')[0] ?? '')

function word(row: Formatted | number, field: string): number {
  return typeof row === 'number' ? row : Number(row[field])
}

/** bpftool prints the word as this machine reads it; in the packet it stands in network order. */
function addressText(little: number): string {
  return [0, 8, 16, 24].map(shift => (little >>> shift) & 255).join('.')
}

/** Of four such words. */
function address6Text(row: Formatted | number, field: string): string {
  const words = typeof row === 'number' ? [] : (row[field] as readonly number[])
  const groups = words.flatMap(little =>
    [0, 16].map(shift => (((little >>> shift) & 255) << 8) | ((little >>> (shift + 8)) & 255))
  )
  return parseIpv6(groups.map(group => group.toString(16)).join(':'))
}

function macText(row: Formatted | number): string {
  const bytes = typeof row === 'number' ? [] : (row['mac'] as readonly number[])
  return bytes.map(byte => byte.toString(16).padStart(2, '0')).join(':')
}

/** @param wanted flags about services; others may linger */
function portText(value: Formatted | number, wanted: number): string {
  const addresses = [addressText(word(value, 'address')), address6Text(value, 'address6')]
  const own = addresses.filter(address => address !== '0.0.0.0' && address !== '::').join()
  return `${word(value, 'network')} ${own} ${macText(value)} ${(word(value, 'flags') & ~6) | (word(value, 'flags') & wanted)} ${word(value, 'mtu')}`
}

function serviceText(key: Formatted | number): string {
  const [vni, protocol] = [word(key, 'network'), word(key, 'protocol')]
  return serviceKey({ vni, protocol, address: mappedText(key), port: portNumber(key) })
}

/** IPv4 as ::ffff:a.b.c.d. */
function mappedText(row: Formatted | number): string {
  const words = typeof row === 'number' ? [] : (row['address'] as readonly number[])
  const [first, second, third, last = 0] = words
  const isMapped = first === 0 && second === 0 && third === 0xffff0000
  return isMapped ? addressText(last) : address6Text(row, 'address')
}

/** In network order. */
function portNumber(row: Formatted | number): number {
  const little = word(row, 'port')
  return ((little & 255) << 8) | (little >>> 8)
}

/** How a station is reached: by a device of this host, or by another host's address. */
function stationText(value: Formatted | number): string {
  const [how, to] = [word(value, 'how'), word(value, 'to')]
  return `by ${how} ${how === TUNNEL ? addressText(to) : to}, tells ${word(value, 'tells')}`
}

const keyText = (key: Formatted | number): string => (typeof key === 'number' ? `${key}` : '?')
