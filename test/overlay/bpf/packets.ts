// Random packets for the BPF programs: mostly right, with one or a few things wrong, so that each check decides about some.

import { DEVICE_MAC, onesSum, type Tables } from './model.ts'

/** A whole number below `bound`. */
type Below = (bound: number) => number

const [IPV4, ARP, IPV6, VLAN] = [0x0800, 0x0806, 0x86dd, 0x8100]
const SHORTEST: Readonly<Record<number, number>> = { [IPV4]: 20, [IPV6]: 40 }
const PROTOCOLS = [1, 17, 6, 132, 2]
const PORTS = [53, 67, 68, 4789, 4790, 80]
const ICMP_TYPES = [8, 0, 3, 5, 9, 10, 11]

export class Packets {
  readonly #below: Below
  readonly #macs: readonly string[]
  readonly #addresses: readonly number[]
  readonly #tables: Tables

  constructor(tables: Tables, below: Below) {
    this.#tables = tables
    this.#below = below
    const { ports, stations, neighbours, vteps, settings, locals } = tables
    const second = (key: string): string => key.split(' ')[1] ?? ''
    this.#macs = [
      ...[...ports.values()].map(({ mac }) => mac),
      ...[...stations.keys()].map(second),
      ...['ffffffffffff', '01005e000001', '020000000099', '0180c2000000', '0180c200000e', '0180c2000010']
    ]
    this.#addresses = [
      ...[...ports.values()].map(({ address }) => address),
      ...[...neighbours.keys(), ...vteps].map(key => Number(second(key))),
      ...[settings.vtep, 0, 0xffffffff, 0x0a0100fa],
      ...locals
    ]
  }

  /** Now and then what a network card is to cut; 0: not. */
  segmentBytes(): number {
    return this.#mostly(0, () => this.#one([1, 40, 80, 1_400]))
  }

  /** What a container may send from a port, and what it may not. */
  ofContainer(ifindex: number): Buffer {
    const port = this.#tables.ports.get(ifindex)
    const mac = this.#mostly(port?.mac ?? '020000000001', () => this.#one(this.#macs))
    const address = this.#mostly(port?.address ?? 0, () => this.#one(this.#addresses))
    const type = this.#mostly(this.#one([IPV4, ARP]), () => this.#one([IPV6, VLAN, 0x05dc, 0x8035]))
    const body = type === ARP ? this.#arp(mac, address) : this.#ipv4(address, this.#message())
    return this.#cut(this.#ethernet(this.#one(this.#macs), mac, type, body))
  }

  ofOverlay(): Buffer {
    return this.#cut(this.#ethernet(this.#one(this.#macs), this.#one(this.#macs), IPV4, this.#bytes(40)))
  }

  /** VXLAN, mostly of a host that may send it and for a station of its network. */
  ofUnderlay(): Buffer {
    const { vtep, vxlanPort } = this.#tables.settings
    const [network = 0, from = 0] = this.#one([...this.#tables.vteps])
      .split(' ')
      .map(Number)
    const header = Buffer.alloc(8)
    header.writeUInt32BE(
      this.#mostly(0x08000000, () => this.#one([0, 0x08000001, 0x88000000])),
      0
    )
    header.writeUIntBE(
      this.#mostly(network, () => this.#below(1 << 24)),
      4,
      3
    )
    header[7] = this.#mostly(0, () => 1)
    const udp = this.#udp(
      4000,
      this.#mostly(vxlanPort, () => this.#one(PORTS)),
      Buffer.concat([header, this.#mostly(this.#inner(network), () => this.#bytes(60))])
    )
    udp.writeUInt16BE(
      this.#mostly(udp.length, () => this.#one([udp.length - 1, udp.length + 4])),
      4
    )
    udp.writeUInt16BE(
      this.#mostly(0, () => 1),
      6
    )
    const to = this.#mostly(vtep, () => this.#one(this.#addresses))
    const source = this.#mostly(from, () => this.#one(this.#addresses))
    const ip = this.#ipv4(source, { protocol: this.#mostly(17, () => 6), body: udp }, to)
    const padded = this.#mostly(ip, () => Buffer.concat([ip, this.#bytes(20)]))
    return this.#cut(
      this.#ethernet(
        this.#mostly(DEVICE_MAC, () => this.#one(['ffffffffffff', '01005e000001', '02fe00000003'])),
        '02fe00000002',
        this.#mostly(IPV4, () => IPV6),
        padded
      )
    )
  }

  /** A frame from another host's container. */
  #inner(network: number): Buffer {
    const stations = [...this.#tables.stations.keys()].filter(key => key.startsWith(`${network} `))
    const [, mac = ''] = this.#one(stations).split(' ')
    const to = this.#mostly(mac, () => this.#one(this.#macs))
    const type = this.#mostly(IPV4, () => this.#one([ARP, IPV6, VLAN]))
    const packet = this.#ipv4(this.#one(this.#addresses), this.#message())
    return this.#ethernet(
      to,
      this.#one(this.#macs),
      type,
      this.#mostly(packet, () => this.#bytes(60))
    )
  }

  #ethernet(to: string, from: string, type: number, body: Buffer): Buffer {
    const head = Buffer.from(`${to}${from}0000`, 'hex')
    head.writeUInt16BE(type, 12)
    return Buffer.concat([head, body])
  }

  #ipv4(from: number, { protocol, body }: { protocol: number; body: Buffer }, to = this.#one(this.#addresses)): Buffer {
    const words = this.#mostly(5, () => 6 + this.#below(10))
    const header = Buffer.alloc(words * 4)
    header.writeUInt8(
      this.#mostly(0x40 | words, () => this.#one([this.#below(256), (this.#below(16) << 4) | words])),
      0
    )
    const bytes = header.length + body.length
    // Each sign of congestion (RFC 3168), and classes of service.
    header.writeUInt8(
      this.#mostly(this.#below(4), () => this.#below(256)),
      1
    )
    header.writeUInt16BE(
      this.#mostly(bytes, () => this.#one([0, 19, bytes - 1, bytes + 1, 0xffff])),
      2
    )
    header.writeUInt16BE(
      this.#mostly(0, () => this.#one([0x2000, 0x4000, 1, 0x2001, 0x1fff])),
      6
    )
    header.writeUInt8(protocol, 9)
    header.writeUInt32BE(from, 12)
    header.writeUInt32BE(to, 16)
    const checksum = 0xffff - onesSum(header)
    header.writeUInt16BE(
      this.#mostly(checksum, () => this.#one([0, checksum ^ 1, checksum ^ 0x100])),
      10
    )
    return Buffer.concat([header, body])
  }

  #message(): { readonly protocol: number; readonly body: Buffer } {
    const protocol = this.#one(PROTOCOLS)
    if (protocol === 17) return { protocol, body: this.#udp(this.#one(PORTS), this.#one(PORTS), this.#bytes(20)) }
    if (protocol === 1)
      return { protocol, body: Buffer.concat([Buffer.from([this.#one(ICMP_TYPES), 0]), this.#bytes(30)]) }
    return { protocol, body: this.#bytes(60) }
  }

  #udp(from: number, to: number, body: Buffer): Buffer {
    const header = Buffer.alloc(8)
    header.writeUInt16BE(from, 0)
    header.writeUInt16BE(to, 2)
    return Buffer.concat([header, body])
  }

  #arp(mac: string, address: number): Buffer {
    const head = this.#mostly('000108000604', () =>
      this.#one(['000608000604', '000186dd0604', '000108000804', '000108000610'])
    )
    const arp = Buffer.concat([Buffer.from(head, 'hex'), Buffer.alloc(22)])
    arp.writeUInt16BE(
      this.#mostly(1, () => this.#one([2, 3, 0, 8])),
      6
    )
    arp.write(
      this.#mostly(mac, () => this.#one(this.#macs)),
      8,
      'hex'
    )
    arp.writeUInt32BE(
      this.#mostly(address, () => this.#one(this.#addresses)),
      14
    )
    arp.writeUInt32BE(this.#one(this.#addresses), 24)
    return Buffer.concat([arp, this.#bytes(18)])
  }

  /** Now and then only its first bytes. The kernel runs no packet without a whole header of the IP version that it names. */
  #cut(packet: Buffer): Buffer {
    const least = 14 + (SHORTEST[packet.readUInt16BE(12)] ?? 1)
    const whole = Buffer.concat([packet, Buffer.alloc(Math.max(0, least - packet.length))])
    return this.#mostly(whole, () => whole.subarray(0, least + this.#below(whole.length - least + 1)))
  }

  #bytes(most: number): Buffer {
    return Buffer.from(Array.from({ length: this.#below(most) }, () => this.#below(256)))
  }

  #mostly<T>(value: T, otherwise: () => T): T {
    return this.#below(12) === 0 ? otherwise() : value
  }

  #one<T>(values: readonly T[]): T {
    return values[this.#below(values.length)] as T
  }
}
