// Packet sockets (packet(7)) in a namespace: send arbitrary frames, and count what arrives before the receiver's own filters
// see it. Not our data plane's code.

import { closeSync } from 'node:fs'
import type { Family } from '#model/ip.ts'
import * as libc from '#platform/libc.ts'
import { inNetns } from '#platform/netns.ts'
import { markOf } from './frames.ts'

const AF_INET = 2
const AF_INET6 = 10
const AF_PACKET = 17
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000
/** ETH_P_ALL in network order. */
const ALL_PROTOCOLS = 0x0300
const ENOBUFS = 105
const SOL_PACKET = 263
const PACKET_IGNORE_OUTGOING = 23
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33
const [IPPROTO_IPV6, IPV6_V6ONLY] = [41, 26]
const RECEIVE_BUFFER_BYTES = 64 * 1024 * 1024

class RawSocket {
  protected readonly fd: number

  constructor(netns: string, open: () => libc.CallResult, address: Uint8Array) {
    this.fd = inNetns(netns, () => succeed('socket', open()))
    succeed('bind', libc.bind(this.fd, address))
  }

  close(): void {
    closeSync(this.fd)
  }
}

const packetSocket = (): libc.CallResult => libc.socket(AF_PACKET, libc.SOCK_RAW_CLOEXEC, ALL_PROTOCOLS)

export class Sender extends RawSocket {
  constructor(netns: string, ifindex: number) {
    super(netns, packetSocket, linkAddress(ifindex))
  }

  /** Sends a frame, which the device may drop: one that is larger than its other end takes, for example. */
  send(frame: Uint8Array): void {
    const result = libc.send(this.fd, frame)
    if (result.value < 0 && result.errno === ENOBUFS) return
    succeed('send', result)
  }
}

/** Counts frames by their mark; passes the others on if asked to. */
export class Listener extends RawSocket {
  readonly #buffer = Buffer.alloc(65_536)
  readonly #counts = new Map<number, number>()

  /** Listens for frames that arrive at a device; frames that the namespace itself sends do not count. */
  static frames(netns: string, ifindex: number): Listener {
    return new Listener(netns, packetSocket, linkAddress(ifindex))
  }

  /** Listens for datagrams to a UDP port of any address of the namespace, after its IP stack accepted them. */
  static datagrams(netns: string, port: number, family: Family = 'ipv4'): Listener {
    const [number, bytes] = family === 'ipv4' ? [AF_INET, 16] : [AF_INET6, 28]
    const address = Buffer.alloc(bytes)
    address.writeUInt16LE(number, 0)
    address.writeUInt16BE(port, 2)
    return new Listener(netns, () => openDatagrams(number), address)
  }

  private constructor(netns: string, open: () => libc.CallResult, address: Uint8Array) {
    super(netns, open, address)
    const one = new Uint8Array(new Int32Array([1]).buffer)
    const size = new Uint8Array(new Int32Array([RECEIVE_BUFFER_BYTES]).buffer)
    libc.setsockopt({ fd: this.fd, level: SOL_PACKET, name: PACKET_IGNORE_OUTGOING, value: one })
    succeed('buffer', libc.setsockopt({ fd: this.fd, level: SOL_SOCKET, name: SO_RCVBUFFORCE, value: size }))
  }

  /** How many frames with this mark have arrived. */
  count(mark: number): number {
    this.drain()
    return this.#counts.get(mark) ?? 0
  }

  drain(visit: (frame: Buffer) => void = () => undefined): void {
    for (;;) {
      const { value } = libc.recv(this.fd, this.#buffer, libc.MSG_DONTWAIT)
      if (value < 0) return
      const frame = this.#buffer.subarray(0, value)
      const mark = markOf(frame)
      if (mark !== null) this.#counts.set(mark, (this.#counts.get(mark) ?? 0) + 1)
      visit(frame)
    }
  }
}

/** Of one family alone: another socket may have the same port in the other one. */
function openDatagrams(family: number): libc.CallResult {
  const opened = libc.socket(family, SOCK_DGRAM_CLOEXEC, 0)
  const value = new Uint8Array(new Int32Array([1]).buffer)
  if (family === AF_INET6 && opened.value >= 0)
    succeed('family', libc.setsockopt({ fd: opened.value, level: IPPROTO_IPV6, name: IPV6_V6ONLY, value }))
  return opened
}

/** struct sockaddr_ll. */
function linkAddress(ifindex: number): Uint8Array {
  const address = Buffer.alloc(20)
  address.writeUInt16LE(AF_PACKET, 0)
  address.writeUInt16LE(ALL_PROTOCOLS, 2)
  address.writeInt32LE(ifindex, 4)
  return address
}

function succeed(what: string, { value, errno }: libc.CallResult): number {
  if (value < 0) throw new Error(`${what}: ${libc.errnoText(errno)}`)
  return value
}
