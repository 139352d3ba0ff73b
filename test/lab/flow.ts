// Traffic between two containers, counted to the packet: UDP with sequence numbers at a fixed rate, and one TCP connection
// that is never reopened. Each end is a process that runs this file inside the container's namespace.

import { spawn, type ChildProcess } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { connect, createServer, isIPv6 } from 'node:net'
import { fileURLToPath } from 'node:url'
import { waitFor } from './wait.ts'

const PORT = 9000
const TICK_MS = 2
const PACKET_BYTES = 64
/** What the TCP connection sends in one write. */
export const FIRST_BYTES = 65_536

export type FlowReport = {
  readonly sent: number
  /** Distinct packets that reached the other container, including those that its socket buffer had no room for. */
  readonly received: number
  readonly lost: number
  /** The TCP connection that was opened at the start still carried data at the end. */
  readonly tcpAlive: boolean
  readonly tcpBytes: number
  /** Longest time without a UDP packet at the receiver. */
  readonly longestGapMs: number
}

type Namespace = { readonly namespace: string }

/** Starts the flow; `stop` ends it and counts. Lossless means that `lost` is 0 and `tcpAlive` is true. */
export async function startFlow(p: {
  readonly from: Namespace
  readonly to: Namespace
  readonly address: string
  readonly packetsPerSecond: number
}): Promise<{ readonly stop: () => Promise<FlowReport> }> {
  const receiver = new End(p.to, ['receive', p.address])
  await receiver.line('ready')
  const sender = new End(p.from, ['send', p.address, `${p.packetsPerSecond}`])
  await sender.line('ready')
  return {
    stop: async () => {
      const sent = await sender.finish()
      // Packets in flight arrive within milliseconds; the receiver waits until nothing more comes.
      const got = await receiver.finish()
      return {
        sent: Number(sent['sent']),
        received: Number(got['received']),
        lost: Number(sent['sent']) - Number(got['received']),
        tcpAlive: sent['tcp'] === 'alive' && got['tcp'] === 'alive',
        tcpBytes: Number(got['bytes']),
        longestGapMs: Number(got['longestGapMs'])
      }
    }
  }
}

/** One end: prints `ready`, runs until its standard input ends, then prints its counts as JSON. */
class End {
  readonly #child: ChildProcess
  #text = ''
  readonly #closed: Promise<void>

  constructor({ namespace }: Namespace, args: readonly string[]) {
    const self = fileURLToPath(import.meta.url)
    const command = ['netns', 'exec', namespace, process.execPath, self, ...args]
    this.#child = spawn('ip', command, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#text += chunk.toString()))
    this.#closed = new Promise(resolve => this.#child.on('close', () => resolve()))
  }

  async line(text: string): Promise<void> {
    await waitFor(`a flow prints ${text}`, () => this.#text.includes(text))
  }

  async finish(): Promise<Record<string, unknown>> {
    this.#child.stdin?.end()
    await this.#closed
    return JSON.parse(this.#text.trim().split('\n').at(-1) ?? '') as Record<string, unknown>
  }
}

function send(address: string, packetsPerSecond: number): void {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  const tcp = connect(PORT, address)
  let state = 'connecting'
  tcp.on('connect', () => {
    state = 'alive'
    // More than one packet, so that it must be segmented.
    tcp.write(Buffer.alloc(FIRST_BYTES))
    let sent = 0
    const since = performance.now()
    const timer = setInterval(() => {
      const due = Math.floor(((performance.now() - since) / 1_000) * packetsPerSecond)
      // After a stall it catches up slowly: a burst would only test the receiver's buffer.
      for (let n = 0; n < 20 && sent < due; n++) {
        // A new buffer each time: it may be read only after this loop, when the packet is sent.
        const packet = Buffer.alloc(PACKET_BYTES)
        packet.writeUInt32LE(sent, 0)
        socket.send(packet, PORT, address)
        sent += 1
      }
      if (tcp.writableLength < 65_536) tcp.write(Buffer.alloc(PACKET_BYTES))
    }, TICK_MS)
    process.stdin.on('end', () => {
      clearInterval(timer)
      tcp.end(() => socket.close(() => console.log(JSON.stringify({ sent, tcp: state }))))
    })
    process.stdin.resume()
    console.log('ready')
  })
  tcp.on('error', (err: Error) => (state = err.message))
}

function receive(address: string): void {
  const seen = new Set<number>()
  let [last, longestGapMs, bytes, connections, state] = [0, 0, 0, 0, 'none']
  const type = isIPv6(address) ? 'udp6' : 'udp4'
  const socket = createSocket({ type, recvBufferSize: 4 * 1024 * 1024 })
  socket.on('message', data => {
    const now = performance.now()
    if (last !== 0) longestGapMs = Math.max(longestGapMs, now - last)
    last = now
    seen.add(data.readUInt32LE(0))
  })
  const server = createServer(connection => {
    connections += 1
    state = connections === 1 ? 'alive' : 'reopened'
    connection.on('data', data => (bytes += data.length))
    connection.on('error', (err: Error) => (state = err.message))
  })
  socket.bind(PORT, () => server.listen(PORT, () => console.log('ready')))
  process.stdin.on('end', () => {
    const count = seen.size
    const settle = (before: number): void => {
      setTimeout(() => {
        if (seen.size !== before) settle(seen.size)
        else {
          const received = seen.size + overflowed(isIPv6(address) ? 'udp6' : 'udp')
          console.log(JSON.stringify({ received, bytes, tcp: state, longestGapMs: Math.round(longestGapMs) }))
          process.exit(0)
        }
      }, 300)
    }
    settle(count)
  })
  process.stdin.resume()
}

/** Packets that this process's socket had no room for: the network did not lose them. Last column of the table. */
function overflowed(table: 'udp' | 'udp6'): number {
  const port = `:${PORT.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = readFileSync(`/proc/net/${table}`, 'utf8').split('\n')
  return rows
    .filter(row => row.trim().split(/\s+/)[1]?.endsWith(port))
    .reduce((sum, row) => sum + Number(row.trim().split(/\s+/).at(-1)), 0)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , mode, address = '', rate = ''] = process.argv
  if (mode === 'send') send(address, Number(rate))
  else receive(address)
}
