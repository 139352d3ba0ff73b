import t from 'tap'
import { inspectBackup } from '#backup/backup.ts'
import { digestOf } from '#allocator/digest.ts'
import { buildApi } from '#api/server.ts'
import { VxmeshError } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'

const logger = createLogger('silent')

t.test('the route returns a whole backup, current or stale', async t => {
  const agent = new MemoryHost()
  const server = buildApi({ agent: agent.port, logger, clock: systemClock })
  t.teardown(() => server.close())
  for (const [url, stale] of [
    ['/v1/snapshot', false],
    ['/v1/snapshot?stale=false', false],
    ['/v1/snapshot?stale=true', true]
  ] as const) {
    const response = await server.inject({ method: 'GET', url })
    t.equal(response.statusCode, 200)
    t.equal(response.headers['content-type'], 'application/octet-stream')
    t.match(await inspectBackup('it', response.rawPayload), { digest: digestOf(agent.caller.state), networks: 1 })
    t.same(agent.asked.at(-1), { stale }, url)
  }
})

t.test('without a majority, or with an invalid query, the answer is a JSON error', async t => {
  const agent = new MemoryHost()
  const server = buildApi({ agent: agent.port, logger, clock: systemClock })
  t.teardown(() => server.close())
  agent.refusal = new VxmeshError('ERR_NO_QUORUM', 'no leader is known')
  const refused = await server.inject({ method: 'GET', url: '/v1/snapshot' })
  t.match([refused.statusCode, refused.json()], [503, { error: { code: 'ERR_NO_QUORUM' } }])
  const wrong = await server.inject({ method: 'GET', url: '/v1/snapshot?stale=1' })
  t.match([wrong.statusCode, wrong.json()], [400, { error: { code: 'ERR_INVALID', field: 'stale' } }])
})
