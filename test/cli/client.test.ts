import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ApiClient } from '#cli/client.ts'
import { scratch } from '../api/scratch.ts'

/** A socket that answers every request with the given bytes. */
async function answering(t: Test, status: number, text: string): Promise<ApiClient> {
  const path = join(scratch(t), 'agent.sock')
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(status).end(text)
  }).listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  return new ApiClient(path)
}

t.test('an answer is its parsed JSON', async t => {
  for (const [text, value] of [
    ['{"a": [1]}', { a: [1] }],
    ['[]', []],
    ['', null]
  ] as const) {
    t.same(await (await answering(t, 200, text)).call('GET', '/v1/status'), value)
  }
})

t.test('an error keeps code, message and field', async t => {
  const body = '{"error": {"code": "ERR_VNI_IN_USE", "message": "vni: taken", "field": "vni"}}'
  const client = await answering(t, 409, body)
  await t.rejects(client.call('POST', '/v1/networks', {}), {
    code: 'ERR_VNI_IN_USE',
    message: 'vni: taken',
    field: 'vni'
  })
})

t.test('a foreign answer is an internal error, never a success', async t => {
  for (const [status, text] of [
    [200, 'hello'],
    [200, '{"cut": '],
    [500, '<html>'],
    [500, ''],
    [500, 'null'],
    [404, '{"error": "Not Found"}'],
    [400, '{"error": {"code": "ERR_OF_TOMORROW", "message": 5}}'],
    [400, '{"error": {"code": "toString"}}'],
    [302, '{}']
  ] as const) {
    const client = await answering(t, status, text)
    await t.rejects(client.call('GET', '/v1/status'), { code: 'ERR_INTERNAL' }, `${status} ${text}`)
  }
})

t.test('a missing socket and a dropped connection mean an unreachable agent', async t => {
  const directory = scratch(t)
  const path = join(directory, 'agent.sock')
  const server = createTcpServer(socket => socket.destroy()).listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  for (const socket of [path, join(directory, 'none.sock'), directory]) {
    const error = { code: 'ERR_AGENT_UNREACHABLE', message: new RegExp(`no agent answers on ${socket}`) }
    await t.rejects(new ApiClient(socket).call('GET', '/v1/status'), error, socket)
  }
})
