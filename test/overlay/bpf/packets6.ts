// Random IPv6 packets for the BPF programs: mostly right, with hostile headers.

import type { Draw } from './draw.ts'
import type { Port, Tables } from './model.ts'
import { ipv6At } from './told.ts'

const [TCP, UDP, ICMPV6] = [6, 17, 58]
const [HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION] = [0, 43, 44, 51, 60]
/** SCTP, ESP, IPv6 in IPv6, none at all, ICMP of IPv4, mobility, GRE. */
const OTHERS = [132, 50, 132, 50, 41, 59, 1, 135, 47]
const PORTS = [53, 67, 546, 547, 4789, 4790, 80]
const ICMPV6_TYPES = [0, 1, 2, 3, 4, 5, 100, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 143, 151, 255]
const [SOLICITATION, ADVERTISEMENT] = [135, 136]

/** A protocol and what it carries. */
type Message = { readonly protocol: number; readonly body: Buffer }

export class Packets6 {
  readonly #draw: Draw
  readonly #macs: readonly string[]
  readonly #neighbours: readonly string[]
  readonly #addresses: readonly string[]
  /** That the MACs of stations may tell, in the network's own subnet and next to it, and in others. */
  readonly #told: readonly string[]

  /** @param macs that a frame may have */
  constructor({ ports, stations, networks, neighbours6 }: Tables, draw: Draw, macs: readonly string[]) {
    this.#draw = draw
    this.#macs = macs
    this.#neighbours = [...neighbours6.keys()].map(key => key.split(' ')[1] ?? '')
    const numbers = [...stations.keys()].map(key => Number.parseInt(key.slice(-8), 16))
    this.#told = [...networks.values()].flatMap(({ told }) => {
      if (told === undefined) return []
      const { base, first, count } = told
      const own = numbers.map(number => number - first).filter(at => Math.abs(at) <= count)
      const near = [-1, 0, count - 1, count, ...own].map(at => ipv6At(base, at))
      // With one digit of another subnet.
      const beside = [0, 9, 20].map(digit => `${base.slice(0, digit)}7${base.slice(digit + 1)}`)
      return [...near, ...near, ...beside]
    })
    this.#addresses = [
      ...[...ports.values()].flatMap(({ address6 }) => (address6 === undefined ? [] : [address6])),
      ...this.#neighbours,
      // Nobody's, unspecified, all nodes, link-local, and one that stands for an IPv4 address.
      'fd000001000000000000000000000099',
      '00000000000000000000000000000000',
      'ff020000000000000000000000000001',
      'fe80000000000000000000fffe000002',
      '00000000000000000000ffff0a010002'
    ]
  }

  /** What a container may send from a port, and what it may not, without the Ethernet header. */
  packet(port: Port | undefined): Buffer {
    const draw = this.#draw
    const isDiscovery = draw.below(3) === 0
    const message = isDiscovery ? this.#discovery(port) : this.#message(port)
    const count = isDiscovery ? draw.mostly(0, () => 1) : draw.one([0, 0, 0, 1, 1, 2, 3])
    let { protocol, body } = message
    for (let left = count; left > 0; left--) {
      const kind = this.#kind()
      body = Buffer.concat([this.#extension(kind, protocol), body])
      protocol = kind
    }
    const header = Buffer.alloc(40)
    header.writeUInt16BE(0x6000 | draw.below(0x1000), 0)
    header.writeUInt8(
      draw.mostly(header.readUInt8(0), () => draw.below(256)),
      0
    )
    header.writeUInt16BE(
      draw.mostly(body.length, () => draw.one([0, 4, 24, 32, Math.max(0, body.length - 1), body.length + 1, 0xffff])),
      4
    )
    header.writeUInt8(protocol, 6)
    header.writeUInt8(
      draw.mostly(255, () => draw.one([0, 1, 64, 254])),
      7
    )
    const from = draw.mostly(port?.address6 ?? draw.one(this.#addresses), () => draw.one(this.#addresses))
    header.write(from + draw.one(this.#addresses), 8, 'hex')
    return Buffer.concat([header, body])
  }

  #kind(): number {
    const others = [HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION]
    return this.#draw.one([FRAGMENT, FRAGMENT, this.#draw.one(others)])
  }

  #extension(kind: number, next: number): Buffer {
    const draw = this.#draw
    if (kind === FRAGMENT) {
      const header = Buffer.from([next, draw.mostly(0, () => 1), 0, 0, 0, 0, 0, draw.below(256)])
      const offset = draw.one([0, 0, 0, 1, 185, 0x1fff])
      header.writeUInt16BE((offset << 3) | draw.below(2) | draw.mostly(0, () => 6), 2)
      return header
    }
    const length = draw.one([0, 0, 1, 4])
    const bytes = Buffer.alloc(kind === AUTHENTICATION ? length * 4 + 8 : length * 8 + 8, draw.below(256))
    bytes.writeUInt8(next, 0)
    bytes.writeUInt8(
      draw.mostly(length, () => draw.one([0, 1, 2, 255])),
      1
    )
    return bytes
  }

  #message(port: Port | undefined): Message {
    const draw = this.#draw
    const protocol = draw.one([TCP, UDP, ICMPV6, draw.one(OTHERS)])
    if (protocol === UDP) {
      const header = Buffer.alloc(8)
      header.writeUInt16BE(draw.one(PORTS), 0)
      header.writeUInt16BE(draw.one(PORTS), 2)
      return { protocol, body: Buffer.concat([header, draw.bytes(20)]) }
    }
    if (protocol === ICMPV6) {
      const type = draw.one(ICMPV6_TYPES)
      const head = Buffer.from([type, 0, 0, 0, 0, 0, 0, 0])
      return { protocol, body: Buffer.concat([head, draw.one([draw.bytes(60), this.#quoted(port)])]) }
    }
    return { protocol, body: draw.bytes(60) }
  }

  /** The packet that an error is about, mostly one to the container. */
  #quoted(port: Port | undefined): Buffer {
    const draw = this.#draw
    const header = Buffer.alloc(40)
    header.write(
      draw.mostly(port?.address6 ?? draw.one(this.#addresses), () => draw.one(this.#addresses)),
      24,
      'hex'
    )
    return Buffer.concat([header, draw.bytes(9)])
  }

  #discovery(port: Port | undefined): Message {
    const draw = this.#draw
    const type = draw.one([SOLICITATION, SOLICITATION, ADVERTISEMENT])
    const mac = draw.mostly(port?.mac ?? draw.one(this.#macs), () => draw.one(this.#macs))
    const own = port?.address6 ?? draw.one(this.#addresses)
    const usual = type === ADVERTISEMENT ? own : draw.one(draw.one([this.#neighbours, this.#told, this.#told]))
    const target = draw.mostly(usual, () => draw.one(this.#addresses))
    const head = Buffer.from([type, draw.mostly(0, () => 1), 0, 0, draw.below(256), 0, 0, 0])
    const kind = draw.mostly(type === SOLICITATION ? 1 : 2, () => draw.one([1, 2, 3, 14]))
    const option = Buffer.from([kind, draw.mostly(1, () => draw.one([0, 2])), ...Buffer.from(mac, 'hex')])
    const options = draw.one([option, option, option, Buffer.alloc(0), Buffer.concat([option, option])])
    return { protocol: ICMPV6, body: Buffer.concat([head, Buffer.from(target, 'hex'), options]) }
  }
}
