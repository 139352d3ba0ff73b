// Random packets for the BPF programs: mostly right, with one or a few things wrong, so that each check decides about some.

import type { Draw } from './draw.ts'
import { DEVICE_MAC, type Tables } from './model.ts'
import { onesSum } from './ones-sum.ts'
import { Packets6 } from './packets6.ts'

const [IPV4, ARP, IPV6, VLAN] = [0x0800, 0x0806, 0x86dd, 0x8100]
const SHORTEST: Readonly<Record<number, number>> = { [IPV4]: 20, [IPV6]: 40 }
const PROTOCOLS = [1, 17, 6, 132, 2]
const PORTS = [53, 67, 68, 4789, 4790, 80]
const ICMP_TYPES = [8, 0, 3, 5, 9, 10, 11]

export class Packets {
  readonly #draw: Draw
  readonly #six: Packets6
  readonly #macs: readonly string[]
  readonly #addresses: readonly number[]
  readonly #tables: Tables
  /** But for those whose MACs tell something: they are asked for, and otherwise as the others. */
  readonly #stations: readonly string[]

  constructor(tables: Tables, draw: Draw) {
    this.#tables = tables
    this.#draw = draw
    const { ports, stations, neighbours, vteps, settings, locals } = tables
    this.#stations = [...stations].flatMap(([key, { tells }]) => (tells === undefined ? [key] : []))
    const second = (key: string): string => key.split(' ')[1] ?? ''
    this.#macs = [
      ...[...ports.values()].map(({ mac }) => mac),
      ...this.#stations.map(second),
      ...['ffffffffffff', '01005e000001', '020000000099', '0180c2000000', '0180c200000e', '0180c2000010']
    ]
    this.#addresses = [
      ...[...ports.values()].map(({ address = 0 }) => address),
      ...[...neighbours.keys(), ...vteps].map(key => Number(second(key))),
      // What the MACs of stations may tell.
      ...[...stations.keys()].map(key => Number.parseInt(second(key).slice(4), 16)),
      ...[settings.vtep, 0, 0xffffffff, 0x0a0100fa],
      ...locals
    ]
    this.#six = new Packets6(tables, draw, this.#macs)
  }

  /** Now and then what a network card is to cut; 0: not. */
  segmentBytes(): number {
    return this.#draw.mostly(0, () => this.#draw.one([1, 40, 80, 1_400]))
  }

  /** What a container may send from a port, and what it may not. */
  ofContainer(ifindex: number): Buffer {
    const port = this.#tables.ports.get(ifindex)
    const mac = this.#draw.mostly(port?.mac ?? '020000000001', () => this.#draw.one(this.#macs))
    const address = this.#draw.mostly(port?.address ?? 0, () => this.#draw.one(this.#addresses))
    const kind = this.#draw.one([IPV4, ARP, IPV6, IPV6])
    const type = this.#draw.mostly(kind, () => this.#draw.one([IPV4, IPV6, VLAN, 0x05dc, 0x8035]))
    const arp = kind === ARP ? this.#arp(mac, address) : null
    const body = arp ?? (kind === IPV6 ? this.#six.packet(port) : this.#ipv4(address, this.#message()))
    return this.#cut(this.#ethernet(this.#draw.one(this.#macs), mac, type, body))
  }

  ofOverlay(): Buffer {
    return this.#cut(this.#ethernet(this.#draw.one(this.#macs), this.#draw.one(this.#macs), IPV4, this.#draw.bytes(40)))
  }

  /** VXLAN, mostly of a host that may send it and for a station of its network. */
  ofUnderlay(): Buffer {
    const { vtep, vxlanPort } = this.#tables.settings
    const [network = 0, from = 0] = this.#draw
      .one([...this.#tables.vteps])
      .split(' ')
      .map(Number)
    const header = Buffer.alloc(8)
    header.writeUInt32BE(
      this.#draw.mostly(0x08000000, () => this.#draw.one([0, 0x08000001, 0x88000000])),
      0
    )
    header.writeUIntBE(
      this.#draw.mostly(network, () => this.#draw.below(1 << 24)),
      4,
      3
    )
    header[7] = this.#draw.mostly(0, () => 1)
    const udp = this.#udp(
      4000,
      this.#draw.mostly(vxlanPort, () => this.#draw.one(PORTS)),
      Buffer.concat([header, this.#draw.mostly(this.#inner(network), () => this.#draw.bytes(60))])
    )
    udp.writeUInt16BE(
      this.#draw.mostly(udp.length, () => this.#draw.one([udp.length - 1, udp.length + 4])),
      4
    )
    udp.writeUInt16BE(
      this.#draw.mostly(0, () => 1),
      6
    )
    const to = this.#draw.mostly(vtep, () => this.#draw.one(this.#addresses))
    const source = this.#draw.mostly(from, () => this.#draw.one(this.#addresses))
    const ip = this.#ipv4(source, { protocol: this.#draw.mostly(17, () => 6), body: udp }, to)
    const padded = this.#draw.mostly(ip, () => Buffer.concat([ip, this.#draw.bytes(20)]))
    return this.#cut(
      this.#ethernet(
        this.#draw.mostly(DEVICE_MAC, () => this.#draw.one(['ffffffffffff', '01005e000001', '02fe00000003'])),
        '02fe00000002',
        this.#draw.mostly(IPV4, () => IPV6),
        padded
      )
    )
  }

  /** A frame from another host's container. */
  #inner(network: number): Buffer {
    const stations = this.#stations.filter(key => key.startsWith(`${network} `))
    const [, mac = ''] = this.#draw.one(stations).split(' ')
    const to = this.#draw.mostly(mac, () => this.#draw.one(this.#macs))
    const kind = this.#draw.one([IPV4, IPV6])
    const type = this.#draw.mostly(kind, () => this.#draw.one([ARP, IPV4, IPV6, VLAN]))
    const packet =
      kind === IPV6 ? this.#six.packet(undefined) : this.#ipv4(this.#draw.one(this.#addresses), this.#message())
    return this.#ethernet(
      to,
      this.#draw.one(this.#macs),
      type,
      this.#draw.mostly(packet, () => this.#draw.bytes(60))
    )
  }

  #ethernet(to: string, from: string, type: number, body: Buffer): Buffer {
    const head = Buffer.from(`${to}${from}0000`, 'hex')
    head.writeUInt16BE(type, 12)
    return Buffer.concat([head, body])
  }

  #ipv4(
    from: number,
    { protocol, body }: { protocol: number; body: Buffer },
    to = this.#draw.one(this.#addresses)
  ): Buffer {
    const words = this.#draw.mostly(5, () => 6 + this.#draw.below(10))
    const header = Buffer.alloc(words * 4)
    header.writeUInt8(
      this.#draw.mostly(0x40 | words, () =>
        this.#draw.one([this.#draw.below(256), (this.#draw.below(16) << 4) | words])
      ),
      0
    )
    const bytes = header.length + body.length
    // Each sign of congestion (RFC 3168), and classes of service.
    header.writeUInt8(
      this.#draw.mostly(this.#draw.below(4), () => this.#draw.below(256)),
      1
    )
    header.writeUInt16BE(
      this.#draw.mostly(bytes, () => this.#draw.one([0, 19, bytes - 1, bytes + 1, 0xffff])),
      2
    )
    header.writeUInt16BE(
      this.#draw.mostly(0, () => this.#draw.one([0x2000, 0x4000, 1, 0x2001, 0x1fff])),
      6
    )
    header.writeUInt8(protocol, 9)
    header.writeUInt32BE(from, 12)
    header.writeUInt32BE(to, 16)
    const checksum = 0xffff - onesSum(header)
    header.writeUInt16BE(
      this.#draw.mostly(checksum, () => this.#draw.one([0, checksum ^ 1, checksum ^ 0x100])),
      10
    )
    return Buffer.concat([header, body])
  }

  #message(): { readonly protocol: number; readonly body: Buffer } {
    const protocol = this.#draw.one(PROTOCOLS)
    if (protocol === 17)
      return { protocol, body: this.#udp(this.#draw.one(PORTS), this.#draw.one(PORTS), this.#draw.bytes(20)) }
    if (protocol === 1)
      return { protocol, body: Buffer.concat([Buffer.from([this.#draw.one(ICMP_TYPES), 0]), this.#draw.bytes(30)]) }
    return { protocol, body: this.#draw.bytes(60) }
  }

  #udp(from: number, to: number, body: Buffer): Buffer {
    const header = Buffer.alloc(8)
    header.writeUInt16BE(from, 0)
    header.writeUInt16BE(to, 2)
    return Buffer.concat([header, body])
  }

  #arp(mac: string, address: number): Buffer {
    const head = this.#draw.mostly('000108000604', () =>
      this.#draw.one(['000608000604', '000186dd0604', '000108000804', '000108000610'])
    )
    const arp = Buffer.concat([Buffer.from(head, 'hex'), Buffer.alloc(22)])
    arp.writeUInt16BE(
      this.#draw.mostly(1, () => this.#draw.one([2, 3, 0, 8])),
      6
    )
    arp.write(
      this.#draw.mostly(mac, () => this.#draw.one(this.#macs)),
      8,
      'hex'
    )
    arp.writeUInt32BE(
      this.#draw.mostly(address, () => this.#draw.one(this.#addresses)),
      14
    )
    arp.writeUInt32BE(this.#draw.one(this.#addresses), 24)
    return Buffer.concat([arp, this.#draw.bytes(18)])
  }

  /** Now and then only its first bytes. The kernel runs no packet without a whole header of the IP version that it names. */
  #cut(packet: Buffer): Buffer {
    const least = 14 + (SHORTEST[packet.readUInt16BE(12)] ?? 1)
    const whole = Buffer.concat([packet, Buffer.alloc(Math.max(0, least - packet.length))])
    return this.#draw.mostly(whole, () => whole.subarray(0, least + this.#draw.below(whole.length - least + 1)))
  }
}
