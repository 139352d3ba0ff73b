// The file descriptor of a netlink socket: options, sending, receiving, notifications. netlink-socket.ts matches
// replies to requests.

import { closeSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import * as libc from './libc.ts'
import { kernelError } from './netlink-error.ts'
import { NLMSG_NOOP, NLMSG_OVERRUN, readFrames, type NetlinkFrame } from './netlink-frame.ts'

const SOL_SOCKET = 1
const SOL_NETLINK = 270
const SO_RCVBUF = 8
const SO_RCVTIMEO = 20
const SO_RCVBUFFORCE = 33
const NETLINK_ADD_MEMBERSHIP = 1
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12

/** The kernel's largest datagrams are those of dumps, at most 32 KiB. */
const RECEIVE_BYTES = 64 * 1024
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
const TIMEOUT_SECONDS = 10
const DRAIN_RECEIVES = 1000

export class NetlinkChannel {
  readonly fd: number
  readonly #receive = new Uint8Array(RECEIVE_BYTES)
  #closed = false

  private constructor(fd: number) {
    this.fd = fd
  }

  /** Opens a socket in the thread's namespace. @throws ERR_KERNEL */
  static open(groups: readonly number[], protocol: number): NetlinkChannel {
    const opened = libc.socket(libc.AF_NETLINK, libc.SOCK_RAW_CLOEXEC, protocol)
    if (opened.value < 0) throw kernelError('cannot open a netlink socket', opened.errno)
    const fd = opened.value
    try {
      configure(fd, groups)
      return new NetlinkChannel(fd)
    } catch (err) {
      closeSync(fd)
      throw err
    }
  }

  get isClosed(): boolean {
    return this.#closed
  }

  get portId(): number {
    const address = new Uint8Array(12)
    libc.getsockname(this.fd, address)
    return new DataView(address.buffer).getUint32(4, true)
  }

  send(data: Uint8Array, doing: string): void {
    for (;;) {
      const { value, errno } = libc.send(this.fd, data)
      if (value >= 0) return
      if (libc.errnoName(errno) !== 'EINTR') throw kernelError(doing, errno)
    }
  }

  /** Sends on a thread of the pool. The data must not change until then. */
  async sendAsync(data: Uint8Array, doing: string): Promise<void> {
    const { value, errno } = await libc.sendAsync(this.fd, data)
    if (value < 0 && !this.#closed) throw kernelError(doing, errno)
  }

  /** Waits for one datagram. Payloads are valid until the next receive. @throws ERR_TIMEOUT, ERR_KERNEL */
  receive(doing: string): readonly NetlinkFrame[] {
    for (;;) {
      const { value, errno } = libc.recv(this.fd, this.#receive)
      if (value >= 0) return this.#frames(value, doing)
      const name = libc.errnoName(errno)
      if (name === 'EAGAIN') {
        throw new VxmeshError('ERR_TIMEOUT', `${doing}: the kernel has not replied for ${TIMEOUT_SECONDS} s`)
      }
      if (name !== 'EINTR') throw kernelError(doing, errno)
    }
  }

  /**
   * Reads the pending notifications without blocking.
   * @returns false when the kernel dropped some, so that the caller must look at everything again
   */
  drain(visit: (frame: NetlinkFrame) => void): boolean {
    let complete = true
    // Bounded, so that an event storm cannot block the event loop.
    for (let i = 0; i < DRAIN_RECEIVES && !this.#closed; i++) {
      const { value, errno } = libc.recv(this.fd, this.#receive, libc.MSG_DONTWAIT)
      if (value >= 0) this.#frames(value, 'read notifications').forEach(visit)
      else if (libc.errnoName(errno) === 'ENOBUFS') complete = false
      else return complete
    }
    return complete
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.fd)
  }

  #frames(length: number, doing: string): readonly NetlinkFrame[] {
    try {
      const frames = readFrames(this.#receive.subarray(0, length))
      if (frames.some(frame => frame.type === NLMSG_OVERRUN)) throw new RangeError('netlink data was lost')
      return frames.filter(frame => frame.type !== NLMSG_NOOP)
    } catch (err) {
      throw new VxmeshError('ERR_KERNEL', `${doing}: the kernel's reply cannot be read`, { cause: err })
    }
  }
}

function configure(fd: number, groups: readonly number[]): void {
  const option = (level: number, name: number, value: number): number =>
    libc.setsockopt({ fd, level, name, value: new Uint8Array(new Int32Array([value]).buffer) }).errno
  // Without CAP_NET_ADMIN the kernel limits the buffer to rmem_max, which is smaller but works.
  if (option(SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES) !== 0) option(SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES)
  for (const name of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) option(SOL_NETLINK, name, 1)
  const timeout = new Uint8Array(new BigInt64Array([BigInt(TIMEOUT_SECONDS), 0n]).buffer)
  libc.setsockopt({ fd, level: SOL_SOCKET, name: SO_RCVTIMEO, value: timeout })
  // sockaddr_nl: family 16, port 0 (the kernel chooses one), no legacy groups.
  const bound = libc.bind(fd, new Uint8Array([libc.AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
  if (bound.errno !== 0) throw kernelError('cannot bind a netlink socket', bound.errno)
  for (const group of groups) {
    const errno = option(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    if (errno !== 0) throw kernelError(`cannot join netlink group ${group}`, errno)
  }
}
