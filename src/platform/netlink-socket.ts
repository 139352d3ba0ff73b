// A netlink socket (NETLINK_ROUTE by default) in one network namespace: requests, batches, transactions, dumps and
// notifications. Synchronous, because the kernel replies within microseconds and a thread hop would cost more. Slow
// requests use `requestAsync`.

import { closeSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import * as libc from './libc.ts'
import {
  align4,
  HEADER_BYTES,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
  readFrames,
  readStatus,
  writeFrame,
  type NetlinkFrame,
  type NetlinkRequest
} from './netlink-frame.ts'
import { inNetns, inScratchNetns } from './netns.ts'

export type { NetlinkFrame, NetlinkRequest } from './netlink-frame.ts'

/** Why the kernel refused a message. */
export type NetlinkRefusal = { readonly errno: string; readonly message: string }

const NETLINK_ROUTE = 0
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
const SEND_BYTES = 64 * 1024
/** Messages per send: more bring no gain, and the event loop is blocked for at most about 2 ms. */
const BATCH_MESSAGES = 200
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
const TIMEOUT_SECONDS = 10
const DUMP_ATTEMPTS = 10
const DRAIN_RECEIVES = 1000

export class NetlinkSocket {
  readonly #fd: number
  readonly #receive = new Uint8Array(RECEIVE_BYTES)
  readonly #send = new Uint8Array(SEND_BYTES)
  /** The replies to requests that a thread is sending, by sequence number; null until a receive has returned the reply. */
  readonly #asyncReplies = new Map<number, ReturnType<typeof readStatus> | null>()
  #seq = 1
  #closed = false

  private constructor(fd: number) {
    this.#fd = fd
  }

  /** Opens a socket in the namespace at a path (null: the process's own). @throws ERR_NETNS, ERR_KERNEL */
  static open(netns: string | null, groups: readonly number[] = [], protocol = NETLINK_ROUTE): NetlinkSocket {
    const create = (): NetlinkSocket => NetlinkSocket.#create(groups, protocol)
    return netns === null ? create() : inNetns(netns, create)
  }

  /** Opens a socket in a new namespace, which exists as long as the socket. @throws ERR_NETNS, ERR_KERNEL */
  static openScratch(): NetlinkSocket {
    return inScratchNetns(() => NetlinkSocket.#create([], NETLINK_ROUTE))
  }

  static #create(groups: readonly number[], protocol: number): NetlinkSocket {
    const opened = libc.socket(libc.AF_NETLINK, libc.SOCK_RAW_CLOEXEC, protocol)
    if (opened.value < 0) throw kernelError('cannot open a netlink socket', opened.errno)
    const fd = opened.value
    try {
      const option = (level: number, name: number, value: number): number =>
        libc.setsockopt({ fd, level, name, value: new Uint8Array(new Int32Array([value]).buffer) }).errno
      // Without CAP_NET_ADMIN the kernel limits the buffer to rmem_max, which is smaller but works.
      if (option(SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES) !== 0)
        option(SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES)
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
      return new NetlinkSocket(fd)
    } catch (err) {
      closeSync(fd)
      throw err
    }
  }

  /** For ioctl(2), which acts on the socket's namespace, too. */
  get fd(): number {
    return this.#fd
  }

  /** The socket's netlink port id; notifications of its own changes carry it. */
  get portId(): number {
    const address = new Uint8Array(12)
    libc.getsockname(this.#fd, address)
    return new DataView(address.buffer).getUint32(4, true)
  }

  /** Sends one request. @returns the kernel's messages before the ack @throws ERR_KERNEL with `context.errno` */
  request(request: NetlinkRequest, doing: string): readonly Uint8Array[] {
    const seq = this.#nextSeq()
    this.#transmit(this.#frame([request], seq, NLM_F_ACK), doing)
    const replies: Uint8Array[] = []
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        if (frame.seq !== seq) continue
        if (frame.type !== NLMSG_ERROR) {
          replies.push(frame.payload.slice())
          continue
        }
        const { errno, text } = readStatus(frame)
        if (errno === 0) return replies
        throw kernelError(doing, errno, text)
      }
    }
  }

  /** As `request`, but sent on a thread of the pool: for deletions, which wait for RCU grace periods. */
  async requestAsync(request: NetlinkRequest, doing: string): Promise<void> {
    const seq = this.#nextSeq()
    this.#asyncReplies.set(seq, null)
    try {
      // A copy, since the shared buffer may change while the thread sends.
      const sent = await libc.sendAsync(this.#fd, this.#frame([request], seq, NLM_F_ACK).slice())
      if (this.#closed) return
      if (sent.value < 0) throw kernelError(doing, sent.errno)
      // The kernel replied before send returned, so this does not block.
      for (;;) {
        const status = this.#asyncReplies.get(seq) ?? null
        if (status === null) this.#receiveFrames(doing)
        else if (status.errno === 0) return
        else throw kernelError(doing, status.errno, status.text)
      }
    } finally {
      this.#asyncReplies.delete(seq)
    }
  }

  /**
   * Sends many changes, 200 per system call. All are attempted, in order. The kernel always reports a failure, so only the
   * last message of a send requests an ack.
   * @returns for each request why it was refused, or null for success
   * @throws ERR_KERNEL when a reply was lost
   */
  batch(requests: readonly NetlinkRequest[], doing: string): readonly (NetlinkRefusal | null)[] {
    const refusals: (NetlinkRefusal | null)[] = []
    let start = 0
    while (start < requests.length) {
      const end = this.#batchEnd(requests, start)
      this.#runBatch(requests.slice(start, end), refusals, doing)
      start = end
    }
    return refusals
  }

  /**
   * Sends one nfnetlink transaction of at most 64 KiB: begin, changes, end. It is applied as a whole or not at all.
   * @returns the first refusal, or null for success
   * @throws ERR_KERNEL when it cannot be sent
   */
  transaction(requests: readonly NetlinkRequest[], doing: string): NetlinkRefusal | null {
    const first = this.#seq
    this.#seq = (first + requests.length) >>> 0
    // The last change is always acknowledged, unless the begin message is refused: then the rest is ignored.
    const last = requests.length - 2
    this.#transmit(this.#frame(requests, first, NLM_F_ACK, last), doing)
    let refused: NetlinkRefusal | null = null
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        const index = (frame.seq - first) >>> 0
        if (frame.type !== NLMSG_ERROR || index >= requests.length) continue
        const { errno, text } = readStatus(frame)
        if (errno !== 0) refused ??= refusal(errno, text)
        if (index === last || index === 0) return refused
      }
    }
  }

  /**
   * Reads a whole table; `decode` returns undefined for messages to skip. A dump that is interrupted by changes is
   * repeated. @throws ERR_KERNEL
   */
  dump<T>(request: NetlinkRequest, decode: (type: number, payload: Uint8Array) => T | undefined, doing: string): T[] {
    for (let attempt = 1; attempt <= DUMP_ATTEMPTS; attempt++) {
      const found = this.#dumpOnce(request, decode, doing)
      if (found !== null) return found
    }
    throw new VxmeshError('ERR_KERNEL', `${doing}: interrupted by changes ${DUMP_ATTEMPTS} times`, {
      context: { errno: 'EINTR' }
    })
  }

  /**
   * Reads the pending notifications without blocking.
   * @returns false when the kernel dropped some, so that the caller must look at everything again
   */
  drain(visit: (frame: NetlinkFrame) => void): boolean {
    let complete = true
    // Bounded, so that an event storm cannot block the event loop.
    for (let i = 0; i < DRAIN_RECEIVES && !this.#closed; i++) {
      const { value, errno } = libc.recv(this.#fd, this.#receive, libc.MSG_DONTWAIT)
      if (value >= 0) this.#frames(value, 'read notifications').forEach(visit)
      else if (libc.errnoName(errno) === 'ENOBUFS') complete = false
      else return complete
    }
    return complete
  }

  /** Calls `listener` when notifications are pending; read them with `drain`. @returns a function that stops it; call it before `close` */
  watch(listener: () => void): () => void {
    return libc.watchReadable(this.#fd, listener)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#fd)
  }

  #nextSeq(): number {
    const seq = this.#seq
    this.#seq = (this.#seq + 1) >>> 0
    return seq
  }

  #batchEnd(requests: readonly NetlinkRequest[], start: number): number {
    let bytes = 0
    let end = start
    for (; end < requests.length && end - start < BATCH_MESSAGES; end++) {
      bytes += align4(HEADER_BYTES + (requests[end]?.body.length ?? 0))
      if (bytes > SEND_BYTES && end > start) break
    }
    return end
  }

  /** Encodes messages into the send buffer; `extra` flags are set on the message at `at`, by default the last. */
  #frame(requests: readonly NetlinkRequest[], firstSeq: number, extra: number, at = requests.length - 1): Uint8Array {
    let offset = 0
    requests.forEach((request, i) => {
      const ack = i === at ? extra : 0
      const flags = request.flags | NLM_F_REQUEST | ack
      offset = writeFrame({ into: this.#send, offset, request, flags, seq: (firstSeq + i) >>> 0 })
    })
    return this.#send.subarray(0, offset)
  }

  #runBatch(requests: readonly NetlinkRequest[], refusals: (NetlinkRefusal | null)[], doing: string): void {
    const base = refusals.length
    const first = this.#seq
    this.#seq = (first + requests.length) >>> 0
    refusals.push(...requests.map(() => null))
    this.#transmit(this.#frame(requests, first, NLM_F_ACK), doing)
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        const index = (frame.seq - first) >>> 0
        if (frame.type !== NLMSG_ERROR || index >= requests.length) continue
        const { errno, text } = readStatus(frame)
        if (errno !== 0) refusals[base + index] = refusal(errno, text)
        if (index === requests.length - 1) return
      }
    }
  }

  #dumpOnce<T>(
    request: NetlinkRequest,
    decode: (type: number, payload: Uint8Array) => T | undefined,
    doing: string
  ): T[] | null {
    const seq = this.#nextSeq()
    this.#transmit(this.#frame([{ ...request, flags: request.flags | NLM_F_DUMP }], seq, 0), doing)
    const found: T[] = []
    let interrupted = false
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        if (frame.seq !== seq) continue
        if ((frame.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true
        if (frame.type === NLMSG_DONE || frame.type === NLMSG_ERROR) {
          const { errno, text } = readStatus(frame)
          if (errno !== 0) throw kernelError(doing, errno, text)
          return interrupted ? null : found
        }
        if (interrupted) continue
        const value = decode(frame.type, frame.payload)
        if (value !== undefined) found.push(value)
      }
    }
  }

  #transmit(data: Uint8Array, doing: string): void {
    for (;;) {
      const { value, errno } = libc.send(this.#fd, data)
      if (value >= 0) return
      if (libc.errnoName(errno) !== 'EINTR') throw kernelError(doing, errno)
    }
  }

  #receiveFrames(doing: string): readonly NetlinkFrame[] {
    for (;;) {
      const { value, errno } = libc.recv(this.#fd, this.#receive)
      if (value >= 0) return this.#keepAsyncReplies(this.#frames(value, doing))
      const name = libc.errnoName(errno)
      if (name === 'EAGAIN') {
        throw new VxmeshError('ERR_TIMEOUT', `${doing}: the kernel has not replied for ${TIMEOUT_SECONDS} s`)
      }
      if (name !== 'EINTR') throw kernelError(doing, errno)
    }
  }

  /** A receive may return replies to requests of worker threads; keeps them for those. */
  #keepAsyncReplies(frames: readonly NetlinkFrame[]): readonly NetlinkFrame[] {
    for (const frame of frames) {
      if (frame.type === NLMSG_ERROR && this.#asyncReplies.has(frame.seq))
        this.#asyncReplies.set(frame.seq, readStatus(frame))
    }
    return frames
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

/** The errno name, such as `EEXIST`, of an ERR_KERNEL error; null for any other error. */
export function errnoOf(err: unknown): string | null {
  const errno = err instanceof VxmeshError ? err.context['errno'] : undefined
  return typeof errno === 'string' ? errno : null
}

/** The error for a refused message. */
export function refusalError(doing: string, refused: NetlinkRefusal): VxmeshError {
  return new VxmeshError('ERR_KERNEL', `${doing}: ${refused.message}`, { context: { errno: refused.errno } })
}

/** The error for a refused system call or request. */
export function kernelError(doing: string, errno: number, text = ''): VxmeshError {
  return refusalError(doing, refusal(errno, text))
}

function refusal(errno: number, text: string): NetlinkRefusal {
  const name = libc.errnoName(errno)
  const description = `${libc.errnoText(errno)} (${name})`
  return { errno: name, message: text === '' ? description : `${text}: ${description}` }
}
