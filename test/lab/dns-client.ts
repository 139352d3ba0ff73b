// A client of a resolver for tests, in a container's namespace: `node dns-client.ts SERVER NAME`. Each line of its input is
// {"ms": N, "perSecond": R}, to send so many queries for so long, {"count": N}, to ask one after the other, or {"resolve": NAME}. It
// answers with what was sent and answered, and the times that answers took, or with the addresses.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { decode, encode } from 'dns-packet'
import { answerLines } from './json-process.ts'

export type Asked = {
  readonly sent: number
  readonly answered: number
  readonly tookMs: readonly number[]
  readonly elapsedMs: number
}

const [server = '', name = ''] = process.argv.slice(2)
const LOST_MS = 1_000
/** Between two queries: keeps them below the limit of one container. */
const PAUSE_MS = 3

const socket = createSocket(server.includes(':') ? 'udp6' : 'udp4')
socket.connect(53, server)
await once(socket, 'connect')
let answered = 0
socket.on('message', () => (answered += 1))
socket.on('error', () => undefined)
const query = (id: number, asked = name): Buffer =>
  encode({ type: 'query', id, questions: [{ type: 'A', name: asked }] })

async function flood(ms: number, perSecond: number): Promise<Asked> {
  const before = answered
  const since = performance.now()
  let sent = 0
  for (let now = since; now < since + ms; now = performance.now()) {
    for (const due = ((now - since) / 1_000) * perSecond; sent < due; sent++) socket.send(query(sent & 0xffff))
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  return { sent, answered: answered - before, tookMs: [], elapsedMs: performance.now() - since }
}

/** Null: there is no such name. */
async function resolve(asked: string): Promise<readonly unknown[] | null> {
  const id = Math.floor(Math.random() * 0x10000)
  const got = once(socket, 'message', { signal: AbortSignal.timeout(LOST_MS) }) as Promise<[Buffer]>
  socket.send(query(id, asked))
  const packet = decode((await got)[0])
  if (packet.id !== id) throw new Error('an answer to another query')
  const { rcode } = packet as unknown as { rcode: string }
  return rcode === 'NXDOMAIN' ? null : (packet.answers ?? []).map(one => ('data' in one ? one.data : null))
}

async function ask(count: number): Promise<Asked> {
  const tookMs: number[] = []
  const start = performance.now()
  for (let n = 0; n < count; n++) {
    const since = performance.now()
    const got = once(socket, 'message', { signal: AbortSignal.timeout(LOST_MS) }).then(
      () => tookMs.push(performance.now() - since),
      () => undefined
    )
    socket.send(query(n))
    await got
    await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
  }
  return { sent: count, answered: tookMs.length, tookMs, elapsedMs: performance.now() - start }
}

await answerLines(question => {
  const {
    ms,
    perSecond = 1_000,
    count = 1,
    resolve: asked
  } = question as Readonly<Record<string, number>> & { resolve?: string }
  if (asked !== undefined) return resolve(asked)
  return ms === undefined ? ask(count) : flood(ms, perSecond)
})
process.exit()
