// One port for libp2p and direct streams: the first bytes of a connection say which of them takes it. Whatever is no whole
// prefix of a direct stream goes to libp2p, whose protector judges it. A silent connection is closed here.

import { tcp, type TCPOptions } from '@libp2p/tcp'
import { Server, type Socket } from 'node:net'
import type { Clock } from '#platform/clock.ts'
import type { Admission } from './admission.ts'
import { prefixOf, PREFIX_BYTES } from './preamble.ts'
import { PREAMBLE_MS } from './protector.ts'
import type { Refusals } from './refusals.ts'

const DIRECT = prefixOf('direct')

type SorterOptions = {
  readonly admission: Pick<Admission, 'startProof'>
  readonly refusals: Refusals
  readonly clock: Clock
  /** Takes a direct stream's connection, nothing of it read yet. */
  readonly direct: (socket: Socket) => void
}

type Transport = ReturnType<typeof tcp>

/** @libp2p/tcp, whose listening socket is shared with direct streams. */
export function sharedTcp(options: TCPOptions, sorter: PortSorter): Transport {
  return components => {
    const transport = tcp(options)(components)
    const createListener = transport.createListener.bind(transport)
    transport.createListener = listenerOptions => {
      const listener = createListener(listenerOptions)
      const { server } = listener as unknown as { readonly server: unknown }
      if (!(server instanceof Server)) throw new Error('the listener of @libp2p/tcp has no server to share')
      sorter.share(server)
      return listener
    }
    return transport
  }
}

export class PortSorter {
  readonly #options: SorterOptions
  readonly #silent = new Set<Socket>()
  #stopped = false

  constructor(options: SorterOptions) {
    this.#options = options
  }

  /** Sorts the connections that a server accepts; its listeners of now get those of libp2p. */
  share(server: Server): void {
    const toLibp2p = server.listeners('connection')
    server.removeAllListeners('connection')
    server.on('connection', (socket: Socket) => {
      this.#sort(socket, () => {
        for (const listener of toLibp2p) listener.call(server, socket)
      })
    })
  }

  /** Closes the connections that have not been sorted. */
  stop(): void {
    this.#stopped = true
    for (const socket of this.#silent) socket.destroy()
  }

  #sort(socket: Socket, toLibp2p: () => void): void {
    const { admission, clock, direct, refusals } = this.#options
    const address = socket.remoteAddress ?? ''
    const endProof = admission.startProof(address)
    const stop = (): void => {
      cancelTimeout()
      endProof()
      this.#silent.delete(socket)
      socket.off('data', received).off('error', ignored).off('close', closed)
    }
    const received = (first: Buffer): void => {
      stop()
      socket.pause()
      socket.unshift(first)
      if (first.subarray(0, PREFIX_BYTES).equals(DIRECT)) direct(socket)
      else toLibp2p()
      socket.resume()
    }
    const ignored = (): undefined => undefined // followed by `close`
    const closed = (): void => {
      stop()
      refusals.count('closed early', address)
    }
    const late = (): void => {
      stop()
      refusals.count('no preamble in time', address)
      socket.on('error', ignored).resetAndDestroy()
    }
    const cancelTimeout = clock.after(PREAMBLE_MS, late)
    this.#silent.add(socket)
    socket.on('error', ignored).on('close', closed).on('data', received)
    if (this.#stopped) socket.destroy()
  }
}
