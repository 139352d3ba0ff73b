// Holds docs/zeromq.md against the codec: its example and its table of types.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ANSWER, decodeRequest, encodeConnection, encodeMessage, ERROR_TYPE, REQUESTS } from '#zmq/message.ts'

const page = readFileSync(join(import.meta.dirname, '../../docs/zeromq.md'), 'utf8')

t.test('the codec decodes and encodes the example byte for byte', async t => {
  const block = /```hex\n([^`]*)```/.exec(page)?.[1] ?? ''
  const words = block.split('\n').flatMap(line => /^((?:[0-9a-f]+ {2})*[0-9a-f]+)/.exec(line)?.[1]?.split('  ') ?? [])
  const bytes = Buffer.from(words.join(''), 'hex')
  const { type, request } = decodeRequest(bytes)
  t.equal(type, 1)
  const expected = {
    id: 'c1',
    name: 'web',
    pid: '4711',
    requestIp: 0x0a010005,
    network: 0,
    ovsPortId: 0,
    bandwidth: 10_000,
    delay: 0,
    rxTotal: 0,
    txTotal: 0,
    rxRate: 0,
    txRate: 0,
    connDetail: '{"network":"blue"}'
  }
  t.same(request, { kind: 'connection-create', connection: expected })
  t.ok(encodeMessage(1, encodeConnection(expected)).equals(bytes))
})

t.test('the table of types matches the code', async t => {
  const rows = [...page.matchAll(/^\| (\d+) \| (create|delete|query) .*\| (\d+) \|$/gm)]
  t.same(
    rows.map(([, type, verb, answer]) => [Number(type), verb, Number(answer)]),
    Object.entries(REQUESTS).map(([type, kind]) => [Number(type), kind.split('-')[1], Number(type) + ANSWER])
  )
  t.match(page, `answered by ${ERROR_TYPE}`)
})
