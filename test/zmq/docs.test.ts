// Holds docs/zeromq.md against the codec: its example and its table of types.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  ANSWER,
  decodeRequest,
  encodeConnection,
  encodeMessage,
  encodeService,
  ERROR_TYPE,
  REQUESTS
} from '#zmq/message.ts'

const page = readFileSync(join(import.meta.dirname, '../../docs/zeromq.md'), 'utf8')

const NUMBERS = {
  ...{ requestIp: 0, network: 0, ovsPortId: 0, bandwidth: 0, delay: 0 },
  ...{ rxTotal: 0, txTotal: 0, rxRate: 0, txRate: 0 }
}
const SERVICE = {
  ...{ name: 'shop', network: 'blue', ports: '80:8080/tcp', requestIp: 0, affinity: 60 },
  serviceDetail: '{"select":["app=web"]}'
}
const EXAMPLES = [
  {
    type: 1,
    kind: 'connection-create',
    connection: {
      ...{ ...NUMBERS, requestIp: 0x0a010005, bandwidth: 10_000 },
      ...{ id: 'c1', name: 'web', pid: '4711', connDetail: '{"network":"blue"}' }
    }
  },
  {
    type: 4,
    kind: 'connection-update',
    connection: { ...NUMBERS, id: 'c1', name: '', pid: '', connDetail: '{"labels":{"app":"web","old":null}}' }
  },
  { type: 21, kind: 'service-create', service: SERVICE }
] as const

t.test('the codec decodes and encodes the examples byte for byte', async t => {
  const blocks = [...page.matchAll(/```hex\n([^`]*)```/g)].map(([, block = '']) => block)
  t.equal(blocks.length, EXAMPLES.length)
  for (const [at, { type, ...request }] of EXAMPLES.entries()) {
    const lines = blocks[at]?.split('\n') ?? []
    const words = lines.flatMap(line => /^((?:[0-9a-f]+ {2})*[0-9a-f]+)/.exec(line)?.[1]?.split('  ') ?? [])
    const bytes = Buffer.from(words.join(''), 'hex')
    t.same(decodeRequest(bytes), { type, request })
    const data = 'service' in request ? encodeService(request.service) : encodeConnection(request.connection)
    t.ok(encodeMessage(type, data).equals(bytes))
  }
})

t.test('the table of types matches the code', async t => {
  const rows = [...page.matchAll(/^\| (\d+) \| (create|delete|query|update) .*\| (\d+) \|$/gm)]
  t.same(
    rows.map(([, type, verb, answer]) => [Number(type), verb, Number(answer)]),
    Object.entries(REQUESTS).map(([type, kind]) => [Number(type), kind.split('-')[1], Number(type) + ANSWER])
  )
  t.match(page, `answered by ${ERROR_TYPE}`)
})
