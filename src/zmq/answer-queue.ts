// Queues answers for peers that ask faster than they read. The library counts messages, not bytes, so its own queue is
// kept short (ANSWERS_HIGH_WATER_MARK) and the excess is queued here, bounded in bytes. A peer that exceeds a bound
// loses its requests and answers until it reads again; the kernel closes a stalled connection (PROGRESS_TIMEOUT_MS in server.ts).

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '#platform/clock.ts'

/** `full`: the peer does not read; `gone`: there is no such peer any more. */
export type Sent = 'sent' | 'full' | 'gone'

/** Some 20,000 answers of 400 B: as many as a peer can have requests in progress. */
const PEER_BYTES = 11 * 1024 * 1024
/** Of all peers together. Beyond it, the peer with the most bytes loses them. */
const TOTAL_BYTES = 32 * 1024 * 1024
/** What an answer takes beside its own bytes. */
const OVERHEAD_BYTES = 128
/** The library does not tell when a peer reads again. */
const RETRY_MS = 5
/** Answers sent to one peer before another's turn, and the event loop's. */
const ROUND = 256

/** `deaf`: beyond a bound. One answer is left, which tells when the peer reads again or is gone; others are not kept. */
type Waiting = { readonly sender: string; answers: Buffer[][]; bytes: number; deaf: boolean }

export class AnswerQueue {
  readonly #send: (parts: Buffer[]) => Promise<Sent>
  readonly #clock: Clock
  readonly #onDrop: (bytes: number) => void
  readonly #waiting = new Map<string, Waiting>()
  #bytes = 0
  #draining: Promise<void> | null = null
  readonly #stopped = new AbortController()

  /** @param p `onDrop`: called with the number of bytes of answers that a peer has lost */
  constructor(p: {
    readonly send: (parts: Buffer[]) => Promise<Sent>
    readonly clock: Clock
    readonly onDrop: (bytes: number) => void
  }) {
    this.#send = p.send
    this.#clock = p.clock
    this.#onDrop = p.onDrop
  }

  /** Bytes queued for all peers. */
  get bytes(): number {
    return this.#bytes
  }

  /** Has this peer exceeded its bound, and read nothing since? Its requests need not be carried out: it hears no outcome. */
  isDeaf(peer: Buffer): boolean {
    return this.#waiting.get(peer.toString('latin1'))?.deaf === true
  }

  /** @param parts the first one is the peer's identity */
  add(parts: Buffer[]): void {
    const sender = parts[0]?.toString('latin1') ?? ''
    const bytes = sizeOf(parts)
    let waiting = this.#waiting.get(sender)
    if (waiting === undefined) this.#waiting.set(sender, (waiting = { sender, answers: [], bytes: 0, deaf: false }))
    if (waiting.deaf) return
    waiting.answers.push(parts)
    waiting.bytes += bytes
    this.#bytes += bytes
    if (waiting.bytes > PEER_BYTES) this.#drop(waiting)
    else if (this.#bytes > TOTAL_BYTES) this.#drop(this.#largest(waiting))
    this.#draining ??= this.#drain().finally(() => (this.#draining = null))
  }

  /** Sends what can be sent at once, and drops the rest. */
  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#draining
  }

  async #drain(): Promise<void> {
    for (;;) {
      let progress = false
      for (const waiting of [...this.#waiting.values()]) progress = (await this.#sendTo(waiting)) || progress
      if (this.#waiting.size === 0 || this.#stopped.signal.aborted) return
      await (progress ? nextTurn() : this.#clock.sleep(RETRY_MS, this.#stopped.signal))
    }
  }

  /** Was anything sent? */
  async #sendTo(waiting: Waiting): Promise<boolean> {
    const { answers } = waiting
    let at = 0
    let sent: Sent = 'sent'
    while (at < Math.min(answers.length, ROUND) && sent === 'sent') {
      const parts = answers[at]
      if (parts === undefined) break
      sent = await this.#send(parts)
      // The queue was dropped meanwhile, and holds other answers.
      if (waiting.answers !== answers) return true
      if (sent === 'sent') at++
    }
    if (sent === 'gone' || at === answers.length) {
      this.#forget(waiting)
      return true
    }
    const gone = answers.splice(0, at)
    const bytes = gone.reduce((sum, parts) => sum + sizeOf(parts), 0)
    waiting.bytes -= bytes
    this.#bytes -= bytes
    return at > 0
  }

  #drop(waiting: Waiting): void {
    if (waiting.deaf) {
      this.#forget(waiting)
      return
    }
    const [last = []] = waiting.answers.splice(-1)
    const lost = waiting.bytes - sizeOf(last)
    waiting.answers = [last]
    waiting.bytes -= lost
    waiting.deaf = true
    this.#bytes -= lost
    this.#onDrop(lost)
  }

  #forget(waiting: Waiting): void {
    this.#waiting.delete(waiting.sender)
    this.#bytes -= waiting.bytes
  }

  #largest(first: Waiting): Waiting {
    let largest = first
    for (const waiting of this.#waiting.values()) if (waiting.bytes > largest.bytes) largest = waiting
    return largest
  }
}

function sizeOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, part) => sum + part.byteLength, OVERHEAD_BYTES)
}
