// One question to one upstream resolver, from a socket of its own: its random port, with the random id, is what a forger would have to
// guess (RFC 5452), and a connected socket hears that resolver alone.

import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import type { Clock } from '#platform/clock.ts'
import { readForeignAnswer, type ForeignAnswer } from './foreign-answer.ts'
import type { Upstream } from './resolv-conf.ts'

export type ExchangeOptions = {
  readonly upstream: Upstream
  /** The question as it is sent (upstreamQuery). */
  readonly sent: Buffer
  readonly timeoutMs: number
  readonly clock: Pick<Clock, 'after'>
}

/** The first well-formed answer; null if there is none in time. Never rejects. */
export function askByUdp(p: ExchangeOptions): Promise<ForeignAnswer | null> {
  return new Promise(resolve => {
    const { address, port } = p.upstream
    const socket = createSocket(isIPv6(address.replace(/%.*/, '')) ? 'udp6' : 'udp4')
    const state = { isOver: false }
    const end = (answer: ForeignAnswer | null): void => {
      if (state.isOver) return
      state.isOver = true
      cancel()
      socket.close()
      resolve(answer)
    }
    const cancel = p.clock.after(p.timeoutMs, () => end(null))
    socket.on('error', () => end(null))
    socket.on('message', message => {
      const answer = readForeignAnswer(message, p.sent)
      if (answer !== null) end(answer)
    })
    // The types leave out that the callback gets the error, such as that of an address without a route.
    socket.connect(port, address, ((err?: Error | null) => {
      if (err instanceof Error) end(null)
      else if (!state.isOver) socket.send(p.sent)
    }) as () => void)
  })
}

/** The same by TCP, for an answer that UDP has truncated. */
export function askByTcp(p: ExchangeOptions): Promise<ForeignAnswer | null> {
  return new Promise(resolve => {
    const { address, port } = p.upstream
    const socket = connect({ host: address, port })
    const state = { isOver: false }
    const end = (answer: ForeignAnswer | null): void => {
      if (state.isOver) return
      state.isOver = true
      cancel()
      socket.destroy()
      resolve(answer)
    }
    const cancel = p.clock.after(p.timeoutMs, () => end(null))
    let received = Buffer.alloc(0)
    socket.on('error', () => end(null))
    socket.on('close', () => end(null))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      const length = received.length < 2 ? Infinity : received.readUInt16BE(0)
      if (received.length >= 2 + length) end(readForeignAnswer(received.subarray(2, 2 + length), p.sent))
    })
    socket.write(framed(p.sent))
  })
}

/** As a message is sent by TCP: after its length (RFC 1035 section 4.2.2). */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}
