// The state oracle: on every host of a lab the kernel must match the committed state and the members. The expectation comes
// from the API's listings and rules written for the oracle (design section 4, contract 6.7), never from the planner. The
// kernel is read with `ip -j` and `bridge -j`.

import { parseVni } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { macOf } from '#model/mac.ts'
import type { EndpointView, HostView, MemberView, NetworkView, ServiceView } from '#model/views.ts'
import type { LabHost } from './host.ts'
import { ipJson, must } from './kernel.ts'
import { checkPrograms } from './oracle-programs.ts'
import {
  bridgeOf,
  compare,
  hex,
  localOf,
  remoteOf,
  tunnelOf,
  type KernelFdb,
  type KernelLink,
  type KernelNeighbour,
  type KernelView,
  type OracleView
} from './oracle-view.ts'
import type { Lab } from './lab.ts'
import { waitFor } from './wait.ts'

/** Describes every difference on a host; empty if there is none. */
export type Checker = (view: OracleView) => readonly string[] | Promise<readonly string[]>

export const CHECKERS: readonly Checker[] = [
  checkDevices,
  checkFlood,
  checkFdb,
  checkNeighbours,
  checkHostRoutes,
  checkNothingElse,
  checkPrograms
]

/** All differences, each prefixed with its host's name. */
export async function differences(
  hosts: readonly LabHost[],
  checkers: readonly Checker[] = CHECKERS
): Promise<readonly string[]> {
  const found = await Promise.all(
    hosts.map(async host => {
      const view = await look(host)
      const wrong = await Promise.all(checkers.map(async check => check(view)))
      return wrong.flat().map(text => `${host.name}: ${text}`)
    })
  )
  return found.flat()
}

/** Waits until the oracle holds on these hosts. @throws Error with the differences */
export async function expectOracle(
  lab: Lab,
  options: {
    readonly hosts?: readonly LabHost[]
    readonly timeoutMs?: number
    readonly checkers?: readonly Checker[]
  } = {}
): Promise<void> {
  const { hosts = lab.hosts, timeoutMs = 10_000 } = options
  let last: readonly string[] = []
  const holds = async (): Promise<boolean> => {
    last = await differences(hosts, options.checkers)
    return last.length === 0
  }
  await waitFor('the kernel of every host matches the state', holds, {
    timeoutMs,
    everyMs: 100,
    explain: () => last.slice(0, 20).join('\n')
  })
}

async function look(host: LabHost): Promise<OracleView> {
  const get = (path: string): Promise<unknown> => host.api.call('GET', path)
  const networks = (await get('/v1/networks')) as NetworkView[]
  const endpoints = (await get('/v1/endpoints')) as EndpointView[]
  const services = (await get('/v1/services')) as ServiceView[]
  const hosts = (await get('/v1/hosts')) as HostView[]
  const members = (await get('/v1/members')) as MemberView[]
  const local = new Set(endpoints.filter(e => e.host === host.name).map(e => e.network))
  const here = networks.filter(network => local.has(network.name))
  return { host, here, networks, endpoints, services, hosts, members, kernel: await readKernel(host.namespace) }
}

export async function readKernel(namespace: string): Promise<KernelView> {
  const fdb = await must('bridge', ['-n', namespace, '-j', 'fdb', 'show'])
  return {
    links: (await ipJson(namespace, '-d', 'link', 'show')) as unknown as KernelLink[],
    fdb: JSON.parse(fdb) as KernelFdb[],
    neighbours: (await ipJson(namespace, 'neigh', 'show', 'nud', 'all')) as unknown as KernelNeighbour[]
  }
}

const gatewayMac = ({ vni, gateway }: NetworkView): string => macOf(parseVni(vni), parseIp(gateway))

function checkDevices(view: OracleView): string[] {
  const wrong: string[] = []
  const links = new Map(view.kernel.links.map(link => [link.ifname, link]))
  const own = view.hosts.find(h => h.name === view.host.name)?.vtep
  const check = (
    name: string,
    want: Record<string, unknown>,
    read: (link: KernelLink) => Record<string, unknown>
  ): void => {
    const link = links.get(name)
    if (link === undefined) {
      wrong.push(`missing: ${name}`)
      return
    }
    const got = { up: link.flags.includes('UP'), ipv6: link.inet6_addr_gen_mode ?? 'none', ...read(link) }
    for (const [key, value] of Object.entries({ up: true, ipv6: 'none', ...want })) {
      const found = got[key as keyof typeof got] as unknown
      if (found !== value) wrong.push(`${name}: ${key} is ${String(found)}, not ${String(value)}`)
    }
  }
  for (const network of view.here) {
    const alias = `vxmesh network ${network.name} vni ${network.vni}`
    const digits = hex(network.vni)
    const address = `06:76:78:${digits.slice(0, 2)}:${digits.slice(2, 4)}:${digits.slice(4)}`
    check(bridgeOf(network), { kind: 'bridge', alias, mtu: network.mtu, address, snooping: 0 }, link => ({
      ...common(link),
      address: link.address,
      snooping: link.linkinfo?.info_data?.['mcast_snooping']
    }))
    const tunnel = { id: network.vni, local: own, port: 4789, learning: false, ttl: 64 }
    const port = { master: bridgeOf(network), learns: false, floods: true, suppresses: true }
    check(tunnelOf(network), { kind: 'vxlan', alias, mtu: network.mtu, ...port, ...tunnel }, link => ({
      ...(link.linkinfo?.info_data ?? {}),
      local: link.linkinfo?.info_data?.['local'] ?? link.linkinfo?.info_data?.['local6'],
      ...common(link)
    }))
    for (const endpoint of localOf(view, network)) {
      const veth = { kind: 'veth', mtu: network.mtu, master: bridgeOf(network), learns: false, floods: false }
      const mark = `vxmesh endpoint ${endpoint.containerId}/${endpoint.ifname}`
      check(endpoint.hostInterface, { ...veth, alias: mark }, common)
    }
  }
  return wrong
}

function common(link: KernelLink): Record<string, unknown> {
  const port = link.linkinfo?.info_slave_data
  return {
    kind: link.linkinfo?.info_kind,
    alias: link.ifalias,
    mtu: link.mtu,
    master: link.master,
    learns: port?.['learning'],
    floods: port?.['flood'],
    suppresses: port?.['neigh_suppress']
  }
}

/** Broadcasts are flooded to every alive or leaving host, to no failed one. */
function checkFlood(view: OracleView): string[] {
  const want = view.here.flatMap(network =>
    remoteOf(view, network)
      .filter(({ status }) => status === 'alive' || status === 'leaving')
      .map(({ vtep }) => `flood ${tunnelOf(network)} ${vtep}`)
  )
  const got = view.kernel.fdb
    .filter(e => e.mac === '00:00:00:00:00:00' && isTunnel(e.ifname) && isMarked(view, e.ifname))
    .map(e => `flood ${e.ifname} ${e.dst ?? ''}`)
  return compare(want, got)
}

/** Unicast entries: in the tunnel's own table and the bridge's, and a container's MAC on its port. */
function checkFdb(view: OracleView): string[] {
  const want = view.here.flatMap(network => [
    ...remoteOf(view, network).flatMap(({ endpoint, vtep }) => [
      `fdb ${tunnelOf(network)} ${endpoint.mac} to ${vtep}`,
      `fdb ${tunnelOf(network)} ${endpoint.mac} in ${bridgeOf(network)} static`
    ]),
    ...localOf(view, network).map(e => `fdb ${e.hostInterface} ${e.mac} in ${bridgeOf(network)} static`)
  ])
  const own = new Map(view.kernel.links.map(link => [link.ifname, link.address]))
  const got = view.kernel.fdb
    .filter(
      e =>
        isPort(e.ifname) &&
        isMarked(view, e.ifname) &&
        e.mac !== '00:00:00:00:00:00' &&
        !/^(33:33|01:00:5e)/.test(e.mac)
    )
    .filter(e => !(e.state === 'permanent' && e.mac === own.get(e.ifname)))
    .map(e =>
      e.master === undefined
        ? `fdb ${e.ifname} ${e.mac} to ${e.dst ?? ''}`
        : `fdb ${e.ifname} ${e.mac} in ${e.master} ${e.state}`
    )
  return compare(want, got)
}

/** The bridge answers ARP and neighbour solicitations for the network's reachable endpoints, including those of this host. */
function checkNeighbours(view: OracleView): string[] {
  const want = view.here.flatMap(network => [
    ...[...remoteOf(view, network).map(({ endpoint }) => endpoint), ...localOf(view, network)].flatMap(e =>
      e.addresses.map(address => `neighbour ${bridgeOf(network)} ${bare(address)} ${e.mac}`)
    ),
    ...(network.egress || network.hostAccess
      ? network.gateways.map(gateway => `neighbour ${bridgeOf(network)} ${gateway} ${gatewayMac(network)}`)
      : [])
  ])
  const got = view.kernel.neighbours
    .filter(n => isBridge(n.dev) && isMarked(view, n.dev) && n.state.includes('PERMANENT'))
    .map(n => `neighbour ${n.dev} ${n.dst} ${n.lladdr ?? ''}`)
  return compare(want, got)
}

/** With hostAccess the host has a route to each local endpoint; if two share an address, to one of them. */
async function checkHostRoutes(view: OracleView): Promise<string[]> {
  const ways = new Map<string, string[]>()
  for (const network of view.here.filter(({ hostAccess }) => hostAccess)) {
    for (const address of localOf(view, network).flatMap(({ addresses }) => addresses.map(bare))) {
      ways.set(address, [...(ways.get(address) ?? []), `vo${hex(network.vni)}`])
    }
  }
  const routes = ['-4', '-6'].map(family => ipJson(view.host.namespace, family, 'route', 'show'))
  const got = (await Promise.all(routes))
    .flat()
    .map(route => ({ dst: String(route['dst']), dev: String(route['dev']), via: route['gateway'] }))
    .filter(({ dev, via }) => /^vo[0-9a-f]{6}$/.test(dev) && via !== undefined)
  const unreached = [...ways].filter(([dst, devs]) => !got.some(route => route.dst === dst && devs.includes(route.dev)))
  return [
    ...unreached.map(([dst, devs]) => `missing: route to ${dst} by ${devs.join(' or ')}`),
    ...got
      .filter(({ dst, dev }) => ways.get(dst)?.includes(dev) !== true)
      .map(r => `unexpected: route to ${r.dst} by ${r.dev}`)
  ]
}

/** None of our devices outlives its network or endpoint. */
function checkNothingElse(view: OracleView): string[] {
  const wanted = new Set(
    view.here.flatMap(n => [bridgeOf(n), tunnelOf(n), ...localOf(view, n).map(e => e.hostInterface)])
  )
  return view.kernel.links
    .filter(link => link.ifalias?.startsWith('vxmesh ') === true && isOurs(link.ifname) && !wanted.has(link.ifname))
    .map(link => `${link.ifname} (${link.ifalias ?? ''}) is left over`)
}

/** Ours by name and mark: foreign devices may have similar names. */
const isMarked = (view: OracleView, name: string): boolean =>
  view.kernel.links.some(link => link.ifname === name && link.ifalias?.startsWith('vxmesh ') === true)
const isBridge = (name: string): boolean => /^vb[0-9a-f]{6}$/.test(name)
const isTunnel = (name: string): boolean => /^vx[0-9a-f]{6}$/.test(name)
const isPort = (name: string): boolean => isTunnel(name) || /^ve[0-9a-f]{13}$/.test(name)
const isOurs = (name: string): boolean => isBridge(name) || isPort(name)
const bare = (address: string): string => address.split('/')[0] ?? address
