// An upstream resolver on loopback, whose answers a test gives.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import { framed } from '#dns/exchange.ts'

export type UpstreamServer = {
  /** ADDRESS:PORT. */
  readonly at: string
  /** Messages that it has had. */
  readonly asked: { udp: number; tcp: number }
}

/** @param answer null: it says nothing */
export async function upstreamServer(
  t: Test,
  answer: (message: Buffer, transport: 'udp' | 'tcp') => readonly Buffer[] | null
): Promise<UpstreamServer> {
  const asked = { udp: 0, tcp: 0 }
  const udp = createSocket('udp4', (message, from) => {
    asked.udp += 1
    for (const bytes of answer(message, 'udp') ?? []) udp.send(bytes, from.port, from.address)
  })
  const connected = new Set<Socket>()
  const tcp = createServer(socket => {
    connected.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (data: Buffer) => {
      asked.tcp += 1
      for (const bytes of answer(data.subarray(2), 'tcp') ?? []) socket.write(framed(bytes))
    })
  })
  tcp.listen(0, '127.0.0.1')
  await once(tcp, 'listening')
  const { port } = tcp.address() as { port: number }
  udp.bind(port, '127.0.0.1')
  await once(udp, 'listening')
  t.teardown(() => {
    udp.close()
    tcp.close()
    for (const socket of connected) socket.destroy()
  })
  return { at: `127.0.0.1:${port}`, asked }
}
