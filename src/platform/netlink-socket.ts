// A netlink socket (NETLINK_ROUTE unless told otherwise) of one network namespace: requests with their answers, batches,
// dumps. Synchronous: the kernel answers within microseconds, and a thread hop would cost more. What takes it long goes
// by `requestAsync`.

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
  readVerdict,
  writeFrame,
  type NetlinkFrame,
  type NetlinkRequest
} from './netlink-frame.ts'
import { inNetns, inScratchNetns } from './netns.ts'

export type { NetlinkFrame, NetlinkRequest } from './netlink-frame.ts'

/** How the kernel answered one message of a batch: null is success. */
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

/** The kernel fills at most 32 KiB a datagram of a dump; acks and events are far smaller. */
const RECEIVE_BYTES = 64 * 1024
const SEND_BYTES = 64 * 1024
/** Messages a send: more of them gain nothing, and the event loop is held no longer than some 2 ms. */
const BATCH_MESSAGES = 200
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
const TIMEOUT_SECONDS = 10
/** linux/ethtool.h: does the device finish the checksums of what it sends? */
const [ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM] = [0x16, 0x17] as const
const DUMP_ATTEMPTS = 10
const DRAIN_RECEIVES = 1000

export class NetlinkSocket {
  readonly #fd: number
  readonly #receive = new Uint8Array(RECEIVE_BYTES)
  readonly #send = new Uint8Array(SEND_BYTES)
  /** Of requests that a thread is sending: how the kernel has answered, once anybody here has read it. */
  readonly #awaited = new Map<number, ReturnType<typeof readVerdict> | null>()
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

  /** Opens a socket in a new namespace that ends with it. @throws ERR_NETNS, ERR_KERNEL */
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
      // Without CAP_NET_ADMIN the kernel caps the buffer at rmem_max: smaller, yet it works.
      if (option(SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES) !== 0)
        option(SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES)
      for (const name of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) option(SOL_NETLINK, name, 1)
      const timeout = new Uint8Array(new BigInt64Array([BigInt(TIMEOUT_SECONDS), 0n]).buffer)
      libc.setsockopt({ fd, level: SOL_SOCKET, name: SO_RCVTIMEO, value: timeout })
      // sockaddr_nl: family 16, port 0 = the kernel chooses, no legacy groups.
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

  /** The socket's netlink port id, which notifications of its own changes carry. */
  get portId(): number {
    const address = new Uint8Array(12)
    libc.getsockname(this.#fd, address)
    return new DataView(address.buffer).getUint32(4, true)
  }

  /** Sends one request and returns what the kernel answered with before its ack. @throws ERR_KERNEL with `context.errno` */
  request(request: NetlinkRequest, doing: string): readonly Uint8Array[] {
    const seq = this.#nextSeq()
    this.#transmit(this.#frame([request], seq, NLM_F_ACK), doing)
    const answers: Uint8Array[] = []
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        if (frame.seq !== seq) continue
        if (frame.type !== NLMSG_ERROR) {
          answers.push(frame.payload.slice())
          continue
        }
        const { errno, text } = readVerdict(frame)
        if (errno === 0) return answers
        throw kernelError(doing, errno, text)
      }
    }
  }

  /** As `request`, but the kernel works on a thread of the pool: for deletions, which wait for grace periods. */
  async requestAsync(request: NetlinkRequest, doing: string): Promise<void> {
    const seq = this.#nextSeq()
    this.#awaited.set(seq, null)
    try {
      // A copy: the shared buffer must not change under the thread.
      const sent = await libc.sendAsync(this.#fd, this.#frame([request], seq, NLM_F_ACK).slice())
      if (this.#closed) return
      if (sent.value < 0) throw kernelError(doing, sent.errno)
      // The kernel has answered before send returned: this does not block.
      for (;;) {
        const verdict = this.#awaited.get(seq) ?? null
        if (verdict === null) this.#receiveFrames(doing)
        else if (verdict.errno === 0) return
        else throw kernelError(doing, verdict.errno, verdict.text)
      }
    } finally {
      this.#awaited.delete(seq)
    }
  }

  /**
   * Sends many changes, 200 a system call, and gives each one's fate at its index. All are tried. The kernel works them
   * off in order and always answers a failure, so only the last of a send need ask for an ack.
   * @throws ERR_KERNEL when an answer was lost
   */
  batch(requests: readonly NetlinkRequest[], doing: string): readonly (NetlinkRefusal | null)[] {
    const fates: (NetlinkRefusal | null)[] = []
    let start = 0
    while (start < requests.length) {
      const end = this.#batchEnd(requests, start)
      this.#runBatch(requests.slice(start, end), fates, doing)
      start = end
    }
    return fates
  }

  /**
   * Sends one nfnetlink transaction, at most 64 KiB: its begin, the changes, its end. All happen or none; gives the first
   * refusal, or null. @throws ERR_KERNEL when it cannot be sent
   */
  transaction(requests: readonly NetlinkRequest[], doing: string): NetlinkRefusal | null {
    const first = this.#seq
    this.#seq = (first + requests.length) >>> 0
    // The last change is always answered, but for a begin that is refused: then nothing else is looked at.
    const last = requests.length - 2
    this.#transmit(this.#frame(requests, first, NLM_F_ACK, last), doing)
    let refused: NetlinkRefusal | null = null
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        const index = (frame.seq - first) >>> 0
        if (frame.type !== NLMSG_ERROR || index >= requests.length) continue
        const { errno, text } = readVerdict(frame)
        if (errno !== 0) refused ??= refusal(errno, text)
        if (index === last || index === 0) return refused
      }
    }
  }

  /**
   * Reads a whole table; `decode` gives undefined for what does not matter. A dump that changes interrupted is read
   * again. @throws ERR_KERNEL
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
   * Reads the notifications that wait, never blocking. False when some were lost: something changed, and nobody knows
   * what.
   */
  drain(visit: (frame: NetlinkFrame) => void): boolean {
    let complete = true
    // Bounded: a storm of events must not hold the event loop.
    for (let i = 0; i < DRAIN_RECEIVES && !this.#closed; i++) {
      const { value, errno } = libc.recv(this.#fd, this.#receive, libc.MSG_DONTWAIT)
      if (value >= 0) this.#frames(value, 'read notifications').forEach(visit)
      else if (libc.errnoName(errno) === 'ENOBUFS') complete = false
      else return complete
    }
    return complete
  }

  /** Calls back when notifications wait: read them with `drain`. Returns how to stop; stop before closing. */
  watch(listener: () => void): () => void {
    return libc.watchReadable(this.#fd, listener)
  }

  /**
   * Makes the kernel finish the checksums of what is sent by a device of this namespace, and so cut it to packets as well:
   * for what is passed on by somebody who does neither. @throws ERR_KERNEL
   */
  finishChecksums(device: string): void {
    const { errno } = libc.ethtoolValue(this.#fd, device, { command: ETHTOOL_STXCSUM, value: 0 })
    if (errno !== 0) throw kernelError(`finish checksums on ${device}`, errno)
  }

  /** See finishChecksums. @throws ERR_KERNEL */
  finishesChecksums(device: string): boolean {
    const { errno, value } = libc.ethtoolValue(this.#fd, device, { command: ETHTOOL_GTXCSUM, value: 0 })
    if (errno !== 0) throw kernelError(`read the checksums of ${device}`, errno)
    return value === 0
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

  /** `extra` flags go on one of the messages: the last one by default. */
  #frame(requests: readonly NetlinkRequest[], firstSeq: number, extra: number, at = requests.length - 1): Uint8Array {
    let offset = 0
    requests.forEach((request, i) => {
      const ack = i === at ? extra : 0
      const flags = request.flags | NLM_F_REQUEST | ack
      offset = writeFrame({ into: this.#send, offset, request, flags, seq: (firstSeq + i) >>> 0 })
    })
    return this.#send.subarray(0, offset)
  }

  #runBatch(requests: readonly NetlinkRequest[], fates: (NetlinkRefusal | null)[], doing: string): void {
    const base = fates.length
    const first = this.#seq
    this.#seq = (first + requests.length) >>> 0
    fates.push(...requests.map(() => null))
    this.#transmit(this.#frame(requests, first, NLM_F_ACK), doing)
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        const index = (frame.seq - first) >>> 0
        if (frame.type !== NLMSG_ERROR || index >= requests.length) continue
        const { errno, text } = readVerdict(frame)
        if (errno !== 0) fates[base + index] = refusal(errno, text)
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
          const { errno, text } = readVerdict(frame)
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
      if (value >= 0) return this.#setAside(this.#frames(value, doing))
      const name = libc.errnoName(errno)
      if (name === 'EAGAIN') {
        throw new VxmeshError('ERR_TIMEOUT', `${doing}: the kernel has not answered for ${TIMEOUT_SECONDS} s`)
      }
      if (name !== 'EINTR') throw kernelError(doing, errno)
    }
  }

  /** Whoever reads meets answers to what threads have sent meanwhile; read once, they are there no more. */
  #setAside(frames: readonly NetlinkFrame[]): readonly NetlinkFrame[] {
    for (const frame of frames) {
      if (frame.type === NLMSG_ERROR && this.#awaited.has(frame.seq)) this.#awaited.set(frame.seq, readVerdict(frame))
    }
    return frames
  }

  #frames(length: number, doing: string): readonly NetlinkFrame[] {
    try {
      const frames = readFrames(this.#receive.subarray(0, length))
      if (frames.some(frame => frame.type === NLMSG_OVERRUN)) throw new RangeError('netlink data was lost')
      return frames.filter(frame => frame.type !== NLMSG_NOOP)
    } catch (err) {
      throw new VxmeshError('ERR_KERNEL', `${doing}: the kernel's answer cannot be read`, { cause: err })
    }
  }
}

/** The errno's name in an error of this room (`EEXIST`), or null for any other error. */
export function errnoOf(err: unknown): string | null {
  const errno = err instanceof VxmeshError ? err.context['errno'] : undefined
  return typeof errno === 'string' ? errno : null
}

/** The error for a refused message of a batch. */
export function refusalError(doing: string, refused: NetlinkRefusal): VxmeshError {
  return new VxmeshError('ERR_KERNEL', `${doing}: ${refused.message}`, { context: { errno: refused.errno } })
}

function kernelError(doing: string, errno: number, text = ''): VxmeshError {
  return refusalError(doing, refusal(errno, text))
}

function refusal(errno: number, text: string): NetlinkRefusal {
  const name = libc.errnoName(errno)
  const words = `${libc.errnoText(errno)} (${name})`
  return { errno: name, message: text === '' ? words : `${text}: ${words}` }
}
