// The part of the model for services: connections of containers, each with its backend, in plain records. Stateful: a connection is what
// its first packet made it. Pure but for that.

import { fold, replaced, type Words } from './checksums.ts'

type Hex = string
type End = { readonly address: Hex; readonly port: number }
export type Backend = End & { readonly mac: Hex }

/** A port of a service; addresses have 8 or 32 digits. */
export type Service = End & {
  readonly network: number
  readonly protocol: number
  readonly backends: readonly Backend[]
  /** By slot, the place of a backend. */
  readonly slots: readonly number[]
  readonly byClient?: boolean
}

export const SERVICE_MAC: Hex = '0e7678000001'

type Connection = {
  /** Ifindex of the client's port. */
  readonly client: number
  readonly protocol: number
  readonly own: End
  readonly service: End
  /** Null: over, as far as the client's packets go. */
  backend: Backend
  /** Did the backend end or reset it? */
  isEnded: boolean
  /** Are the backend's answers still this connection's? */
  hasAnswers: boolean
}

export type Led =
  | { readonly kind: 'none' }
  /** `isRefused`: the port leads nowhere, and whoever asked may be told. */
  | { readonly kind: 'drop'; readonly why: 'nobody' | 'fragment' | 'limited'; readonly isRefused?: boolean }
  | { readonly kind: 'led' | 'own'; readonly packet: Buffer }

const [TCP, UDP, SCTP, ICMP, ICMPV6, FRAGMENT] = [6, 17, 132, 1, 58, 44]
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16]

/** Where a packet has what. `from` and `to` are null in a fragment and in a protocol without ports. */
type Parsed = {
  readonly isSix: boolean
  readonly start: number
  readonly protocol: number
  readonly at: number
  readonly isFragment: boolean
  readonly source: Hex
  readonly destination: Hex
  readonly ports: { readonly from: number; readonly to: number } | null
}

/** What an IP packet there says; null when it is cut short. */
function parse(frame: Buffer, isSix: boolean, start: number): Parsed | null {
  const ip = frame.subarray(start)
  if (ip.length < (isSix ? 40 : 20)) return null
  const protocol = ip.readUInt8(isSix ? 6 : 9)
  const at = start + (isSix ? 40 : (ip.readUInt8(0) & 15) * 4)
  const isFragment = isSix ? protocol === FRAGMENT : (ip.readUInt16BE(6) & 0x3fff) !== 0
  const [a, bytes] = isSix ? [8, 16] : [12, 4]
  const [source, destination] = [ip.toString('hex', a, a + bytes), ip.toString('hex', a + bytes, a + 2 * bytes)]
  const rest = { isSix, start, protocol, at, isFragment, source, destination }
  if (isFragment || ![TCP, UDP, SCTP].includes(protocol)) return { ...rest, ports: null }
  if (frame.length < at + 4) return null
  return { ...rest, ports: { from: frame.readUInt16BE(at), to: frame.readUInt16BE(at + 2) } }
}

function parseFrame(frame: Buffer): Parsed | null {
  const type = frame.readUInt16BE(12)
  return type === 0x0800 || type === 0x86dd ? parse(frame, type === 0x86dd, 14) : null
}

export class Services {
  readonly #services: readonly Service[]
  readonly #connections: Connection[] = []

  constructor(services: readonly Service[]) {
    this.#services = services
  }

  /** A packet of a container to the services' MAC (`isSure`) or to a router's. */
  lead(frame: Buffer, p: { ifindex: number; network: number; mac: Hex; isSure: boolean }): Led {
    const silent: Led = p.isSure ? { kind: 'drop', why: 'nobody' } : { kind: 'none' }
    const none: Led = p.isSure ? { kind: 'drop', why: 'nobody', isRefused: true } : silent
    const parsed = parseFrame(frame)
    if (parsed === null) return silent
    if (parsed.isFragment) return p.isSure ? { kind: 'drop', why: 'fragment' } : none
    if (parsed.ports === null) return silent
    const own = { address: parsed.source, port: parsed.ports.from }
    const service = { address: parsed.destination, port: parsed.ports.to }
    const isMine = (one: Connection): boolean => one.client === p.ifindex && one.protocol === parsed.protocol
    const back = this.#connections.find(
      one =>
        isMine(one) &&
        isOwn(one) &&
        one.service.address === service.address &&
        one.own.port === service.port &&
        one.backend.port === own.port
    )
    const flags = parsed.protocol === TCP ? frame.readUInt8(parsed.at + 13) : 0
    const isFirst = (flags & (SYN | ACK)) === SYN
    let known = this.#connections.find(one => isMine(one) && one.own.port === own.port && same(one.service, service))
    if (known === undefined && back !== undefined && !isFirst) {
      if ((flags & (FIN | RST)) !== 0) back.isEnded = true
      return { kind: 'own', packet: toItself(frame, { parsed, mac: p.mac, port: back.service.port, isSource: true }) }
    }
    if (known === undefined || isFirst) {
      const chosen = this.#choose({ ...p, protocol: parsed.protocol, own, service, known })
      if (typeof chosen === 'string')
        return chosen === 'none' ? none : { kind: 'drop', why: chosen, isRefused: chosen === 'nobody' }
      known = chosen
    }
    const { backend } = known
    if (isOwn(known))
      return { kind: 'own', packet: toItself(frame, { parsed, mac: p.mac, port: backend.port, isSource: false }) }
    const packet = withEnd(frame, { parsed, isSource: false, end: backend })
    if (packet === null) return { kind: 'drop', why: 'nobody' }
    packet.write(backend.mac, 0, 'hex')
    return { kind: 'led', packet }
  }

  #choose(p: {
    ifindex: number
    network: number
    protocol: number
    own: End
    service: End
    known: Connection | undefined
  }): Connection | 'none' | 'nobody' | 'limited' {
    const found = this.#services.find(
      one => one.network === p.network && one.protocol === p.protocol && same(one, p.service)
    )
    if (found === undefined) return 'none'
    const { slots, backends, byClient = false } = found
    if (slots.length === 0) return 'nobody'
    const hash = hashOf(p.own, p.service, byClient)
    for (let i = 0; i < 4; i++) {
      const backend = backends[slots[((hash + i) >>> 0) % slots.length] ?? -1]
      if (backend === undefined) return 'nobody'
      const rival = this.#connections.find(
        one =>
          one.client === p.ifindex &&
          one.protocol === p.protocol &&
          one.hasAnswers &&
          one.own.port === p.own.port &&
          same(one.backend, backend) &&
          // The answers of a container that is its own backend come to the service's address.
          (backend.address !== p.own.address || one.service.address === p.service.address)
      )
      if (rival !== undefined && !same(rival.service, p.service) && !rival.isEnded) continue
      if (rival !== undefined && rival !== p.known) rival.hasAnswers = false
      const fresh = { isEnded: false, hasAnswers: true, backend }
      if (p.known !== undefined) return Object.assign(p.known, fresh)
      const { ifindex: client, protocol, own, service } = p
      const connection: Connection = { client, protocol, own, service, ...fresh }
      this.#connections.push(connection)
      return connection
    }
    return 'limited'
  }

  /** A packet on its way into a container; null when it must not arrive. */
  restore(frame: Buffer, ifindex: number): Buffer | null {
    const parsed = parseFrame(frame)
    if (parsed === null || parsed.isFragment) return frame
    if (parsed.protocol === (parsed.isSix ? ICMPV6 : ICMP)) return this.#restoreError(frame, parsed, ifindex)
    if (parsed.ports === null) return frame
    const from = { address: parsed.source, port: parsed.ports.from }
    const connection = this.#answered(ifindex, parsed.protocol, from, parsed.ports.to)
    if (connection === undefined) return frame
    if (parsed.protocol === TCP && frame.length > parsed.at + 13) {
      if ((frame.readUInt8(parsed.at + 13) & (FIN | RST)) !== 0) connection.isEnded = true
    }
    return withEnd(frame, { parsed, isSource: true, end: connection.service })
  }

  #answered(client: number, protocol: number, backend: End, ownPort: number): Connection | undefined {
    return this.#connections.find(
      one =>
        one.client === client &&
        one.protocol === protocol &&
        one.hasAnswers &&
        !isOwn(one) &&
        same(one.backend, backend) &&
        one.own.port === ownPort
    )
  }

  #restoreError(frame: Buffer, { isSix, at, source, start }: Parsed, ifindex: number): Buffer {
    const kind = frame[at]
    const isError = kind !== undefined && (isSix ? kind >= 1 && kind <= 4 : [3, 11, 12].includes(kind))
    const about = isError ? parse(frame, isSix, at + 8) : null
    if (about?.ports === undefined || about.ports === null) return frame
    const backend = { address: about.destination, port: about.ports.to }
    const connection = this.#answered(ifindex, about.protocol, backend, about.ports.from)
    if (connection === undefined) return frame
    const { service } = connection
    const packet = Buffer.from(frame)
    const change: [Words, Words][] = []
    if (isSix) change.push([fold(backend.address), fold(service.address)])
    else
      packet.writeUInt16BE(
        replaced(packet.readUInt16BE(about.start + 10), fold(backend.address), fold(service.address)),
        about.start + 10
      )
    packet.write(service.address, about.start + (isSix ? 24 : 16), 'hex')
    if (about.protocol !== SCTP) {
      change.push([[backend.port], [service.port]])
      packet.writeUInt16BE(service.port, about.at + 2)
    }
    if (source === backend.address) {
      if (isSix) change.push([fold(source), fold(service.address)])
      else
        packet.writeUInt16BE(replaced(packet.readUInt16BE(start + 10), fold(source), fold(service.address)), start + 10)
      packet.write(service.address, start + (isSix ? 8 : 12), 'hex')
    }
    for (const [before, after] of change)
      packet.writeUInt16BE(replaced(packet.readUInt16BE(at + 2), before, after), at + 2)
    return packet
  }
}

const same = (one: End, other: End): boolean => one.address === other.address && one.port === other.port
const isOwn = (one: Connection): boolean => one.backend.address === one.own.address

/** One end of a packet becomes another one; null when there is no room for a checksum. */
function withEnd(frame: Buffer, p: { parsed: Parsed; isSource: boolean; end: End }): Buffer | null {
  const { parsed, isSource, end } = p
  const { isSix, start, at, protocol, ports } = parsed
  const check = at + (protocol === UDP ? 6 : 16)
  if (protocol !== SCTP && frame.length < check + 2) return null
  const packet = Buffer.from(frame)
  const before = isSource ? parsed.source : parsed.destination
  const port = (isSource ? ports?.from : ports?.to) ?? 0
  if (protocol !== SCTP) {
    sum(packet, check, protocol, [fold(before), fold(end.address)])
    if (port !== end.port) sum(packet, check, protocol, [[port], [end.port]])
    packet.writeUInt16BE(end.port, at + (isSource ? 0 : 2))
  }
  if (!isSix)
    packet.writeUInt16BE(replaced(packet.readUInt16BE(start + 10), fold(before), fold(end.address)), start + 10)
  packet.write(end.address, start + (isSix ? (isSource ? 8 : 24) : isSource ? 12 : 16), 'hex')
  return packet
}

/** UDP has a checksum of 0 for none (RFC 768). */
function sum(packet: Buffer, check: number, protocol: number, [before, after]: readonly [Words, Words]): void {
  const old = packet.readUInt16BE(check)
  if (protocol === UDP && old === 0) return
  const now = replaced(old, before, after)
  packet.writeUInt16BE(protocol === UDP && now === 0 ? 0xffff : now, check)
}

/** Source and destination change places, and one port is another. */
function toItself(frame: Buffer, p: { parsed: Parsed; mac: Hex; port: number; isSource: boolean }): Buffer {
  const { parsed, mac, port, isSource } = p
  const packet = Buffer.from(frame)
  packet.write(mac + SERVICE_MAC, 0, 'hex')
  packet.write(parsed.destination + parsed.source, parsed.start + (parsed.isSix ? 8 : 12), 'hex')
  const before = (isSource ? parsed.ports?.from : parsed.ports?.to) ?? 0
  if (parsed.protocol === SCTP || before === port) return packet
  sum(packet, parsed.at + (parsed.protocol === UDP ? 6 : 16), parsed.protocol, [[before], [port]])
  packet.writeUInt16BE(port, parsed.at + (isSource ? 0 : 2))
  return packet
}

/** MurmurHash3's finalizer over the client's address, the service's, and both ports. */
function hashOf(own: End, service: End, byClient: boolean): number {
  const mix = (before: number, more: number): number => {
    let h = (before ^ more) >>> 0
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0
    return (h ^ (h >>> 16)) >>> 0
  }
  const word = (address: Hex): number => {
    const digits = address.length === 8 ? `00000000000000000000ffff${address}` : address
    return (digits.match(/.{8}/g) ?? []).reduce((all, part) => all ^ Number.parseInt(part, 16), 0)
  }
  const client = mix(0, word(own.address))
  return byClient ? client : mix(mix(client, word(service.address)), (own.port << 16) | service.port)
}
