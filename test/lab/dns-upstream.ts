// A resolver for tests: `node dns-upstream.ts PORT`, in a namespace, on 127.0.0.1 by UDP and TCP. Answers each line of its input with the
// number of queries that it has had. Of www.example it knows an address, of large.example 40 texts, of slow.example it never speaks.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { AUTHENTIC_DATA, decode, encode, streamEncode, TRUNCATED_RESPONSE, type Answer, type Packet } from 'dns-packet'
import { answerLines } from './json-process.ts'

const port = Number(process.argv[2])
let asked = 0

function answersTo(name: string, type: string): readonly Answer[] | null {
  if (name === 'www.example') return type === 'A' ? [{ type: 'A', name, ttl: 60, data: '203.0.113.7' }] : []
  if (name !== 'large.example') return null
  return Array.from({ length: 40 }, (_, n) => ({ type: 'TXT', name, ttl: 60, data: `text ${n} ${'x'.repeat(60)}` }))
}

function answerTo(message: Buffer): Packet | null {
  asked += 1
  const { id = 0, questions = [], additionals = [] } = decode(message)
  const [question] = questions
  if (question === undefined || question.name === 'slow.example') return null
  const found = answersTo(question.name.toLowerCase(), question.type)
  const soa: Answer = {
    type: 'SOA',
    name: 'example',
    ttl: 60,
    data: { mname: 'a.example', rname: 'b.example', minimum: 30 }
  }
  const flags = AUTHENTIC_DATA | (found === null ? 3 : 0)
  return {
    type: 'response',
    id,
    flags,
    questions,
    additionals,
    answers: [...(found ?? [])],
    authorities: found?.length ? [] : [soa]
  }
}

const udp = createSocket('udp4', (message, from) => {
  const answer = answerTo(message)
  if (answer === null) return
  const bytes = encode(answer)
  const cut = { ...answer, flags: (answer.flags ?? 0) | TRUNCATED_RESPONSE, answers: [], authorities: [] }
  udp.send(bytes.length > 1_232 ? encode(cut) : bytes, from.port, from.address)
})
const tcp = createServer(socket => {
  socket.on('error', () => undefined)
  socket.on('data', data => {
    const answer = answerTo(data.subarray(2))
    if (answer !== null) socket.end(streamEncode(answer))
  })
})
udp.bind(port, '127.0.0.1')
tcp.listen(port, '127.0.0.1')
await Promise.all([once(udp, 'listening'), once(tcp, 'listening')])
await answerLines(() => Promise.resolve(asked))
process.exit()
