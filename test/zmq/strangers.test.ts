// Connections other than those of a well-behaved ZeroMQ client: HTTP requests, and a client that never reads.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { pino } from 'pino'
import t from 'tap'
import { Dealer, Publisher, Subscriber } from 'zeromq'
import { systemClock } from '#platform/clock.ts'
import { collectGarbage } from '#platform/garbage.ts'
import { run } from '#platform/process.ts'
import { decodeHeader, encodeConnection, encodeMessage, encodeNetwork } from '#zmq/message.ts'
import { ZmqServer } from '#zmq/server.ts'
import type { AgentPort } from '#model/agent-port.ts'
import { MAX_LABELS } from '#model/labels.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'
import { freePort } from '#test/lab/free-port.ts'
import { TEST_TIMEOUT_MS, waitFor } from '#test/lab/wait.ts'
import { post } from './http-post.ts'

const CREATE = encodeMessage(
  11,
  encodeNetwork({ name: 'evil', subnet: '10.66.0.0/24', gateway: '', vni: 0, egressBandwidth: 0 })
)
const QUERY = encodeMessage(13, encodeNetwork({ name: 'red', subnet: '', gateway: '', vni: 0, egressBandwidth: 0 }))
const MIB = 1024 * 1024
const DEAF_QUESTIONS = 8_000
const [PUBLISHED, MAX_GROWTH] = [5_000, 64 * MIB]

type Ports = Readonly<Record<'requests' | 'events' | 'rpc', number>>

async function serve(): Promise<{ readonly ports: Ports; readonly agent: AgentPort }> {
  const [requests, events, rpc] = await Promise.all([freePort(), freePort(), freePort()])
  const ports = { requests, events, rpc }
  const host = new MemoryHost()
  host.caller.raise()
  const agent = host.port
  const at = (port: number): string => `tcp://127.0.0.1:${port}`
  const server = await ZmqServer.start({
    addresses: { requests: at(requests), events: at(events), rpc: at(rpc) },
    curve: null,
    agent,
    interfaceIndex: () => 0,
    clock: systemClock,
    logger: pino({ level: 'silent' })
  })
  t.teardown(() => server.stop())
  return { ports, agent }
}

const { ports, agent } = await serve()

async function sendAll(port: number, bytes: Buffer): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(bytes)
  socket.resume()
  return socket
}

t.test('an HTTP request with a valid message in its body creates nothing and is cut off', async t => {
  for (const [name, port] of Object.entries(ports)) {
    const socket = await sendAll(port, post(CREATE))
    await waitFor(`${name} has closed the connection`, () => socket.closed, { timeoutMs: 10_000 })
  }
  t.notOk((await agent.networkList({ limit: 100, continue: null })).items.some(({ name }) => name === 'evil'))
})

t.test('clients of zeromq.js and pyzmq are served on all three sockets', async t => {
  const [requests, events] = [new Publisher({ linger: 0 }), new Subscriber({ linger: 0 })]
  t.teardown(() => [requests, events].forEach(socket => socket.close()))
  events.connect(`tcp://127.0.0.1:${ports.events}`)
  events.subscribe()
  requests.connect(`tcp://127.0.0.1:${ports.requests}`)
  const types: number[] = []
  void (async () => {
    for await (const [answer] of events) if (answer !== undefined) types.push(decodeHeader(answer).type)
  })().catch(() => undefined)
  await waitFor('a published request is answered', async () => {
    await requests.send(CREATE)
    return types.includes(111)
  })
  t.ok((await agent.networkList({ limit: 100, continue: null })).items.some(({ name }) => name === 'evil'))

  const script = `
import sys, zmq
s = zmq.Context().socket(zmq.REQ); s.connect('tcp://127.0.0.1:${ports.rpc}')
s.RCVTIMEO = 10000; s.send(bytes.fromhex('${QUERY.toString('hex')}'))
print(int.from_bytes(s.recv()[4:8], 'little'))
`
  const { stdout, stderr } = await run('/usr/bin/python3', ['-c', script])
  t.equal(stdout.trim(), '113', stderr)
})

t.test('a client that asks and never reads costs a bounded amount of memory', { timeout: TEST_TIMEOUT_MS }, async t => {
  // Requests have the maximal size, and an error's answer returns the clipped name. The client is a process of its own,
  // so its buffers do not count here.
  const question = encodeMessage(
    13,
    encodeNetwork({ name: 'N'.repeat(60_000), subnet: '', gateway: '', vni: 0, egressBandwidth: 0 })
  )
  const script = `
import zmq
s = zmq.Context().socket(zmq.DEALER); s.RCVHWM = 1; s.LINGER = 0; s.connect('tcp://127.0.0.1:${ports.rpc}')
q = bytes.fromhex('${question.subarray(0, 12).toString('hex')}') + b'N' * 60000 + bytes(16)
for n in range(${DEAF_QUESTIONS}): s.send(q)
s.poll(2000); print('asked')
`
  const samples: number[] = []
  const stop = systemClock.every(50, () => samples.push(process.memoryUsage().rss))
  const { stdout, stderr } = await run('/usr/bin/python3', ['-c', script], { timeoutMs: TEST_TIMEOUT_MS })
  stop()
  t.equal(stdout.trim(), 'asked', stderr)
  // Memory that requests use for a moment levels off early; answers kept for the peer would not.
  const early = Math.max(...samples.slice(0, samples.length / 2))
  t.ok(Math.max(...samples) - early < 128 * MIB, `${Math.round((Math.max(...samples) - early) / MIB)} MiB more`)

  const honest = new Dealer({ linger: 0, receiveTimeout: 10_000 })
  t.teardown(() => honest.close())
  honest.connect(`tcp://127.0.0.1:${ports.rpc}`)
  await honest.send(
    encodeMessage(13, encodeNetwork({ name: 'red', subnet: '', gateway: '', vni: 0, egressBandwidth: 0 }))
  )
  const [answer] = await honest.receive()
  t.equal(answer && decodeHeader(answer).type, 113, 'another client is served')
})

/** The longest texts that an answer returns. */
const LONG = {
  network: 'red',
  netns: `/${'\u20ac'.repeat(4_095)}`,
  labels: Object.fromEntries(
    Array.from({ length: MAX_LABELS }, (_, n) => [`${10 + n}`.padEnd(32, 'k'), 'v'.repeat(32)])
  )
}

function connectionRequest(type: 1 | 3): Buffer {
  const numbers = { requestIp: 0, network: 0, ovsPortId: 0, bandwidth: 0, delay: 0, rxTotal: 0, txTotal: 0 }
  const texts = { id: 'c1', name: 'c1', pid: '9'.repeat(16_000), connDetail: JSON.stringify(LONG) }
  return encodeMessage(type, encodeConnection({ ...numbers, ...texts, rxRate: 0, txRate: 0 }))
}

/** Asks and reads, with some in flight. @returns the resident memory of this process after it, without garbage */
async function askAndRead(count: number): Promise<number> {
  const script = `
import zmq
s = zmq.Context().socket(zmq.DEALER); s.connect('tcp://127.0.0.1:${ports.rpc}'); s.RCVTIMEO = 60000; s.LINGER = 0
q = bytes.fromhex(input())
for n in range(${count}):
    s.send(q)
    if n >= 20: s.recv()
print('asked')
`
  const input = `${connectionRequest(3).toString('hex')}\n`
  const { stdout, stderr } = await run('/usr/bin/python3', ['-c', script], { input, timeoutMs: TEST_TIMEOUT_MS })
  t.equal(stdout.trim(), 'asked', stderr)
  await collectGarbage('major')
  return process.memoryUsage().rss
}

t.test('a subscriber that does not read costs at most 64 MiB', { timeout: TEST_TIMEOUT_MS }, async t => {
  const dealer = new Dealer({ linger: 0, receiveTimeout: 10_000 })
  t.teardown(() => dealer.close())
  dealer.connect(`tcp://127.0.0.1:${ports.rpc}`)
  await dealer.send(connectionRequest(1))
  const [created = Buffer.alloc(0)] = await dealer.receive()
  t.equal(decodeHeader(created).type, 101)
  t.ok(created.byteLength > 15 * 1024 && created.byteLength < 17 * 1024, `the largest: ${created.byteLength} bytes`)
  const before = await askAndRead(PUBLISHED)

  const script = `
import sys, zmq
s = zmq.Context().socket(zmq.SUB); s.RCVHWM = 1; s.LINGER = 0
s.connect('tcp://127.0.0.1:${ports.events}'); s.subscribe(b'')
s.recv(); print('subscribed', flush=True); sys.stdin.read()
`
  const subscriber = spawn('/usr/bin/python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => subscriber.kill('SIGKILL'))
  let subscribed = false
  subscriber.stdout.once('data', () => (subscribed = true))
  await waitFor('the subscriber is served', async () => {
    await dealer.send(connectionRequest(3))
    await dealer.receive()
    return subscribed
  })
  const grown = (await askAndRead(PUBLISHED)) - before
  t.ok(grown <= MAX_GROWTH, `${Math.round(grown / MIB)} MiB more`)
})
