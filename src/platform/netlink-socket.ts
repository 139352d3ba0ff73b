// A netlink socket (NETLINK_ROUTE by default) in one network namespace: requests, batches, transactions, dumps and
// notifications. Synchronous, because the kernel replies within microseconds and a thread hop would cost more. Slow
// requests use `requestAsync`.

import { VxmeshError } from '#model/errors.ts'
import { watchReadable } from './libc.ts'
import { NetlinkChannel } from './netlink-channel.ts'
import { kernelError, refusal, type NetlinkRefusal } from './netlink-error.ts'
import {
  align4,
  HEADER_BYTES,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  readStatus,
  writeFrame,
  type NetlinkFrame,
  type NetlinkRequest
} from './netlink-frame.ts'
import { inNetns, inScratchNetns } from './netns.ts'

export type { NetlinkFrame, NetlinkRequest } from './netlink-frame.ts'

const NETLINK_ROUTE = 0
const SEND_BYTES = 64 * 1024
/** Messages per send: more bring no gain, and the event loop is blocked for at most about 2 ms. */
const BATCH_MESSAGES = 200
const DUMP_ATTEMPTS = 10

export class NetlinkSocket {
  readonly #channel: NetlinkChannel
  readonly #send = new Uint8Array(SEND_BYTES)
  /** The replies to requests that a thread is sending, by sequence number; null until a receive has returned the reply. */
  readonly #asyncReplies = new Map<number, ReturnType<typeof readStatus> | null>()
  #seq = 1
  /** Most messages of a dump. */
  readonly #most: number

  private constructor(channel: NetlinkChannel, most = Infinity) {
    this.#channel = channel
    this.#most = most
  }

  /** Opens a socket in the namespace at a path (null: the process's own). @throws ERR_NETNS, ERR_KERNEL */
  static open(netns: string | null, groups: readonly number[] = [], protocol = NETLINK_ROUTE): NetlinkSocket {
    const create = (): NetlinkSocket => NetlinkSocket.#create(groups, protocol)
    return netns === null ? create() : inNetns(netns, create)
  }

  /**
   * Opens a socket in a namespace whose owner may fill its tables as he likes: a dump blocks the event loop. One of more than
   * `most` messages fails; only `close` may follow. @throws ERR_NETNS, ERR_KERNEL
   */
  static openBounded(netns: string, most: number): NetlinkSocket {
    return inNetns(netns, () => NetlinkSocket.#create([], NETLINK_ROUTE, most))
  }

  /** Opens a socket in a new namespace, which exists as long as the socket. @throws ERR_NETNS, ERR_KERNEL */
  static openScratch(): NetlinkSocket {
    return inScratchNetns(() => NetlinkSocket.#create([], NETLINK_ROUTE))
  }

  static #create(groups: readonly number[], protocol: number, most = Infinity): NetlinkSocket {
    return new NetlinkSocket(NetlinkChannel.open(groups, protocol), most)
  }

  /** For ioctl(2), which acts on the socket's namespace, too. */
  get fd(): number {
    return this.#channel.fd
  }

  /** The socket's netlink port id; notifications of its own changes carry it. */
  get portId(): number {
    return this.#channel.portId
  }

  /** Sends one request. @returns the kernel's messages before the ack @throws ERR_KERNEL with `context.errno` */
  request(request: NetlinkRequest, doing: string): readonly Uint8Array[] {
    const seq = this.#nextSeq()
    this.#channel.send(this.#frame([request], seq, NLM_F_ACK), doing)
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
      await this.#channel.sendAsync(this.#frame([request], seq, NLM_F_ACK).slice(), doing)
      if (this.#channel.isClosed) return
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
    this.#channel.send(this.#frame(requests, first, NLM_F_ACK, last), doing)
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
    return this.#channel.drain(visit)
  }

  /** Calls `listener` when notifications are pending; read them with `drain`. @returns a function that stops it; call it before `close` */
  watch(listener: () => void): () => void {
    return watchReadable(this.#channel.fd, listener)
  }

  close(): void {
    this.#channel.close()
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
    this.#channel.send(this.#frame(requests, first, NLM_F_ACK), doing)
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
    this.#channel.send(this.#frame([{ ...request, flags: request.flags | NLM_F_DUMP }], seq, 0), doing)
    const found: T[] = []
    let interrupted = false
    let messages = 0
    for (;;) {
      for (const frame of this.#receiveFrames(doing)) {
        if (frame.seq !== seq) continue
        if (++messages > this.#most + 1) {
          const what = `${doing}: there are more than ${this.#most}`
          throw new VxmeshError('ERR_KERNEL', what, { context: { errno: 'E2BIG' } })
        }
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

  /** One receive may also return replies to requests of worker threads; keeps them for those. */
  #receiveFrames(doing: string): readonly NetlinkFrame[] {
    const frames = this.#channel.receive(doing)
    for (const frame of frames) {
      if (frame.type === NLMSG_ERROR && this.#asyncReplies.has(frame.seq))
        this.#asyncReplies.set(frame.seq, readStatus(frame))
    }
    return frames
  }
}
