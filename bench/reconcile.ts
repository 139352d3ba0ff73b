// Reconciliation on one namespace host: the cost of a full pass with nothing to do, over 200 networks, 50 hosts and 5,000
// endpoints; and the rate at which 100,000 FDB entries get from the desired state into the kernel, compared with the same
// messages, prepared beforehand, over the raw socket. Then the same for driver bpf: an idle pass of all its parts, beside one of
// driver linux, and the rate at which a network's 100,000 endpoints get into the tables of its programs; before, into driver
// linux's, whose endpoints take an FDB entry in the tunnel and the bridge and a neighbour entry each.

import type { Endpoint } from '#model/endpoint.ts'
import { ipv4Of } from '#model/ip.ts'
import { formatIpv4, type Ipv4 } from '#model/ipv4.ts'
import type { Network } from '#model/network.ts'
import { attachRequest } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { setTunnelEntry } from '#overlay/netlink/neighbour.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { vxlanName } from '#overlay/plan/network/names.ts'
import { describe } from '#overlay/plan/network/op.ts'
import { plan } from '#overlay/plan/network/plan-network.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { Lab } from '../test/lab/lab.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../test/overlay/fixtures.ts'
import { programRates } from './reconcile-programs.ts'
import { median, say, type Figures, type Report } from './report.ts'

const NETWORKS = 200
const HOSTS = 50
const ENDPOINTS = 5_000
const ENTRIES = 100_000
const PASSES = 15
const SLICE = 5_000
const ROUNDS = 5

export async function bench(): Promise<Report> {
  const lab = await Lab.create({ hosts: 1 })
  const host = lab.host(1)
  const driver = LinuxDriver.open({ underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock })
  try {
    const idle = await idlePass(lab, driver)
    await settle(driver, { ...base(), networks: [], endpoints: new Map() })
    const { ours, limit } = await fdbRates(driver, host.netns)
    const linuxEndpointsPerSecond = await endpointRate(driver)
    await driver.close()
    const programs = await programRates(lab, {
      ...{ idle: spread().input, ...big(), entries: ENTRIES },
      attach: async fast => {
        const { networks, local } = spread()
        const container = await lab.container('fast')
        await attachAll(fast, { networks, endpoints: local, netns: container.netns })
      }
    })
    return {
      ours: { fdbPerSecond: ours, linuxEndpointsPerSecond, ...idle.ours, ...programs.ours },
      limit: { fdbPerSecond: limit },
      facts: { ...idle.facts, ...programs.facts, entries: ENTRIES }
    }
  } finally {
    await driver.close()
    await lab.destroy()
  }
}

const base = (): Omit<DesiredInput, 'networks' | 'endpoints'> => ({
  self: peer(1),
  selfVtep: makeHost(1).vtep,
  hosts: Array.from({ length: HOSTS }, (_, n) => makeHost(n + 1)),
  memberStatus: new Map(Array.from({ length: HOSTS }, (_, n) => [peer(n + 1), 'alive' as const])),
  overlayMtu: 1450,
  vxlanPort: 4789
})

async function settle(driver: LinuxDriver, input: DesiredInput): Promise<readonly string[]> {
  const { ops } = plan(desired(input), await driver.forwarding.observe())
  const { failures } = await driver.forwarding.execute(ops)
  if (failures[0] !== undefined) throw failures[0].error
  return ops.map(describe)
}

/** Endpoints are spread over all hosts; this host has some in all 200 networks. */
function spread(): { readonly input: DesiredInput; readonly networks: readonly Network[]; readonly local: Endpoint[] } {
  const networks = Array.from({ length: NETWORKS }, (_, n) => makeNetwork(`n${n}`, 5_000 + n))
  const endpoints = networks.flatMap((network, n) =>
    Array.from({ length: ENDPOINTS / NETWORKS }, (_, i) =>
      makeEndpoint(network, {
        container: `c${n}-${i}`,
        host: i === 0 ? 1 : 1 + ((n + i) % HOSTS),
        address: `10.1.0.${i + 2}`
      })
    )
  )
  const input: DesiredInput = { ...base(), networks, endpoints: byNetwork(endpoints) }
  return { input, networks, local: endpoints.filter(endpoint => endpoint.host === input.self) }
}

async function idlePass(
  lab: Lab,
  driver: LinuxDriver
): Promise<{ ours: Figures; facts: Readonly<Record<string, unknown>> }> {
  const { input, networks, local } = spread()
  say(`reconcile: ${NETWORKS} networks, ${HOSTS} hosts, ${ENDPOINTS} endpoints, ${local.length} of them here`)
  await settle(driver, input)
  const container = await lab.container('all')
  await attachAll(driver, { networks, endpoints: local, netns: container.netns })
  await settle(driver, input)
  const cpu: number[] = []
  const wall: number[] = []
  for (let n = 0; n < PASSES; n++) {
    const [before, since] = [process.cpuUsage(), performance.now()]
    const left = await settle(driver, input)
    const { user, system } = process.cpuUsage(before)
    if (left.length > 0) throw new Error(`an idle pass found ${left.length} ops: ${left[0]}`)
    cpu.push((user + system) / 1_000)
    wall.push(performance.now() - since)
  }
  return {
    ours: { idlePassMs: median(cpu) },
    facts: { idlePassWallMs: median(wall), networks: NETWORKS, hosts: HOSTS, endpoints: ENDPOINTS, local: local.length }
  }
}

/** Attaches all of them in one namespace, each with its own interface name. */
async function attachAll(
  driver: LinuxDriver,
  p: { networks: readonly Network[]; endpoints: readonly Endpoint[]; netns: string }
): Promise<void> {
  const byName = new Map(p.networks.map(network => [network.name, network]))
  for (const [n, endpoint] of p.endpoints.entries()) {
    const network = byName.get(endpoint.network)
    if (network === undefined) throw new Error('no network')
    const request = attachRequest({ endpoint, network, overlayMtu: 1450, netns: p.netns, withRoute: false })
    await driver.devices.attach({ ...request, ifname: `c${n}` as typeof request.ifname })
  }
}

/** Two networks with one endpoint here; in `full`, the first has 100,000 more on the other hosts. */
function big(): {
  readonly mine: Network
  readonly raw: Network
  readonly remote: readonly Endpoint[]
  readonly empty: DesiredInput
  readonly full: DesiredInput
} {
  const [mine, raw] = [9_000, 9_001].map(vni =>
    makeNetwork(`big${vni}`, vni, { subnet: { base: 0x0a000000 as Ipv4, prefixLength: 8 } })
  )
  if (mine === undefined || raw === undefined) throw new Error('two networks are needed')
  const local = [mine, raw].map((network, n) =>
    makeEndpoint(network, { container: `l${n}`, host: 1, address: '10.0.0.2' })
  )
  const remote = Array.from({ length: ENTRIES }, (_, n) => {
    const address = formatIpv4((0x0a010000 + n) as Ipv4)
    return makeEndpoint(mine, { container: `r${n}`, host: 2 + (n % (HOSTS - 1)), address })
  })
  const empty: DesiredInput = { ...base(), networks: [mine, raw], endpoints: byNetwork(local) }
  const full = { ...empty, endpoints: byNetwork(local).set(mine.name, [...local.slice(0, 1), ...remote]) }
  return { mine, raw, remote, empty, full }
}

/**
 * Fills two networks in alternating slices, one with our driver, one over the raw socket, so that other load on the machine
 * affects both alike.
 */
async function fdbRates(driver: LinuxDriver, netns: string): Promise<{ ours: number; limit: number }> {
  const { raw, remote, empty, full } = big()
  const vteps = new Map(base().hosts.map(host => [host.peerId, host.vtep]))
  const socket = NetlinkSocket.open(netns)
  const rates = { ours: [] as number[], limit: [] as number[] }
  try {
    for (let round = 0; round < ROUNDS; round++) {
      await settle(driver, empty)
      const observed = await driver.forwarding.observe()
      const ifindex = observed.links.get(vxlanName(raw.vni))?.ifindex ?? 0
      const messages = remote.map(({ mac, host }) =>
        setTunnelEntry(ifindex, { mac, vtep: ipv4Of(vteps.get(host) ?? (0 as Ipv4)) })
      )
      // FDB entries only: the raw socket sends no neighbours.
      let since = performance.now()
      const ops = plan(desired(full), observed).ops.filter(op => op.kind === 'fdb-set')
      const spent = { ours: performance.now() - since, limit: 0 }
      for (let at = 0; at < ENTRIES; at += SLICE) {
        since = performance.now()
        const { failures } = await driver.forwarding.execute(ops.slice(at, at + SLICE))
        spent.ours += performance.now() - since
        since = performance.now()
        const refused = socket.batch(messages.slice(at, at + SLICE), 'write entries').find(refusal => refusal !== null)
        spent.limit += performance.now() - since
        if (failures[0] !== undefined) throw failures[0].error
        if (refused !== undefined) throw new Error(`raw: ${refused.message}`)
      }
      rates.ours.push((ENTRIES / spent.ours) * 1_000)
      rates.limit.push((ENTRIES / spent.limit) * 1_000)
      await settle(driver, { ...empty, networks: [] })
      say(`reconcile: ${Math.round(rates.ours.at(-1) ?? 0)} entries/s, raw ${Math.round(rates.limit.at(-1) ?? 0)}`)
    }
  } finally {
    socket.close()
  }
  return { ours: median(rates.ours), limit: median(rates.limit) }
}

/** From the desired state into the kernel, observing and planning included. */
async function endpointRate(driver: LinuxDriver): Promise<number> {
  const { empty, full } = big()
  const rates: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    await settle(driver, empty)
    const since = performance.now()
    await settle(driver, full)
    rates.push((ENTRIES / (performance.now() - since)) * 1_000)
    say(`reconcile: ${Math.round(rates.at(-1) ?? 0)} endpoints/s by driver linux`)
  }
  await settle(driver, { ...empty, networks: [] })
  return median(rates)
}
