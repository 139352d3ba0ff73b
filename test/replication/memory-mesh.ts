// The network between hosts in memory, deterministic on a manual clock: connections, streams and gossip, with delay, cuts,
// loss and duplication. When a host leaves, its connections close at once, as when a process dies. A cut only holds bytes
// back, as TCP does, until the connection times out.

import type { RunningMesh } from '#agent/machine.ts'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Clock } from '#platform/clock.ts'
import type { Random } from '#platform/random.ts'
import type { MeshStream, PeerAddress, Verdict } from '#replication/transport/mesh-port.ts'
import { MemoryStream } from './memory-stream.ts'

const DIAL_TIMEOUT_MS = 2_000
/** A connection that is cut for this long closes, as by libp2p's ping. */
const CONNECTION_TIMEOUT_MS = 10_000

export type NetworkSettings = {
  /** Every delivery takes between these, uniformly. */
  minDelayMs: number
  maxDelayMs: number
  /** Probabilities of a gossip message, per hop. */
  lost: number
  duplicated: number
}

type GossipMessage = { readonly id: number; readonly author: PeerId; readonly data: Uint8Array }

type Connection = {
  readonly ends: readonly [MemoryMesh, MemoryMesh]
  readonly streams: Set<MemoryStream>
  /** When the last delivery to an end is due: streams keep their order. */
  readonly dueMs: Map<MemoryMesh, number>
  /** Deliveries that a cut holds back, in order. */
  held: { readonly to: MemoryMesh; readonly deliver: () => void }[]
}

export class MemoryNetwork {
  readonly settings: NetworkSettings = { minDelayMs: 1, maxDelayMs: 1, lost: 0, duplicated: 0 }
  readonly #clock: Clock
  readonly #random: Random
  readonly #meshes = new Map<PeerId, MemoryMesh>()
  readonly #connections = new Map<string, Connection>()
  readonly #cuts = new Set<string>()
  readonly #places = new Map<PeerId, Ip>()
  #published = 0

  constructor(p: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = p.clock
    this.#random = p.random
  }

  /** A host starts. @param isKnown the peers that it accepts */
  join(self: PeerId, isKnown: (peer: PeerId) => boolean = () => true): MemoryMesh {
    if (this.#meshes.has(self)) throw new Error(`${self} is up already`)
    const mesh = new MemoryMesh(this, self, isKnown)
    this.#meshes.set(self, mesh)
    return mesh
  }

  /** A host dies: bytes in flight are lost, and its peers see their connections close. */
  leave(mesh: MemoryMesh): void {
    if (this.#meshes.get(mesh.self) === mesh) this.#meshes.delete(mesh.self)
    for (const connection of [...this.#connections.values()]) {
      if (connection.ends.includes(mesh)) this.#close(connection)
    }
  }

  /** Nothing passes between two hosts until `heal`. */
  cut(a: PeerId, b: PeerId): void {
    const key = keyOf(a, b)
    this.#cuts.add(key)
    const connection = this.#connections.get(key)
    if (connection === undefined) return
    this.#clock.after(CONNECTION_TIMEOUT_MS, () => {
      if (this.#cuts.has(key) && this.#connections.get(key) === connection) this.#close(connection)
    })
  }

  /** Cuts off a host from all others. */
  isolate(peer: PeerId): void {
    for (const other of this.#meshes.keys()) if (other !== peer) this.cut(peer, other)
  }

  heal(a: PeerId, b: PeerId): void {
    const key = keyOf(a, b)
    this.#cuts.delete(key)
    const connection = this.#connections.get(key)
    const held = connection?.held ?? []
    if (connection === undefined) return
    connection.held = []
    for (const { to, deliver } of held) this.#carry(connection, to, deliver)
  }

  healAll(): void {
    for (const key of [...this.#cuts]) {
      const [a = '', b = ''] = key.split(' ')
      this.heal(a as PeerId, b as PeerId)
    }
  }

  isConnected(a: PeerId, b: PeerId): boolean {
    return this.#connections.has(keyOf(a, b))
  }

  /** Sets the address that a host sends from. */
  place(peer: PeerId, address: Ip): void {
    this.#places.set(peer, address)
  }

  addressesOf(peer: PeerId): readonly Ip[] {
    const address = this.#places.get(peer)
    return address === undefined ? [] : [address]
  }

  /** @throws ERR_PEER */
  async connect(from: MemoryMesh, to: PeerId): Promise<Connection> {
    const key = keyOf(from.self, to)
    const open = this.#connections.get(key)
    if (open !== undefined) return open
    const isCut = this.#cuts.has(key)
    await this.#clock.sleep(isCut ? DIAL_TIMEOUT_MS : this.#delayMs())
    const target = this.#meshes.get(to)
    if (isCut || this.#cuts.has(key)) throw unreachable(to, 'dial timeout')
    if (target === undefined) throw unreachable(to, 'connection refused', 'ECONNREFUSED')
    if (this.#meshes.get(from.self) !== from) throw unreachable(to, 'this host is down')
    if (!from.isKnown(to) || !target.isKnown(from.self)) throw unreachable(to, 'the peer is not known')
    const opened = this.#connections.get(key)
    if (opened !== undefined) return opened
    const connection: Connection = { ends: [from, target], streams: new Set(), dueMs: new Map(), held: [] }
    this.#connections.set(key, connection)
    from.report(to, true)
    target.report(from.self, true)
    return connection
  }

  /** @throws ERR_PEER */
  async openStream(from: MemoryMesh, to: PeerId, protocol: string): Promise<MeshStream> {
    const connection = await this.connect(from, to)
    const target = other(connection, from)
    return new Promise((resolve, reject) => {
      const lost = (): void => reject(unreachable(to, 'it closed the stream'))
      const cancel = this.#clock.after(DIAL_TIMEOUT_MS, () => reject(unreachable(to, 'dial timeout')))
      const arrived = (): void => {
        const handler = target.handlerOf(protocol)
        if (handler === undefined || !target.isKnown(from.self)) {
          this.#carry(connection, from, lost)
          return
        }
        const later = (run: () => void): unknown => this.#clock.after(this.#delayMs(), run)
        const [near, far] = MemoryStream.pair({
          there: deliver => this.#carry(connection, target, deliver),
          back: deliver => this.#carry(connection, from, deliver),
          later: [later, later],
          closed: () => {
            connection.streams.delete(near)
            connection.streams.delete(far)
          }
        })
        connection.streams.add(near).add(far)
        handler(from.self, far)
        this.#carry(connection, from, () => {
          cancel()
          resolve(near)
        })
      }
      this.#carry(connection, target, arrived)
    })
  }

  publish(from: MemoryMesh, data: Uint8Array): void {
    this.gossip(from, { id: this.#published++, author: from.self, data })
  }

  /** Sends a message on from a host to the subscribers among its peers. */
  gossip(from: MemoryMesh, message: GossipMessage): void {
    for (const connection of this.#connections.values()) {
      if (!connection.ends.includes(from)) continue
      const to = other(connection, from)
      if (!to.isSubscribed || this.#random.unit() < this.settings.lost) continue
      const copies = this.#random.unit() < this.settings.duplicated ? 2 : 1
      for (let copy = 0; copy < copies; copy++) {
        // Gossip keeps no order.
        this.#clock.after(this.#delayMs(), () => {
          const isUp = this.#connections.get(keyOf(from.self, to.self)) === connection
          if (isUp && !this.#cuts.has(keyOf(from.self, to.self))) to.receive(message, copy > 0)
        })
      }
    }
  }

  #carry(connection: Connection, to: MemoryMesh, deliver: () => void): boolean {
    const [a, b] = connection.ends
    const key = keyOf(a.self, b.self)
    if (this.#connections.get(key) !== connection) return false
    if (this.#cuts.has(key)) {
      connection.held.push({ to, deliver })
      return true
    }
    const now = this.#clock.nowMs()
    const due = Math.max(now + this.#delayMs(), connection.dueMs.get(to) ?? 0)
    connection.dueMs.set(to, due)
    this.#clock.after(due - now, () => {
      if (this.#connections.get(key) !== connection) return
      if (this.#cuts.has(key)) connection.held.push({ to, deliver })
      else deliver()
    })
    return true
  }

  #close(connection: Connection): void {
    const [a, b] = connection.ends
    this.#connections.delete(keyOf(a.self, b.self))
    for (const stream of [...connection.streams]) stream.close()
    a.report(b.self, false)
    b.report(a.self, false)
  }

  #delayMs(): number {
    const { minDelayMs, maxDelayMs } = this.settings
    return minDelayMs + (maxDelayMs - minDelayMs) * this.#random.unit()
  }
}

/** One host's view of a MemoryNetwork. */
export class MemoryMesh implements RunningMesh {
  readonly self: PeerId
  readonly isKnown: (peer: PeerId) => boolean
  readonly refused = {}
  readonly #network: MemoryNetwork
  readonly #addresses = new Map<PeerId, PeerAddress>()
  readonly #handlers = new Map<string, (peer: PeerId, stream: MeshStream) => void>()
  readonly #watchers: ((peer: PeerId, connected: boolean) => void)[] = []
  readonly #seen = new Set<number>()
  #judge: ((author: PeerId, data: Uint8Array) => Verdict) | null = null

  constructor(network: MemoryNetwork, self: PeerId, isKnown: (peer: PeerId) => boolean) {
    this.#network = network
    this.self = self
    this.isKnown = isKnown
  }

  get isSubscribed(): boolean {
    return this.#judge !== null
  }

  setAddress(peer: PeerId, address: PeerAddress): void {
    this.#addresses.set(peer, address)
  }

  async connect(peer: PeerId): Promise<void> {
    if (!this.#addresses.has(peer)) throw new VxmeshError('ERR_PEER', `no address is known for peer ${peer}`)
    await this.#network.connect(this, peer)
  }

  isConnected(peer: PeerId): boolean {
    return this.#network.isConnected(this.self, peer)
  }

  addressesOf(peer: PeerId): readonly Ip[] {
    return this.isConnected(peer) ? this.#network.addressesOf(peer) : []
  }

  watch(report: (peer: PeerId, connected: boolean) => void): void {
    this.#watchers.push(report)
  }

  async openStream(peer: PeerId, protocol: string): Promise<MeshStream> {
    if (!this.isConnected(peer)) await this.connect(peer)
    return this.#network.openStream(this, peer, protocol)
  }

  handle(protocol: string, handler: (peer: PeerId, stream: MeshStream) => void): Promise<void> {
    this.#handlers.set(protocol, handler)
    return Promise.resolve()
  }

  subscribe(judge: (author: PeerId, data: Uint8Array) => Verdict): void {
    this.#judge = judge
  }

  unsubscribe(): void {
    this.#judge = null
  }

  publish(data: Uint8Array): Promise<void> {
    this.#network.publish(this, Uint8Array.from(data))
    return Promise.resolve()
  }

  /** The host dies, at once. */
  stop(): Promise<void> {
    this.#network.leave(this)
    this.#judge = null
    this.#watchers.length = 0
    this.#handlers.clear()
    return Promise.resolve()
  }

  handlerOf(protocol: string): ((peer: PeerId, stream: MeshStream) => void) | undefined {
    return this.#handlers.get(protocol)
  }

  report(peer: PeerId, connected: boolean): void {
    for (const watcher of this.#watchers) watcher(peer, connected)
  }

  /** Judges a message of gossip once, or again when the network duplicates it; forwards it when it is accepted. */
  receive(message: GossipMessage, isDuplicate: boolean): void {
    const { id } = message
    if (message.author === this.self || (this.#seen.has(id) && !isDuplicate)) return
    this.#seen.add(id)
    if (this.#judge?.(message.author, message.data) === 'accept' && !isDuplicate) this.#network.gossip(this, message)
  }
}

function other({ ends: [a, b] }: Connection, mesh: MemoryMesh): MemoryMesh {
  return mesh === a ? b : a
}

function keyOf(a: PeerId, b: PeerId): string {
  return [a, b].sort().join(' ')
}

function unreachable(peer: PeerId, why: string, code?: string): VxmeshError {
  const cause = code === undefined ? undefined : Object.assign(new Error(why), { code })
  return new VxmeshError('ERR_PEER', `peer ${peer} cannot be reached: ${why}`, { cause })
}
