// Sends hostile inputs to an agent's sockets, from inside its host's namespace.
//   node test/fuzz/live-client.ts UNIX-SOCKET UNDERLAY-ADDRESS INPUTS SEED [PER-SECOND]     prints one JSON object

import { connect } from 'node:net'
import { Dealer, Publisher } from 'zeromq'
import { Random } from '../sim/random.ts'
import { mutate } from './mutate.ts'
import { targets } from './targets.ts'

const [socketPath = '', underlay = '', inputs = '20000', seed = '1', perSecond = 'Infinity'] = process.argv.slice(2)
/** The client closes a connection that the agent has not closed after this time. */
const CONNECTION_MS = 500

const random = new Random(Number(seed))
const corpora = new Map((await targets()).map(({ name, corpus }) => [name, corpus]))
const zmqMessages = corpora.get('zmq-message') ?? []
const bodies = [...corpora].filter(([name]) => /^(http|cni)-/.test(name)).flatMap(([, corpus]) => corpus)

const ROUTES = ['/v1/networks', '/v1/endpoints', '/v1/namespaces/shop', '/v1/join', '/v1/cni', '/v1/networks/red']
const requests = ROUTES.flatMap(path =>
  bodies.map(body => {
    const head = `${path.endsWith('shop') ? 'PUT' : 'POST'} ${path} HTTP/1.1\r\nHost: vxmesh\r\nContent-Type: application/json\r\n`
    return Buffer.concat([Buffer.from(`${head}Content-Length: ${body.byteLength}\r\n\r\n`), body])
  })
)
const pages = ['/metrics', '/livez', '/readyz', '/healthz?verbose'].map(path =>
  Buffer.from(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
)

/** Sends bytes on a new connection and waits until it is closed. */
function throwAt(to: { path: string } | { host: string; port: number }, bytes: Buffer): Promise<void> {
  return new Promise(resolve => {
    const socket = connect(to)
    const timer = setTimeout(() => socket.destroy(), CONNECTION_MS)
    socket.on('error', () => undefined)
    socket.on('data', () => socket.end())
    socket.on('close', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.end(bytes)
  })
}

/** As fast as possible, or spread evenly over `seconds`. */
async function times(count: number, lanes: number, seconds: number, act: () => Promise<void>): Promise<void> {
  const since = performance.now()
  let begun = 0
  const lane = async (): Promise<void> => {
    while (begun < count) {
      const early = since + (begun++ / count) * seconds * 1_000 - performance.now()
      if (early > 1) await new Promise(resolve => setTimeout(resolve, early))
      await act()
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
}

const publisher = new Publisher({ linger: 0, sendHighWaterMark: 0 })
publisher.connect(`tcp://127.0.0.1:30027`)
const dealer = new Dealer({ linger: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0 })
dealer.connect(`tcp://127.0.0.1:30029`)
let answered = 0
const hearing = (async () => {
  for await (const [answer] of dealer) if (answer !== undefined) answered += 1
})()

const WAYS: readonly { name: string; share: number; lanes: number; act: () => Promise<void> }[] = [
  { name: 'zmq-requests', share: 0.3, lanes: 1, act: () => publisher.send(mutate(random, zmqMessages)) },
  { name: 'zmq-rpc', share: 0.2, lanes: 1, act: () => dealer.send(mutate(random, zmqMessages)) },
  { name: 'http-unix', share: 0.3, lanes: 4, act: () => throwAt({ path: socketPath }, mutate(random, requests)) },
  {
    name: 'http-listen',
    share: 0.1,
    lanes: 2,
    act: () => throwAt({ host: '127.0.0.1', port: 7380 }, mutate(random, pages))
  },
  {
    name: 'libp2p',
    share: 0.1,
    lanes: 4,
    act: () => throwAt({ host: underlay, port: 7947 }, mutate(random, zmqMessages))
  }
]

const sent: Record<string, number> = {}
await Promise.all(
  WAYS.map(async ({ name, share, lanes, act }) => {
    const count = Math.round(Number(inputs) * share)
    await times(count, lanes, Number(inputs) / Number(perSecond), act)
    sent[name] = count
  })
)
await new Promise(resolve => setTimeout(resolve, 500))
publisher.close()
dealer.close()
await hearing
const total = Object.values(sent).reduce((a, b) => a + b, 0)
console.log(JSON.stringify({ sent, total, answered }))
