// A listener in a namespace of its own, asked from within it.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { framed } from '#dns/exchange.ts'
import { CONNECTIONS } from '#dns/limits.ts'
import { Listener } from '#dns/listener.ts'
import { parseIp } from '#model/ip.ts'
import { openBound } from '#platform/bound-socket.ts'
import { systemClock } from '#platform/clock.ts'
import { withScratchNetns } from '#platform/netns.ts'
import { run } from '#platform/process.ts'
import { cannotRun } from '../lab/requirements.ts'
import { waitFor } from '../lab/wait.ts'

const skip = cannotRun()
const HERE = parseIp('127.0.0.1')

type World = {
  readonly listener: Listener
  readonly udp: Socket
  readonly netns: string
  readonly connections: { count: number }
  /** Answers the oldest query that waits. */
  readonly answer: () => void
  readonly waiting: () => number
}

/** `now` is answered at once, `never` not at all, everything else when the test says so. */
async function withListener(t: Test, use: (world: World) => Promise<void>): Promise<void> {
  await withScratchNetns(async netns => {
    await run('nsenter', [`--net=${netns}`, 'ip', 'link', 'set', 'lo', 'up'])
    const waiting: (() => void)[] = []
    const connections = { count: 0 }
    const listener = new Listener({
      netns,
      addresses: [HERE, parseIp('::1')],
      resolver: {
        handle: message => {
          const text = message.toString()
          if (text === 'never') return null
          const reply = Buffer.from(`answer to ${text}`)
          return text === 'now' ? reply : new Promise(resolve => waiting.push(() => resolve(reply)))
        }
      },
      queryRate: 1_000,
      connections,
      clock: systemClock
    })
    const udp = createSocket('udp4')
    udp.bind({ fd: openBound(netns, { protocol: 'udp', address: HERE, port: 4_000 }), exclusive: true })
    try {
      await use({ listener, udp, netns, connections, answer: () => waiting.shift()?.(), waiting: () => waiting.length })
    } finally {
      listener.close()
      udp.close()
    }
  })
  t.pass()
}

t.test('queries by UDP are answered to where they came from', { skip }, t =>
  withListener(t, async ({ udp, answer, waiting }) => {
    for (const text of ['never', 'now']) udp.send(text, 53, '127.0.0.1')
    const [message, from] = (await once(udp, 'message')) as [Buffer, { address: string; port: number }]
    t.equal(message.toString(), 'answer to now')
    t.match(from, { address: '127.0.0.1', port: 53 })
    udp.send('later', 53, '127.0.0.1')
    await waitFor('the query waits', () => Promise.resolve(waiting() === 1))
    answer()
    t.equal(String((await once(udp, 'message'))[0]), 'answer to later')
  })
)

t.test('an answer that comes after the end is dropped', { skip }, t =>
  withListener(t, async ({ listener, udp, answer, waiting }) => {
    udp.send('later', 53, '127.0.0.1')
    await waitFor('the query waits', () => Promise.resolve(waiting() === 1))
    listener.close()
    answer()
    await new Promise(resolve => setImmediate(resolve))
  })
)

/** A process in the namespace that is one connection, from its input to its output. */
function connectFrom(netns: string, address: string): ChildProcessWithoutNullStreams {
  const program = `const s = require('net').connect(53, '${address}'); process.stdin.pipe(s).pipe(process.stdout)`
  return spawn('nsenter', [`--net=${netns}`, process.execPath, '-e', program])
}

t.test('queries by TCP are answered in order, in pieces, and after the client has ended', { skip }, t =>
  withListener(t, async ({ netns, connections }) => {
    const client = connectFrom(netns, '::1')
    const bytes = Buffer.concat([framed(Buffer.from('now')), framed(Buffer.from('now'))])
    client.stdin.write(bytes.subarray(0, 4))
    await waitFor('it is connected', () => Promise.resolve(connections.count === 1))
    client.stdin.end(bytes.subarray(4))
    const chunks: Buffer[] = []
    for await (const chunk of client.stdout as AsyncIterable<Buffer>) chunks.push(chunk)
    const reply = framed(Buffer.from('answer to now'))
    t.same(Buffer.concat(chunks), Buffer.concat([reply, reply]))
    await waitFor('it is closed', () => Promise.resolve(connections.count === 0))
  })
)

t.test('a connection ends that sends no query, or is one too many', { skip }, t =>
  withListener(t, async ({ netns, connections }) => {
    const bad = connectFrom(netns, '127.0.0.1')
    bad.stdin.on('error', () => undefined)
    bad.stdin.write(Buffer.from([0xff, 0xff, 0]))
    await once(bad, 'close')
    const program = `for (let n = 0; n < 9; n++) {
      require('net').connect(53, '127.0.0.1').on('error', () => 0).on('close', () => console.log('closed'))
    }
    process.stdin.on('end', () => process.exit()).resume()`
    const crowd = spawn('nsenter', [`--net=${netns}`, process.execPath, '-e', program])
    await once(crowd.stdout, 'data')
    t.equal(connections.count, CONNECTIONS.container, 'the ninth is closed')
    crowd.stdin.end()
    await waitFor('all are closed', () => Promise.resolve(connections.count === 0))
  })
)
