// Finds connections whose other end is gone: each is pinged in the frames of its muxer, and closed when no answer comes.
// libp2p's own monitor opens a stream for each ping and negotiates a protocol on it, twice the cost of all else that an idle
// agent does.

import type { StreamMuxerFactory } from '@libp2p/interface'
import { yamux } from '@libp2p/yamux'
import { VxmeshError } from '#model/errors.ts'
import type { Cancel, Clock } from '#platform/clock.ts'

const PING_MS = 5_000
const ANSWER_MS = 5_000

/** What a muxer must have to be watched. */
export type Pinged = {
  readonly ping: (options: { readonly signal: AbortSignal }) => Promise<number>
  readonly abort: (err: Error) => void
}

/** Pings while it watches anything; one timer for all. */
export class Pulse {
  readonly #clock: Clock
  readonly #watched = new Set<Pinged>()
  #cancel: Cancel | null = null

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** @returns what ends it */
  watch(muxer: Pinged): () => void {
    this.#watched.add(muxer)
    this.#cancel ??= this.#clock.every(PING_MS, () => {
      for (const each of this.#watched) void this.#ping(each)
    })
    return () => {
      if (!this.#watched.delete(muxer) || this.#watched.size > 0) return
      this.#cancel?.()
      this.#cancel = null
    }
  }

  async #ping(muxer: Pinged): Promise<void> {
    const late = new AbortController()
    const cancel = this.#clock.after(ANSWER_MS, () => late.abort())
    try {
      await muxer.ping({ signal: late.signal })
    } catch (cause) {
      // It may have been closed in good order meanwhile.
      if (!this.#watched.has(muxer)) return
      muxer.abort(new VxmeshError('ERR_PEER', 'a connection does not answer', { cause }))
    } finally {
      cancel()
    }
  }
}

/** yamux, each connection watched until it closes. */
export function liveYamux(clock: Clock): () => StreamMuxerFactory<YamuxMuxer> {
  const pulse = new Pulse(clock)
  const make = yamux({ enableKeepAlive: false })
  return () => {
    const factory = make()
    return {
      protocol: factory.protocol,
      createStreamMuxer(connection) {
        const muxer = factory.createStreamMuxer(connection)
        const abort = (err: Error): void => {
          muxer.abort(err)
          connection.abort(err)
        }
        const end = pulse.watch({ ping: options => muxer.ping(options), abort })
        connection.addEventListener('close', end)
        return muxer
      }
    }
  }
}

type YamuxMuxer = ReturnType<ReturnType<ReturnType<typeof yamux>>['createStreamMuxer']>
