// What the BPF programs must do with a packet, written apart from them: a packet and the tables in, the verdict out. Pure.

import type { Ipv4 } from '#model/ipv4.ts'
import { answerSolicitation, headerBytes6, maySendIpv6, type Sender6 } from './model6.ts'
import { refused } from './model-refuse.ts'
import { SERVICE_MAC, Services, type Service } from './model-services.ts'
import { onesSum } from './ones-sum.ts'
import { tellerOfIpv4, tellerOfIpv6, type ToldAddresses } from './told.ts'

export type Hex = string

export type Tables = {
  readonly settings: {
    readonly vtep: Ipv4
    readonly vxlanPort: number
    /** Ifindex of the device by which VXLAN leaves; 0: nothing is wrapped. */
    readonly underlay: number
    readonly underlayMtu: number
    readonly unwraps: boolean
  }
  /** By ifindex. */
  readonly ports: ReadonlyMap<number, Port>
  /** By `network mac`. */
  readonly stations: ReadonlyMap<string, Station>
  /** By `network address`: the MAC. */
  readonly neighbours: ReadonlyMap<string, Hex>
  /** The same for IPv6, whose addresses are 32 digits. */
  readonly neighbours6: ReadonlyMap<string, Hex>
  /** `network address` of each host that may send into a network. */
  readonly vteps: ReadonlySet<string>
  /** By ifindex: the network. */
  readonly tunnels: ReadonlyMap<number, number>
  readonly networks: ReadonlyMap<number, ForwardedNetwork>
  /** Other addresses of the host. */
  readonly locals: ReadonlySet<number>
  /** By ifindex: bytes of the link-layer header. */
  readonly underlays: ReadonlyMap<number, number>
  /** With the connections to them so far. */
  readonly services?: readonly Service[]
}

/** Of every device. */
export const DEVICE_MAC: Hex = '02fe00000001'

/** `address` is absent in a network of IPv6 alone. */
export type Port = Sender6 & { readonly network: number; readonly address?: Ipv4 } & {
  readonly redirects: boolean
  readonly mtu: number
  /** Has its network services, and some beyond its subnets? */
  readonly services?: 'inside' | 'beyond'
}
/** `to` is an ifindex; on another host (`tunnel`) that host's VTEP, or 0. `tells`: see told.ts; without it, nothing. */
export type Station = {
  readonly to: number
  readonly how: 'peer' | 'queue' | 'tunnel' | 'bridge'
  readonly tells?: readonly ('ipv4' | 'ipv6')[]
  /** May it receive answers of backends? */
  readonly awaits?: true
}
/** The ifindex of its VXLAN device; with IPv6, the addresses that MACs tell. */
export type ForwardedNetwork = { readonly tunnel: number; readonly told?: ToldAddresses }

/** A packet, and the size of the segments into which a network card is to cut it; 0: not at all. */
export type Given = { readonly packet: Buffer; readonly ifindex: number; readonly segmentBytes: number }

/** The connections to the services of these tables; a run of packets has one. */
export function connectionsOf(tables: Tables): Services {
  return new Services(tables.services ?? [])
}

export type Outcome = {
  readonly verdict: 'drop' | 'next' | 'redirect'
  /** The packet as it goes on. In a wrapped one, what the sender is free to choose is 0: see FREE. */
  readonly packet: Buffer
  readonly isWrapped?: true
  /** Counters that go up by one packet: `dropped 3`, `scope 7 sent`. */
  readonly counted: readonly string[]
}

const [IPV4, ARP, IPV6] = [0x0800, 0x0806, 0x86dd]
const [ICMP, TCP, UDP] = [1, 6, 17]
const ETHERNET_BYTES = 14
/** The lower two bits of a type of service (RFC 3168, section 5). */
const ECN = { none: 0, ect1: 1, ect0: 2, ce: 3 } as const
/** What a sender may choose in the outer headers, by its offset: the identification, the header checksum, which follows from it, the source port. */
export const FREE = { id: 18, checksum: 24, sourcePort: 34 } as const

export function fromContainer(tables: Tables, given: Given, services = connectionsOf(tables)): Outcome {
  const { ifindex, segmentBytes } = given
  let { packet } = given
  const port = tables.ports.get(ifindex)
  if (port === undefined) return { verdict: 'drop', packet, counted: ['drop no-port'] }
  if (!maySend(tables, port, { packet, segmentBytes }))
    return { verdict: 'drop', packet, counted: [`dropped ${ifindex}`, 'drop forged'] }
  const sent = `sent ${ifindex}`
  const bytes = segmentBytes === 0 ? packet.length - ETHERNET_BYTES : segmentBytes + headerBytes(packet)
  const redirects = port.redirects && bytes <= port.mtu
  const reply = redirects || port.services !== undefined ? answer(tables, port, packet) : null
  if (reply !== null) return { verdict: 'redirect', packet: reply, counted: [sent] }
  const to = packet.toString('hex', 0, 6)
  const isSure = port.services !== undefined && to === SERVICE_MAC
  const stationOf = (mac: Hex): Station | undefined => tables.stations.get(`${port.network} ${mac}`)
  let station = isSure ? undefined : stationOf(to)
  if (isSure || (station === undefined && port.services === 'beyond' && (packet.readUInt8(0) & 1) === 0)) {
    const led = services.lead(packet, { ifindex, network: port.network, mac: port.mac, isSure })
    if (led.kind === 'drop') {
      const kind = led.why === 'limited' ? 'limited' : 'dropped'
      const counted = [`${kind} ${ifindex}`, `drop ${led.why}`]
      const answer = led.isRefused === true ? refused(packet, port.mac) : null
      return answer === null ? { verdict: 'drop', packet, counted } : { verdict: 'redirect', packet: answer, counted }
    }
    if (led.kind !== 'none') packet = led.packet
    if (led.kind === 'own') return { verdict: 'redirect', packet, counted: [sent, `scope ${port.network} host`] }
    if (led.kind === 'led') station = stationOf(packet.toString('hex', 0, 6))
  }
  const scope = station === undefined ? 'bridged' : station.how === 'tunnel' ? 'sent' : 'host'
  const counted = [sent, `scope ${port.network} ${scope}`]
  if (station === undefined || !redirects || station.how === 'bridge') return { verdict: 'next', packet, counted }
  if (station.how !== 'tunnel') return deliver({ packet, counted }, station, services)
  const outer = { settings: tables.settings, to: station.to, network: port.network }
  const wrapped = segmentBytes === 0 && packet.readUInt16BE(12) !== ARP ? wrap(packet, outer) : null
  if (wrapped !== null) return { verdict: 'redirect', packet: wrapped, counted, isWrapped: true }
  return { verdict: tables.networks.has(port.network) ? 'redirect' : 'next', packet, counted }
}

/** To a container of this host, past the bridge. */
function deliver({ packet, counted }: Omit<Outcome, 'verdict'>, station: Station, services: Services): Outcome {
  if (station.how !== 'peer') return { verdict: 'redirect', packet, counted }
  const restored = station.awaits === true ? services.restore(packet, station.to) : packet
  if (restored === null) return { verdict: 'drop', packet, counted }
  return { verdict: 'redirect', packet: restored, counted: [...counted, `redirected ${station.to}`] }
}

/** On its way out of the host side of a container's veth. */
export function toContainer(_tables: Tables, { packet, ifindex }: Given, services: Services): Outcome {
  const restored = services.restore(packet, ifindex)
  return { verdict: restored === null ? 'drop' : 'next', packet: restored ?? packet, counted: [] }
}

/**
 * VXLAN over IPv4 over Ethernet: RFC 7348, section 5. The neighbour's MAC is filled in later.
 * @returns null when that is left to the VXLAN device
 */
function wrap(
  frame: Buffer,
  { settings, to, network }: { settings: Tables['settings']; to: number; network: number }
): Buffer | null {
  const vxlan = Buffer.from('0800000000000000', 'hex')
  vxlan.writeUIntBE(network, 4, 3)
  const udp = Buffer.alloc(8)
  udp.writeUInt16BE(settings.vxlanPort, 2)
  udp.writeUInt16BE(udp.length + vxlan.length + frame.length, 4)
  const ip = Buffer.from('4500000000000000401100000000000000000000', 'hex')
  const ecn = congestionIn(frame)
  // Congestion that the packet has met before is none on this way: RFC 3168, section 9.1.1, "full functionality".
  ip.writeUInt8(ecn === ECN.ce ? ECN.ect0 : ecn, 1)
  const bytes = ip.length + udp.length + vxlan.length + frame.length
  ip.writeUInt16BE(bytes, 2)
  ip.writeUInt32BE(settings.vtep, 12)
  ip.writeUInt32BE(to, 16)
  if (settings.underlay === 0 || to === 0 || bytes > settings.underlayMtu) return null
  return Buffer.concat([Buffer.from('0000000000000000000000000800', 'hex'), ip, udp, vxlan, frame])
}

export function fromOverlay(tables: Tables, { packet, ifindex }: Given, services = connectionsOf(tables)): Outcome {
  const network = tables.tunnels.get(ifindex)
  if (network === undefined) return { verdict: 'next', packet, counted: [] }
  const station = tables.stations.get(`${network} ${packet.toString('hex', 0, 6)}`)
  if (station === undefined || ['tunnel', 'bridge'].includes(station.how))
    return { verdict: 'next', packet, counted: [] }
  return deliver({ packet, counted: [] }, station, services)
}

/** Nothing that a bridge hands up is for the host. */
export function toHost(_tables: Tables, { packet }: Given): Outcome {
  return { verdict: 'drop', packet, counted: ['drop to-host'] }
}

export function fromUnderlay(
  tables: Tables,
  { packet, ifindex, segmentBytes }: Given,
  services = connectionsOf(tables)
): Outcome {
  const { vtep, vxlanPort, unwraps } = tables.settings
  const linkBytes = tables.underlays.get(ifindex)
  if (linkBytes === undefined) return { verdict: 'next', packet, counted: [] }
  const next = { verdict: 'next', packet, counted: [] } as const
  const drop = (why: string): Outcome => ({ verdict: 'drop', packet, counted: [`drop ${why}`] })
  const ip = packet.subarray(linkBytes)
  if (packet.readUInt16BE(12) !== IPV4 || ip.length < 20) return next
  const to = ip.readUInt32BE(16)
  const toAll = (packet.readUInt8(0) & 1) === 1
  if (ip[9] !== UDP || (to !== vtep && !toAll && !tables.locals.has(to)) || (ip.readUInt16BE(6) & 0x1fff) !== 0)
    return next
  const udp = ip.subarray((ip.readUInt8(0) & 15) * 4)
  if (udp.length < 4 || udp.readUInt16BE(2) !== vxlanPort) return next
  const vxlan = udp.subarray(8)
  if (vxlan.length < 8 || vxlan.readUInt32BE(0) !== 0x08000000 || vxlan[7] !== 0) return drop('malformed')
  const network = vxlan.readUIntBE(4, 3)
  if (to !== vtep || toAll || !tables.vteps.has(`${network} ${ip.readUInt32BE(12)}`)) return drop('stranger')
  const received = `scope ${network} received`
  const isWhole = segmentBytes === 0 && linkBytes === ETHERNET_BYTES
  const inner = isWhole ? unwrapped(packet) : null
  const station = inner === null ? undefined : tables.stations.get(`${network} ${inner.toString('hex', 0, 6)}`)
  if (!unwraps || inner === null || station?.how !== 'peer') return { ...next, counted: [received] }
  return deliver({ packet: inner, counted: [received] }, station, services)
}

/** What is in a VXLAN packet, if it is IPv4 or IPv6, goes on as it is, and the stack takes the packet around it; else null. */
function unwrapped(packet: Buffer): Buffer | null {
  const ip = packet.subarray(ETHERNET_BYTES)
  // RFC 791: version 4 without options, a right checksum, no padding, no fragment.
  const header = ip.subarray(0, 20)
  const isPlain = ip.readUInt8(0) === 0x45 && onesSum(header) === 0xffff && (ip.readUInt8(6) & 0x20) === 0
  if (packet.toString('hex', 0, 6) !== DEVICE_MAC || !isPlain || ip.readUInt16BE(2) !== ip.length) return null
  // RFC 768: a checksum of 0 is none.
  const udp = ip.subarray(20)
  if (udp.readUInt16BE(4) !== udp.length || udp.readUInt16BE(6) !== 0) return null
  const inner = udp.subarray(16)
  if (inner.length < ETHERNET_BYTES) return null
  const least = { [IPV4]: 20, [IPV6]: 40 }[inner.readUInt16BE(12)]
  if (least === undefined || inner.length < ETHERNET_BYTES + least) return null
  const [before, outer] = [congestionIn(inner), ip.readUInt8(1) & 3]
  return outer === ECN.ce || decapsulated(before, outer) !== before ? null : inner
}

/** The congestion field inside after decapsulation, of what is not dropped: RFC 6040, figure 4. */
function decapsulated(inner: number, outer: number): number {
  if (inner === ECN.none || inner === ECN.ce) return inner
  return outer === ECN.ce || outer === ECN.ect1 ? outer : inner
}

/** The congestion field of a frame: of IPv4 in its second byte, of IPv6 (RFC 8200, section 3) in the 12 bits after the first four. */
function congestionIn(frame: Buffer): number {
  return frame.readUInt16BE(12) === IPV6 ? (frame.readUInt16BE(ETHERNET_BYTES) >> 4) & 3 : frame.readUInt8(15) & 3
}

/** Of an allowed IP packet: those that each of its segments has. Of another one 0. */
function headerBytes(packet: Buffer): number {
  const ip = packet.subarray(ETHERNET_BYTES)
  if (packet.readUInt16BE(12) === IPV6) return headerBytes6(ip)
  if (packet.readUInt16BE(12) !== IPV4) return 0
  const own = (ip.readUInt8(0) & 15) * 4
  if ((ip.readUInt16BE(6) & 0x1fff) !== 0) return own
  if (ip.readUInt8(9) === TCP) return own + (ip.readUInt8(own + 12) >> 4) * 4
  return ip.readUInt8(9) === UDP ? own + 8 : own
}

function maySend(tables: Tables, port: Port, { packet, segmentBytes }: Omit<Given, 'ifindex'>): boolean {
  if (packet.length < 14 || packet.toString('hex', 6, 12) !== port.mac) return false
  if (packet.toString('hex', 0, 6).startsWith('0180c200000')) return false
  const type = packet.readUInt16BE(12)
  const body = packet.subarray(14)
  if (type === IPV4) return maySendIpv4(tables, port, { packet: body, segmentBytes })
  const { vxlanPort } = tables.settings
  if (type === IPV6) return maySendIpv6(body, { sender: port, segmentBytes, vxlanPort })
  return type === ARP && maySendArp(port, body)
}

function maySendIpv4(
  tables: Tables,
  port: Port,
  { packet: ip, segmentBytes }: { packet: Buffer; segmentBytes: number }
): boolean {
  if (ip.length < 20 || ip.readUInt8(0) >> 4 !== 4 || ip.readUInt32BE(12) !== port.address) return false
  const header = (ip.readUInt8(0) & 15) * 4
  const bytes = ip.readUInt16BE(2)
  if (header < 20) return false
  // A length above 64 KiB does not fit into its field.
  if (bytes === 0 ? segmentBytes === 0 : bytes < header || bytes > ip.length) return false
  const protocol = ip.readUInt8(9)
  if (![TCP, UDP, ICMP].includes(protocol) || (ip.readUInt16BE(6) & 0x1fff) !== 0) return true
  const message = ip.subarray(header)
  if (protocol === TCP) return message.length >= 20
  if (protocol === ICMP) return message.length >= 1 && ![5, 9].includes(message.readUInt8(0))
  if (message.length < 8) return false
  return message.readUInt16BE(0) !== 67 && ![68, 4789, tables.settings.vxlanPort].includes(message.readUInt16BE(2))
}

function maySendArp(port: Port, arp: Buffer): boolean {
  return (
    arp.length >= 28 &&
    arp.toString('hex', 0, 6) === '000108000604' &&
    [1, 2].includes(arp.readUInt16BE(6)) &&
    arp.toString('hex', 8, 14) === port.mac &&
    arp.readUInt32BE(14) === port.address
  )
}

function answer(tables: Tables, port: Port, packet: Buffer): Buffer | null {
  if (packet.readUInt16BE(12) === ARP) return answerArp(tables, port, packet)
  if (packet.readUInt16BE(12) !== IPV6) return null
  const macOf = (address: Hex): Hex | undefined =>
    tables.neighbours6.get(`${port.network} ${address}`) ?? tellerOfIpv6(tables, port.network, address)
  return answerSolicitation(packet, { sender: port, macOf })
}

function answerArp(tables: Tables, port: Port, packet: Buffer): Buffer | null {
  if (packet.readUInt16BE(20) !== 1) return null
  const asked = packet.readUInt32BE(38)
  const mac = tables.neighbours.get(`${port.network} ${asked}`) ?? tellerOfIpv4(tables, port.network, asked)
  if (mac === undefined || asked === port.address) return null
  const reply = Buffer.from(packet)
  reply.write(port.mac + mac, 0, 'hex')
  reply.writeUInt16BE(2, 20)
  reply.write(mac, 22, 'hex')
  reply.writeUInt32BE(asked, 28)
  reply.write(port.mac, 32, 'hex')
  reply.writeUInt32BE(port.address ?? 0, 38)
  return reply
}
