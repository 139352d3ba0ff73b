// What the BPF programs must do with a packet, written apart from them: a packet and the tables in, the verdict out. Pure.

import type { Ipv4 } from '#model/ipv4.ts'

export type Hex = string

export type Tables = {
  readonly settings: { readonly vtep: Ipv4; readonly vxlanPort: number }
  /** By ifindex. */
  readonly ports: ReadonlyMap<number, Port>
  /** By `network mac`. */
  readonly stations: ReadonlyMap<string, Station>
  /** By `network address`: the MAC. */
  readonly neighbours: ReadonlyMap<string, Hex>
  /** `network address` of each host that may send into a network. */
  readonly vteps: ReadonlySet<string>
  /** By ifindex: the network. */
  readonly tunnels: ReadonlyMap<number, number>
  /** Other addresses of the host. */
  readonly locals: ReadonlySet<number>
  /** By ifindex: bytes of the link-layer header. */
  readonly underlays: ReadonlyMap<number, number>
}

export type Port = { readonly network: number; readonly address: Ipv4; readonly mac: Hex } & {
  readonly redirects: boolean
  readonly mtu: number
}
export type Station = { readonly ifindex: number; readonly how: 'peer' | 'queue' | 'tunnel' | 'bridge' }

export type Outcome = {
  readonly verdict: 'drop' | 'next' | 'redirect'
  /** The packet as it goes on. */
  readonly packet: Buffer
  /** Counters that go up by one packet: `dropped 3`, `scope 7 sent`. */
  readonly counted: readonly string[]
}

const [IPV4, ARP] = [0x0800, 0x0806]
const [ICMP, TCP, UDP] = [1, 6, 17]

export function fromContainer(tables: Tables, packet: Buffer, ifindex: number): Outcome {
  const port = tables.ports.get(ifindex)
  if (port === undefined) return { verdict: 'drop', packet, counted: ['drop no-port'] }
  if (!maySend(tables, port, packet)) return { verdict: 'drop', packet, counted: [`dropped ${ifindex}`, 'drop forged'] }
  const sent = `sent ${ifindex}`
  const redirects = port.redirects && packet.length <= port.mtu + 14
  const reply = redirects ? answerArp(tables, port, packet) : null
  if (reply !== null) return { verdict: 'redirect', packet: reply, counted: [sent] }
  const station = tables.stations.get(`${port.network} ${packet.toString('hex', 0, 6)}`)
  const scope = station === undefined ? 'bridged' : station.how === 'tunnel' ? 'sent' : 'host'
  const counted = [sent, `scope ${port.network} ${scope}`]
  if (station === undefined || !redirects || station.how === 'bridge') return { verdict: 'next', packet, counted }
  if (station.how === 'peer') counted.push(`redirected ${station.ifindex}`)
  return { verdict: 'redirect', packet, counted }
}

export function fromOverlay(tables: Tables, packet: Buffer, ifindex: number): Outcome {
  const network = tables.tunnels.get(ifindex)
  if (network === undefined) return { verdict: 'next', packet, counted: [] }
  const station = tables.stations.get(`${network} ${packet.toString('hex', 0, 6)}`)
  if (station === undefined || ['tunnel', 'bridge'].includes(station.how))
    return { verdict: 'next', packet, counted: [] }
  return { verdict: 'redirect', packet, counted: station.how === 'peer' ? [`redirected ${station.ifindex}`] : [] }
}

/** Nothing that a bridge hands up is for the host. */
export function toHost(_tables: Tables, packet: Buffer): Outcome {
  return { verdict: 'drop', packet, counted: ['drop to-host'] }
}

export function fromUnderlay(tables: Tables, packet: Buffer, ifindex: number): Outcome {
  const { vtep, vxlanPort } = tables.settings
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
  return { ...next, counted: [`scope ${network} received`] }
}

function maySend(tables: Tables, port: Port, packet: Buffer): boolean {
  if (packet.length < 14 || packet.toString('hex', 6, 12) !== port.mac) return false
  if (packet.toString('hex', 0, 6).startsWith('0180c200000')) return false
  const type = packet.readUInt16BE(12)
  const body = packet.subarray(14)
  if (type === IPV4) return maySendIpv4(tables, port, body)
  return type === ARP && maySendArp(port, body)
}

function maySendIpv4(tables: Tables, port: Port, ip: Buffer): boolean {
  if (ip.length < 20 || ip.readUInt8(0) >> 4 !== 4 || ip.readUInt32BE(12) !== port.address) return false
  const header = (ip.readUInt8(0) & 15) * 4
  if (header < 20 || ip.readUInt16BE(2) < header || ip.readUInt16BE(2) > ip.length) return false
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

function answerArp(tables: Tables, port: Port, packet: Buffer): Buffer | null {
  if (packet.readUInt16BE(12) !== ARP || packet.readUInt16BE(20) !== 1) return null
  const asked = packet.readUInt32BE(38)
  const mac = tables.neighbours.get(`${port.network} ${asked}`)
  if (mac === undefined || asked === port.address) return null
  const reply = Buffer.from(packet)
  reply.write(port.mac + mac, 0, 'hex')
  reply.writeUInt16BE(2, 20)
  reply.write(mac, 22, 'hex')
  reply.writeUInt32BE(asked, 28)
  reply.write(port.mac, 32, 'hex')
  reply.writeUInt32BE(port.address, 38)
  return reply
}
