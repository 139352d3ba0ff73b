// The network between simulated hosts: a mesh port for each process, with connections, ordered byte streams and one
// gossip topic. A direct stream has a connection of its own, which breaks by itself. Links are cut one direction at a time.
// A cut stalls the bytes in flight; if it lasts, keep-alives close the connection. Gossip is lost, duplicated and delayed
// message by message.

import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import {
  isDirect,
  LEADER_PROTOCOL,
  type MeshPort,
  type MeshStream,
  type Verdict
} from '#replication/transport/mesh-port.ts'
import type { Counters } from '../counters.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import { MemoryStream } from '#test/replication/memory-stream.ts'
import type { Life } from './life.ts'
import { Wire } from './wire.ts'

const LATENCY_MS = 0.2
const DIAL_TIMEOUT_MS = 2_000
/** When keep-alives close a connection whose link is cut, and a direct stream whose peer is silent. */
const KEEP_ALIVE_MS = 6_000
const DIRECT_KEEP_ALIVE_MS = 12_500
/** To open a direct stream: TCP, preamble, TLS, proofs. */
const DIRECT_ROUND_TRIPS = 4
const LATE_MS = 4_000
/** Protocols of requests and answers. */
const RPC: ReadonlySet<string> = new Set(['/vxmesh/rpc/1', LEADER_PROTOCOL])

type Judge = (author: PeerId, data: Uint8Array) => Verdict
type Handler = (peer: PeerId, stream: MeshStream) => void

/** One process's end of the network. */
type Port = {
  readonly peer: PeerId
  readonly address: Ip
  readonly life: Life
  readonly handlers: Map<string, Handler>
  readonly watchers: ((peer: PeerId, connected: boolean) => void)[]
  judge: Judge | null
}

/** Each stream with the process at its end. */
type Connection = {
  readonly ports: readonly [Port, Port]
  readonly streams: Map<MemoryStream, Life>
  readonly wires: Wire[]
}

export class HostNetwork {
  readonly feed = { loss: 0, duplication: 0, delay: 0 }
  /** Probability per chunk of a stream of a delay of seconds. */
  lateAnswers = 0
  /** Probability per chunk of answers to requests that the server drops it, as a channel does whose queue is full. */
  lostAnswers = 0
  jitterMs = 1
  /** Peers that lose the leader's next answer. */
  readonly #losing = new Set<PeerId>()
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #faults: Counters
  readonly #ports = new Map<PeerId, Port>()
  readonly #connections = new Map<string, Connection>()
  /** Of the direct streams that are open. */
  readonly #direct = new Set<Connection>()
  readonly #cut = new Set<string>()

  constructor(p: { readonly random: Random; readonly schedule: Schedule; readonly faults: Counters }) {
    this.#random = p.random
    this.#schedule = p.schedule
    this.#faults = p.faults
  }

  /** The mesh of a process that has just started. */
  attach({ peerId: peer, address }: { readonly peerId: PeerId; readonly address: Ip }, life: Life): MeshPort {
    const port: Port = { peer, address, life, handlers: new Map(), watchers: [], judge: null }
    this.#ports.set(peer, port)
    return {
      self: peer,
      setAddress: () => undefined,
      connect: to => this.#connect(port, to).then(() => undefined),
      isConnected: to => this.#connections.has(pair(peer, to)),
      addressesOf: to => {
        const ends = [...this.#between(peer, to)].flatMap(({ ports }) => ports)
        return [...new Set(ends.filter(at => at.peer === to).map(at => at.address))]
      },
      watch: report => void port.watchers.push(report),
      openStream: (to, protocol) => this.#openStream(port, to, protocol),
      handle: (protocol, handler) => {
        port.handlers.set(protocol, handler)
        return Promise.resolve()
      },
      subscribe: judge => void (port.judge = judge),
      unsubscribe: () => void (port.judge = null),
      publish: data => {
        if (life.isAlive) this.publish(peer, data)
        return Promise.resolve()
      }
    }
  }

  /** Sends bytes on a new stream as if a running process had sent them. */
  forge(from: PeerId, to: PeerId, protocol: string, bytes: Uint8Array): void {
    const port = this.#ports.get(from)
    if (port === undefined) return
    this.#openStream(port, to, protocol).then(
      stream => stream.send(bytes),
      () => undefined
    )
  }

  /** A process has crashed: its host resets its connections, or is silent when it lost power. */
  detach(peer: PeerId, isSilent: boolean): void {
    this.#ports.delete(peer)
    for (const [key, connection] of [...this.#connections]) {
      const other = connection.ports.find(port => port.peer !== peer)
      if (other === undefined || !connection.ports.some(port => port.peer === peer)) continue
      this.#connections.delete(key)
      const withinMs = isSilent ? KEEP_ALIVE_MS : LATENCY_MS
      other.life.after(this.#random.between(0, withinMs), () => this.#close(connection))
    }
    for (const connection of [...this.#direct]) {
      const other = connection.ports.find(port => port.peer !== peer)
      if (other === undefined || !connection.ports.some(port => port.peer === peer)) continue
      this.#direct.delete(connection)
      this.#endAt(other, connection, this.#random.between(0, isSilent ? DIRECT_KEEP_ALIVE_MS : LATENCY_MS))
    }
  }

  /** Breaks a direct stream: one end notices at once, the other within the keep-alives. @returns false if none is open */
  breakDirectStream(): boolean {
    if (this.#direct.size === 0) return false
    const connection = this.#random.pick([...this.#direct])
    this.#direct.delete(connection)
    const [first, second] = this.#random.chance(0.5) ? connection.ports : [connection.ports[1], connection.ports[0]]
    this.#endAt(first, connection, 0)
    this.#endAt(
      second,
      connection,
      this.#random.chance(0.5) ? LATENCY_MS : this.#random.between(0, DIRECT_KEEP_ALIVE_MS)
    )
    return true
  }

  /** Cuts one direction of a link. */
  cut(from: PeerId, to: PeerId): void {
    this.#cut.add(direction(from, to))
    for (const connection of this.#between(from, to)) {
      if (!this.#direct.has(connection)) continue
      this.#schedule.after(this.#random.between(10_000, DIRECT_KEEP_ALIVE_MS), () => {
        if (!this.#cut.has(direction(from, to)) || !this.#direct.delete(connection)) return
        for (const port of connection.ports) this.#endAt(port, connection, 0)
      })
    }
    const connection = this.#connections.get(pair(from, to))
    if (connection === undefined) return
    this.#schedule.after(this.#random.between(1_000, KEEP_ALIVE_MS), () => {
      if (this.#cut.has(direction(from, to)) && this.#connections.get(pair(from, to)) === connection) {
        this.#connections.delete(pair(from, to))
        this.#close(connection)
      }
    })
  }

  heal(): void {
    this.#cut.clear()
    for (const { wires } of [...this.#connections.values(), ...this.#direct]) for (const wire of wires) wire.resume()
  }

  /** Ends all faults. */
  reset(): void {
    Object.assign(this.feed, { loss: 0, duplication: 0, delay: 0 })
    this.lateAnswers = 0
    this.lostAnswers = 0
    this.jitterMs = 1
    this.heal()
  }

  /** The next answer that a peer gets is lost. */
  loseAnswer(peer: PeerId): void {
    this.#losing.add(peer)
  }

  canReach(from: PeerId, to: PeerId): boolean {
    return !this.#cut.has(direction(from, to))
  }

  /** Gossips a message to all subscribers that the author reaches, over any number of hops. */
  publish(author: PeerId, data: Uint8Array): void {
    const { loss, duplication, delay } = this.feed
    const random = this.#random
    for (const peer of this.#reachable(author)) {
      if (peer === author) continue
      if (random.chance(loss)) {
        this.#faults.add('feed-message-lost')
        continue
      }
      const copies = random.chance(duplication) ? 2 : 1
      if (copies === 2) this.#faults.add('feed-message-duplicated')
      for (let n = 0; n < copies; n++) {
        const isLate = random.chance(delay)
        if (isLate) this.#faults.add('feed-message-late')
        this.#schedule.after(this.#latency() + random.between(0, isLate ? LATE_MS : 5), () => {
          const port = this.#ports.get(peer)
          port?.life.run(() => void port.judge?.(author, data))
        })
      }
    }
  }

  #reachable(from: PeerId): Set<PeerId> {
    const reached = new Set([from])
    for (const peer of reached) {
      for (const next of this.#ports.keys()) if (this.canReach(peer, next)) reached.add(next)
    }
    return reached
  }

  async #connect(port: Port, to: PeerId): Promise<Connection> {
    const key = pair(port.peer, to)
    const known = this.#connections.get(key)
    if (known !== undefined) return known
    await this.#roundTrip(port, to)
    const other = this.#ports.get(to)
    if (other === undefined) throw unreachable(to, 'ECONNREFUSED')
    const made: Connection = { ports: [port, other], streams: new Map(), wires: [] }
    const connection = this.#connections.get(key) ?? made
    if (this.#connections.get(key) === undefined) {
      this.#connections.set(key, connection)
      for (const watch of port.watchers) watch(to, true)
      other.life.run(() => {
        for (const watch of other.watchers) watch(port.peer, true)
      })
    }
    return connection
  }

  async #openStream(port: Port, to: PeerId, protocol: string): Promise<MeshStream> {
    const connection = isDirect(protocol) ? await this.#dialDirect(port, to) : await this.#connect(port, to)
    await this.#roundTrip(port, to)
    const [a, b] = connection.ports
    const other = port === a ? b : a
    const handler = other.handlers.get(protocol)
    if (this.#ports.get(to) !== other || !this.#isUp(connection)) {
      throw unreachable(to, 'ECONNRESET')
    }
    if (handler === undefined) {
      this.#direct.delete(connection)
      throw new VxmeshError('ERR_PEER', `${to} does not serve ${protocol}`)
    }
    const isLost = RPC.has(protocol) ? () => this.#losesAnswer(port.peer, protocol) : () => false
    const isUp = (): boolean => this.#isUp(connection)
    const wires = [this.#wire(port, other, isUp, () => false), this.#wire(other, port, isUp, isLost)] as const
    let open = 2
    const closed = (): void => {
      open -= 1
      if (open === 0) this.#direct.delete(connection)
    }
    const laterAt =
      ({ life }: Port) =>
      (run: () => void): void =>
        life.after(this.#latency(), run)
    const later = [laterAt(port), laterAt(other)] as const
    const [near, far] = MemoryStream.pair({ there: wires[0].carry, back: wires[1].carry, closed, later })
    connection.streams.set(near, port.life).set(far, other.life)
    connection.wires.push(...wires)
    other.life.run(() => handler(port.peer, far))
    return near
  }

  async #dialDirect(port: Port, to: PeerId): Promise<Connection> {
    for (let trip = 1; trip < DIRECT_ROUND_TRIPS; trip++) await this.#roundTrip(port, to)
    const other = this.#ports.get(to)
    if (other === undefined) throw unreachable(to, 'ECONNREFUSED')
    const connection: Connection = { ports: [port, other], streams: new Map(), wires: [] }
    this.#direct.add(connection)
    return connection
  }

  #isUp(connection: Connection): boolean {
    const [a, b] = connection.ports
    return this.#direct.has(connection) || this.#connections.get(pair(a.peer, b.peer)) === connection
  }

  /** All connections of two hosts. */
  *#between(a: PeerId, b: PeerId): Iterable<Connection> {
    const shared = this.#connections.get(pair(a, b))
    if (shared !== undefined) yield shared
    for (const connection of this.#direct) {
      if (connection.ports.every(({ peer }) => peer === a || peer === b)) yield connection
    }
  }

  /** One end of a direct stream's connection notices that it has ended. */
  #endAt({ life }: Port, { streams }: Connection, inMs: number): void {
    for (const [stream, of] of streams) if (of === life) life.after(inMs, () => stream.close())
  }

  #losesAnswer(peer: PeerId, protocol: string): boolean {
    const isNext = protocol === LEADER_PROTOCOL && this.#losing.delete(peer)
    if (!isNext && !this.#random.chance(this.lostAnswers)) return false
    this.#faults.add('lost-answer')
    return true
  }

  #wire(from: Port, to: Port, isUp: () => boolean, isLost: () => boolean): Wire {
    return new Wire({
      isLost,
      from: from.life,
      to: to.life,
      nowMs: () => this.#schedule.nowMs,
      isOpen: () => this.canReach(from.peer, to.peer) && isUp(),
      latencyMs: () => {
        if (!this.#random.chance(this.lateAnswers)) return this.#latency()
        this.#faults.add('late-answer')
        return this.#random.between(0, LATE_MS)
      }
    })
  }

  /** Resolves after a round trip; rejects when a link is cut. */
  #roundTrip(port: Port, to: PeerId): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.canReach(port.peer, to) && this.canReach(to, port.peer)) port.life.after(2 * this.#latency(), resolve)
      else port.life.after(DIAL_TIMEOUT_MS, () => reject(unreachable(to, 'ETIMEDOUT')))
    })
  }

  #close({ ports, streams }: Connection): void {
    for (const [stream, life] of streams) life.run(() => stream.close())
    const [a, b] = ports
    for (const [port, other] of [
      [a, b],
      [b, a]
    ] as const) {
      port.life.run(() => {
        for (const watch of port.watchers) watch(other.peer, false)
      })
    }
  }

  #latency(): number {
    return LATENCY_MS + this.#random.between(0, this.jitterMs)
  }
}

function unreachable(to: PeerId, code: string): VxmeshError {
  const cause = Object.assign(new Error(code), { code })
  return new VxmeshError('ERR_PEER', `peer ${to} cannot be reached: ${code}`, { cause })
}

function direction(from: PeerId, to: PeerId): string {
  return `${from}>${to}`
}

function pair(a: PeerId, b: PeerId): string {
  return a < b ? `${a}-${b}` : `${b}-${a}`
}
