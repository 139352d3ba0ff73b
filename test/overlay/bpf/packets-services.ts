// Random packets of clients and backends of services: few ends, so that most are of connections that exist.

import type { Draw } from './draw.ts'
import { SERVICE_MAC, type Service } from './model-services.ts'
import { DEVICE_MAC, type Tables } from './model.ts'
import { onesSum } from './ones-sum.ts'

const [TCP, UDP, SCTP, ICMP, ICMPV6] = [6, 17, 132, 1, 58]
const CLIENT_PORTS = [40_000, 40_001, 40_002]
const TCP_FLAGS = [2, 2, 2, 16, 16, 24, 17, 18, 4, 20]

type Ends = { from: string; to: string; fromPort: number; toPort: number; protocol: number }

export class ServicePackets {
  readonly #tables: Tables
  readonly #draw: Draw
  readonly #services: readonly Service[]
  readonly #clients: readonly number[]

  constructor(tables: Tables, draw: Draw) {
    this.#tables = tables
    this.#draw = draw
    this.#services = tables.services ?? []
    this.#clients = [...tables.ports].flatMap(([ifindex, { services }]) => (services === undefined ? [] : [ifindex]))
  }

  client(): number {
    return this.#draw.one(this.#clients)
  }

  /** From a container to a service, or, as its own backend, back. */
  toService(ifindex: number): Buffer {
    const draw = this.#draw
    const port = this.#tables.ports.get(ifindex)
    const { address, protocol, port: servicePort, backends } = draw.one(this.#services)
    const isSix = address.length === 32
    const own = (isSix ? port?.address6 : port?.address?.toString(16).padStart(8, '0')) ?? address
    const isBack = draw.below(6) === 0
    const ends = {
      from: own,
      to: address,
      protocol: draw.mostly(protocol, () => draw.one([TCP, UDP, SCTP, ICMP, ICMPV6, 50])),
      fromPort: isBack ? (backends[0]?.port ?? 1) : draw.one(CLIENT_PORTS),
      toPort: isBack ? draw.one(CLIENT_PORTS) : draw.mostly(servicePort, () => 99)
    }
    const to = draw.mostly(SERVICE_MAC, () => draw.one(['02ffffffffff', '02000000000a', '01005e000001']))
    return this.#frame(to, port?.mac ?? '', ends)
  }

  /** What a backend sends to a client, or an error about what a client sent to it. */
  fromBackend(ifindex: number, mac?: string): Buffer {
    const draw = this.#draw
    const port = this.#tables.ports.get(ifindex)
    const { backends, protocol, address } = draw.one(this.#services.filter(({ backends }) => backends.length > 0))
    const backend = draw.one(backends)
    const isSix = address.length === 32
    const own = (isSix ? port?.address6 : port?.address?.toString(16).padStart(8, '0')) ?? address
    const ends = {
      ...{ from: backend.address, to: own, fromPort: backend.port, toPort: draw.one(CLIENT_PORTS) },
      protocol: draw.mostly(protocol, () => draw.one([TCP, UDP, SCTP, 50]))
    }
    const from = mac ?? backend.mac
    if (draw.below(4) !== 0) return this.#frame(port?.mac ?? '', from, ends)
    const quoted = this.#packet({
      ...ends,
      from: own,
      to: backend.address,
      fromPort: ends.toPort,
      toPort: ends.fromPort
    })
    const kinds = isSix ? [1, 2, 3, 4, 128, 5] : [3, 11, 12, 8, 5]
    const head = Buffer.from([draw.one(kinds), 1, draw.below(256), draw.below(256), 0, 0, 5, 0])
    const error = Buffer.concat([head, draw.mostly(quoted, () => quoted.subarray(0, draw.below(quoted.length)))])
    const router = isSix ? 'fd0000010000000000000000000000fe' : '0a0100fe'
    const body = {
      ...ends,
      from: draw.one([backend.address, backend.address, router]),
      protocol: isSix ? ICMPV6 : ICMP
    }
    return this.#ethernet(port?.mac ?? '', from, isSix, this.#ip(body, error))
  }

  /** The same from another host. */
  wrapped(ifindex: number): Buffer {
    const { settings, vteps } = this.#tables
    const [network = 0, from = 0] = ([...vteps][0] ?? '').split(' ').map(Number)
    const inner = this.fromBackend(ifindex)
    const vxlan = Buffer.alloc(16)
    vxlan.writeUInt16BE(50_000, 0)
    vxlan.writeUInt16BE(settings.vxlanPort, 2)
    vxlan.writeUInt16BE(16 + inner.length, 4)
    vxlan.writeUInt32BE(0x08000000, 8)
    vxlan.writeUIntBE(network, 12, 3)
    const hex = (address: number): string => address.toString(16).padStart(8, '0')
    const ends = { from: hex(from), to: hex(settings.vtep), protocol: UDP, fromPort: 0, toPort: 0 }
    return this.#ethernet(DEVICE_MAC, '02fe00000002', false, this.#header(ends, Buffer.concat([vxlan, inner])))
  }

  #frame(to: string, from: string, ends: Ends): Buffer {
    return this.#ethernet(to, from, ends.from.length === 32, this.#packet(ends))
  }

  #ethernet(to: string, from: string, isSix: boolean, packet: Buffer): Buffer {
    return Buffer.concat([Buffer.from(`${to}${from}${isSix ? '86dd' : '0800'}`, 'hex'), packet])
  }

  #packet(ends: Ends): Buffer {
    const draw = this.#draw
    const ports = Buffer.alloc(4)
    ports.writeUInt16BE(ends.fromPort, 0)
    ports.writeUInt16BE(ends.toPort, 2)
    const random = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, () => draw.below(256)))
    const tcp = Buffer.concat([random(8), Buffer.from([0x50, draw.one(TCP_FLAGS)]), random(6)])
    const udp = Buffer.concat([
      Buffer.from([0, 8]),
      draw.one([random(2), random(2), Buffer.alloc(2), Buffer.from('ffff', 'hex')])
    ])
    const rest = ends.protocol === TCP ? tcp : ends.protocol === UDP ? udp : random(8)
    return this.#ip(ends, Buffer.concat([ports, rest, draw.bytes(12)]))
  }

  #ip(ends: Ends, body: Buffer): Buffer {
    const draw = this.#draw
    if (ends.from.length === 8) {
      const packet = this.#header(ends, body)
      const flags = draw.below(20) === 0 ? draw.one([0x2000, 0x2003, 5]) : draw.one([0, 0x4000])
      packet.writeUInt16BE(flags, 6)
      packet.writeUInt16BE(
        draw.mostly(packet.readUInt16BE(10), () => draw.below(0x10000)),
        10
      )
      return packet
    }
    const isFragment = draw.below(20) === 0
    const head = Buffer.alloc(8)
    head.writeUInt8(ends.protocol, 0)
    const content = isFragment ? Buffer.concat([head, body]) : body
    const header = Buffer.from(`60000000000000ff${ends.from}${ends.to}`, 'hex')
    header.writeUInt16BE(content.length, 4)
    header.writeUInt8(isFragment ? 44 : ends.protocol, 6)
    return Buffer.concat([header, content])
  }

  /** With options now and then, but not around VXLAN. */
  #header({ from, to, protocol }: Ends, body: Buffer): Buffer {
    const options = protocol !== UDP && this.#draw.below(8) === 0 ? 4 : 0
    const header = Buffer.alloc(20 + options)
    header.writeUInt8(0x45 + options / 4, 0)
    header.writeUInt16BE(header.length + body.length, 2)
    header.writeUInt8(64, 8)
    header.writeUInt8(protocol, 9)
    header.write(from + to, 12, 'hex')
    header.writeUInt16BE(0xffff - onesSum(header), 10)
    return Buffer.concat([header, body])
  }
}
