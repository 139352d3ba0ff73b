// Random desired inputs and random kernels that have drifted from some other desired state.

import fc from 'fast-check'
import type { Endpoint } from '#model/endpoint.ts'
import type { IfName } from '#model/ids.ts'
import { ipv4Of, parseIp, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import type { MemberStatus } from '#model/member.ts'
import { desired, type DesiredHost, type DesiredInput } from '#overlay/plan/network/desired.ts'
import type { ObservedEntry, ObservedLink } from '#overlay/plan/network/observed.ts'
import { plan } from '#overlay/plan/network/plan-network.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from './fixtures.ts'
import { SimulatedKernel } from './simulated-kernel.ts'

const NETWORKS = 3
const HOSTS = 4

const status = fc.constantFrom<MemberStatus>('alive', 'leaving', 'left', 'failed')

/** Host 1 is this one. A small world, so that states overlap. */
export const anyInput: fc.Arbitrary<DesiredInput> = fc
  .record({
    places: fc.array(
      fc.record({
        network: fc.nat({ max: NETWORKS - 1 }),
        host: fc.constantFrom(1, 1, 2, 3, HOSTS),
        address: fc.integer({ min: 2, max: 12 }),
        container: fc.nat({ max: 8 }),
        // A MAC that tells another address, which nobody has, or none.
        asks: fc.constantFrom(null, null, null, '02:88:0a:01:00', '0e:00:00:00:00')
      }),
      { maxLength: 14, size: 'max' }
    ),
    statuses: fc.option(fc.dictionary(fc.constantFrom('1', '2', '3', '4'), status)),
    mtu: fc.constantFrom(0, 1400),
    selfVtep: fc.constantFrom('192.0.2.1', '192.0.2.100'),
    port: fc.constantFrom(4789, 4790)
  })
  .map(p => {
    const networks = Array.from({ length: NETWORKS }, (_, i) => makeNetwork(`n${i}`, 5000 + i, { mtu: p.mtu }))
    const taken = new Set<string>()
    const endpoints: Endpoint[] = []
    for (const place of p.places) {
      const network = networks[place.network]
      const container = `c${place.container}`
      const address = `${place.network}/${place.address}`
      if (network === undefined || taken.has(container) || taken.has(address)) continue
      taken.add(container).add(address)
      const made = makeEndpoint(network, { container, host: place.host, address: `10.1.0.${place.address}` })
      const mac = `${place.asks}:${(place.address + 100).toString(16)}` as Mac
      endpoints.push(place.asks === null ? made : { ...made, mac })
    }
    const self = makeHost(1, makeHost(p.selfVtep === '192.0.2.1' ? 1 : 100).vtep)
    return {
      self: peer(1),
      selfVtep: self.vtep,
      networks,
      endpoints: byNetwork(endpoints),
      hosts: [self, makeHost(2), makeHost(3), makeHost(4)],
      memberStatus:
        p.statuses === null
          ? null
          : new Map(Object.entries(p.statuses).map(([index, value]) => [peer(Number(index)), value])),
      overlayMtu: 1450,
      vxlanPort: p.port
    }
  })

/** The same over an underlay of either family. */
export const anyInput46 = fc.tuple(anyInput, fc.boolean()).map(([input, isSix]) => (isSix ? overIpv6(input) : input))

function overIpv6(input: DesiredInput): DesiredInput {
  const six = (vtep: Ip): Ip => parseIp(`fd00:2::${(ipv4Of(vtep) & 255).toString(16)}`)
  const hosts = input.hosts.map(host => ({ ...host, vtep: six(host.vtep) }))
  return { ...input, selfVtep: six(input.selfVtep), hosts }
}

type Drift = (link: ObservedLink) => ObservedLink | null

const anyMac = fc.integer({ min: 2, max: 14 }).map(n => `02:88:0a:01:00:${n.toString(16).padStart(2, '0')}` as Mac)
const anyVtep = fc.integer({ min: 1, max: 6 }).map(n => (0xc0000200 + n) as Ipv4)
const anyEntry: fc.Arbitrary<ObservedEntry> = fc
  .record({
    vtep: fc.option(anyVtep),
    self: fc.boolean(),
    bridged: fc.constantFrom('static' as const, 'other' as const, 'none' as const)
  })
  .map(e => (e.self || e.bridged !== 'none' ? { ...e, vtep: e.self ? e.vtep : null } : { ...e, self: true }))

/** One change that another program may have made to a device. */
const anyDrift: fc.Arbitrary<Drift> = fc.oneof(
  fc.constant<Drift>(() => null),
  fc.constant<Drift>(link => ({ ...link, up: false })),
  fc.constant<Drift>(link => ({ ...link, mtu: 1300, alias: '' })),
  fc.constant<Drift>(link => ({ ...link, ipv6: 'on', group: 0x76786e })),
  fc.constant<Drift>(link => (link.kind === 'bridge' ? { ...link, mac: '0a:00:00:00:00:01' as Mac } : link)),
  fc.constant<Drift>(link => (link.kind === 'bridge' ? { ...link, multicastSnooping: true } : link)),
  fc.constant<Drift>(link => (link.kind === 'vxlan' ? { ...link, odd: true } : link)),
  fc.constant<Drift>(link => (link.kind === 'vxlan' ? { ...link, learning: true, ttl: 0, floodOdd: true } : link)),
  fc.constant<Drift>(link => (link.kind === 'vxlan' || link.kind === 'veth' ? unported(link) : link)),
  fc.constant<Drift>(link =>
    (link.kind === 'vxlan' || link.kind === 'veth') && link.flags !== null
      ? { ...link, flags: { learning: true, unicastFlood: true, neighSuppress: null } }
      : link
  ),
  // Moved to a bridge that is not ours, with all its entries.
  fc.constant<Drift>(link =>
    (link.kind === 'vxlan' || link.kind === 'veth') && link.master !== null ? { ...link, master: 'br0' } : link
  ),
  fc
    .constantFrom('other' as const, 'none' as const)
    .map<Drift>(
      bridged => link =>
        link.kind === 'vxlan'
          ? { ...link, entries: new Map([...link.entries].map(([mac, e]) => [mac, { ...e, bridged }])) }
          : link
    ),
  fc.tuple(anyMac, anyEntry).map<Drift>(
    ([mac, entry]) =>
      link =>
        link.kind === 'vxlan' && link.master !== null
          ? { ...link, entries: new Map([...link.entries, [mac, entry]]), flood: new Set() }
          : link
  ),
  anyVtep.map<Drift>(
    vtep => link =>
      link.kind === 'vxlan' ? { ...link, entries: new Map(), flood: new Set([...link.flood, vtep]) } : link
  ),
  fc.tuple(anyVtep, fc.option(anyMac)).map<Drift>(
    ([address, mac]) =>
      link =>
        link.kind === 'bridge' ? { ...link, neighbours: new Map([...link.neighbours, [address, mac]]) } : link
  ),
  fc.tuple(anyMac, fc.constantFrom('static' as const, 'other' as const)).map<Drift>(
    ([mac, kind]) =>
      link =>
        link.kind === 'veth' && link.master !== null ? { ...link, macs: new Map([[mac, kind]]) } : link
  ),
  fc.constant<Drift>(link => ({ kind: 'foreign', name: link.name, ifindex: link.ifindex, reason: 'is not ours' }))
)

function unported(link: Extract<ObservedLink, { kind: 'vxlan' | 'veth' }>): ObservedLink {
  return link.kind === 'veth'
    ? { ...link, master: null, flags: null, macs: new Map() }
    : { ...link, master: null, flags: null, entries: new Map() }
}

/**
 * A desired state, and a kernel that once was in it or in another one, has lost the veths of some endpoints, and has
 * drifted.
 */
export const anyCase: fc.Arbitrary<{ input: DesiredInput; kernel: SimulatedKernel }> = fc
  .record({
    input: anyInput46,
    other: anyInput46,
    past: fc.constantFrom('same' as const, 'same' as const, 'other' as const, 'none' as const),
    attached: fc.array(fc.boolean(), { minLength: 14, maxLength: 14 }),
    drifts: fc.array(fc.tuple(fc.nat({ max: 10 }), anyDrift), { maxLength: 6, size: 'max' })
  })
  .map(p => {
    const kernel = new SimulatedKernel()
    const past = p.past === 'same' ? p.input : p.other
    if (p.past !== 'none') settle(kernel, desired(past), index => p.attached[index] ?? true)
    for (const [at, drift] of p.drifts) {
      const link = [...kernel.links.values()][at % (kernel.links.size + 1)]
      if (link === undefined) continue
      const drifted = drift(link)
      if (drifted === null) kernel.run([{ kind: 'device-delete', vni: null, device: link.name, ifindex: link.ifindex }])
      else kernel.links.set(link.name, drifted)
      // A bridge that became foreign, or went, holds no port of ours.
      if (drifted === null || drifted.kind === 'foreign') release(kernel, link.name)
    }
    return { input: p.input, kernel }
  })

/** Brings a kernel into a desired state, attaching the veths of the endpoints that `attached` picks. */
export function settle(kernel: SimulatedKernel, want: DesiredHost, attached: (index: number) => boolean): void {
  kernel.run(plan(want, kernel.observe()).ops)
  let index = 0
  for (const network of want.networks.values()) {
    for (const endpoint of network.endpoints.values()) {
      if (attached(index++)) addEndpoint(kernel, { ...endpoint, bridge: network.bridge })
    }
  }
  kernel.run(plan(want, kernel.observe()).ops)
}

function addEndpoint(kernel: SimulatedKernel, p: { device: IfName; alias: string; bridge: string }): void {
  if (!kernel.links.has(p.device)) kernel.addVeth({ name: p.device, alias: p.alias, master: p.bridge })
}

function release(kernel: SimulatedKernel, bridge: string): void {
  for (const link of [...kernel.links.values()]) {
    if ((link.kind === 'vxlan' || link.kind === 'veth') && link.master === bridge)
      kernel.links.set(link.name, unported(link))
  }
}
