// The sockets of one network's resolver, on port 53 of the gateway addresses, inside the router's namespace. They are opened there in one
// synchronous step; Node adopts the descriptors and serves them from then on.

import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server, type Socket as TcpSocket } from 'node:net'
import { isIpv4, type Ip } from '#model/ip.ts'
import type { Clock } from '#platform/clock.ts'
import { openBound } from '#platform/bound-socket.ts'
import { framed } from './exchange.ts'
import { CONNECTIONS, InFlight, QueryRate } from './limits.ts'
import type { Resolver } from './resolver.ts'

export const DNS_PORT = 53

/** Answers that wait to be sent by a socket; more are dropped, and their clients ask again. */
const UNSENT_MAX = 256
/** Of a connection. */
const IDLE_MS = 10_000
/** Longer than any query. */
const FRAME_BYTES = 2_048

export type ListenerOptions = {
  /** Path of the router's namespace. */
  readonly netns: string
  readonly addresses: readonly Ip[]
  readonly resolver: Pick<Resolver, 'handle'>
  /** Queries that a container may send in a second. */
  readonly queryRate: number
  /** Of all networks. */
  readonly connections: { count: number }
  readonly clock: Clock
}

export class Listener {
  readonly #options: ListenerOptions
  readonly #inFlight: InFlight
  readonly #udp: UdpSocket[] = []
  readonly #tcp: Server[] = []
  readonly #connected = new Set<TcpSocket>()

  /** @throws ERR_NETNS, ERR_KERNEL */
  constructor(options: ListenerOptions) {
    this.#options = options
    this.#inFlight = new InFlight(CONNECTIONS, options.connections)
    const { netns, addresses } = options
    try {
      for (const address of addresses) {
        this.#udp.push(this.#serveUdp(openBound(netns, { protocol: 'udp', address, port: DNS_PORT }), address))
        this.#tcp.push(this.#serveTcp(openBound(netns, { protocol: 'tcp', address, port: DNS_PORT })))
      }
    } catch (err) {
      this.close()
      throw err
    }
  }

  close(): void {
    // Emptied, because an answer that is still to come must not be sent by a socket that is closed.
    for (const socket of this.#udp.splice(0)) socket.close()
    for (const server of this.#tcp.splice(0)) server.close()
    for (const socket of this.#connected) socket.destroy()
  }

  #serveUdp(fd: number, address: Ip): UdpSocket {
    const family = isIpv4(address) ? 4 : 6
    // Answers go to addresses, never to names.
    const socket = createSocket({
      type: family === 4 ? 'udp4' : 'udp6',
      lookup: (host, _options, found) => found(null, host, family)
    })
    socket.on('error', () => undefined)
    socket.on('message', (message, from) => this.#answer(socket, message, from))
    socket.bind({ fd, exclusive: true })
    return socket
  }

  #answer(socket: UdpSocket, message: Buffer, from: RemoteInfo): void {
    const answer = this.#options.resolver.handle(message, from.address, 'udp')
    if (answer instanceof Promise) void answer.then(bytes => this.#send(socket, bytes, from))
    else if (answer !== null) this.#send(socket, answer, from)
  }

  #send(socket: UdpSocket, answer: Buffer, { address, port }: RemoteInfo): void {
    if (!this.#udp.includes(socket) || port === 0 || socket.getSendQueueCount() > UNSENT_MAX) return
    socket.send(answer, port, address, () => undefined)
  }

  #serveTcp(fd: number): Server {
    const server = createServer({ noDelay: true, allowHalfOpen: true }, socket => this.#accept(socket))
    server.on('error', () => undefined)
    server.listen({ fd, exclusive: true })
    return server
  }

  #accept(socket: TcpSocket): void {
    socket.on('error', () => undefined)
    const from = socket.remoteAddress
    const leave = from === undefined ? null : this.#inFlight.enter(from)
    if (from === undefined || leave === null) {
      socket.destroy()
      return
    }
    this.#connected.add(socket)
    socket.setTimeout(IDLE_MS, () => socket.destroy())
    socket.on('close', () => {
      this.#connected.delete(socket)
      leave()
    })
    void this.#converse(socket, from)
  }

  /** Answers one query after the other, and reads no further before its answer is taken. */
  async #converse(socket: TcpSocket, from: string): Promise<void> {
    const { resolver, queryRate, clock } = this.#options
    const rate = new QueryRate(Math.max(1, queryRate / CONNECTIONS.container), clock.nowMs())
    let received = Buffer.alloc(0)
    try {
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        received = Buffer.concat([received, chunk])
        for (;;) {
          const length = received.length < 2 ? Infinity : received.readUInt16BE(0)
          if (length !== Infinity && length > FRAME_BYTES) return void socket.destroy()
          if (received.length < 2 + length) break
          for (let waitMs = rate.take(clock.nowMs()); waitMs > 0; waitMs = rate.take(clock.nowMs()))
            await clock.sleep(waitMs)
          const answer = await resolver.handle(received.subarray(2, 2 + length), from, 'tcp')
          received = received.subarray(2 + length)
          if (answer === null) return void socket.destroy()
          if (!socket.write(framed(answer))) await drained(socket)
        }
      }
      socket.end()
    } catch {
      // The client has reset the connection.
      socket.destroy()
    }
  }
}

/** Resolves when the client has taken what was written, or is gone. */
function drained(socket: TcpSocket): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      socket.off('drain', done)
      socket.off('close', done)
      resolve()
    }
    socket.on('drain', done)
    socket.on('close', done)
  })
}
