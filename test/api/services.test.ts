// The routes of services, over the real state machine.

import t from 'tap'
import { buildApi } from '#api/server.ts'
import type { ErrorBody } from '#model/errors.ts'
import type { ServiceView } from '#model/views.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { makeMember, MemoryHost } from '#test/agent/memory-host.ts'
import { attach, create } from '#test/allocator/fixtures.ts'

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE'
type Answer = { readonly status: number; readonly json: unknown; readonly error: ErrorBody | undefined }

const URL = '/v1/services/red/web'
const WEB = { network: 'red', name: 'web', ports: ['80:8080'], select: ['app=web'] }

/** Networks red with container c1, labelled app=web, and both. */
function ready(): MemoryHost {
  const agent = new MemoryHost()
  agent.caller.raise()
  agent.caller.do(attach('red', 'c1', { labels: { app: 'web' } }))
  agent.caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  return agent
}

async function ask(agent: MemoryHost, method: Method, url: string, body?: unknown): Promise<Answer> {
  const server = buildApi({ agent: agent.port, logger: createLogger('silent'), clock: systemClock })
  const payload = body === undefined ? {} : { payload: JSON.stringify(body) }
  const headers = body === undefined ? {} : { 'content-type': 'application/json' }
  const response = await server.inject({ method, url, headers, ...payload })
  const json = response.json<{ error?: ErrorBody }>()
  await server.close()
  return { status: response.statusCode, json, error: json.error }
}

t.test('a service is created, listed in pages, changed and deleted', async t => {
  const agent = ready()
  const view = {
    ...{ network: 'red', name: 'web', addresses: ['10.1.0.3'], affinitySeconds: 0, select: ['app=web'] },
    ...{ ports: [{ protocol: 'tcp', port: 80, targetPort: 8_080 }], backends: null, endpoints: 1 }
  }
  t.strictSame(await ask(agent, 'POST', '/v1/services', WEB), { status: 201, json: view, error: undefined })
  t.strictSame((await ask(agent, 'GET', URL)).json, view)
  const ports = [{ port: 53, protocol: 'udp' }, '53', { port: 1, targetPort: 2 }]
  const both = await ask(agent, 'POST', '/v1/services', {
    ...{ network: 'both', name: 'db', ports, addresses: ['fd00:2::9', '10.96.0.10'], affinitySeconds: 60 },
    backends: ['[fd00:2::5]', '10.2.0.5']
  })
  t.match(both.json, {
    ...{ addresses: ['10.96.0.10', 'fd00:2::9'], backends: ['10.2.0.5', 'fd00:2::5'], select: null, endpoints: 0 },
    ports: [
      { protocol: 'tcp', port: 1, targetPort: 2 },
      { protocol: 'tcp', port: 53, targetPort: 53 },
      { protocol: 'udp', port: 53, targetPort: 53 }
    ]
  })
  const names = ({ json }: Answer): string[] => (json as ServiceView[]).map(({ name }) => name)
  t.same(names(await ask(agent, 'GET', '/v1/services')), ['db', 'web'])
  t.same(names(await ask(agent, 'GET', '/v1/services?network=red')), ['web'])
  const page = (await ask(agent, 'GET', '/v1/services?limit=1')).json as { items: ServiceView[]; continue: string }
  t.same(
    page.items.map(({ name }) => name),
    ['db']
  )
  t.match((await ask(agent, 'GET', `/v1/services?limit=1&continue=${page.continue}`)).json, {
    ...{ items: [{ name: 'web' }], continue: null }
  })
  t.match((await ask(agent, 'PATCH', URL, { backends: ['10.1.0.2:80'], affinitySeconds: 5 })).json, {
    ...{ select: null, backends: ['10.1.0.2:80'], affinitySeconds: 5, endpoints: 1, addresses: ['10.1.0.3'] }
  })
  t.match((await ask(agent, 'GET', '/v1/kv/service/red/web')).json, { value: { backends: ['10.1.0.2:80'] } })
  t.match(await ask(agent, 'DELETE', URL), { status: 200, json: { name: 'web', endpoints: 0 } })
  t.match(await ask(agent, 'GET', URL), { status: 404, error: { code: 'ERR_SERVICE_NOT_FOUND' } })
})

t.test('a repeated request id gives the same service', async t => {
  const agent = ready()
  const first = await ask(agent, 'POST', '/v1/services', { ...WEB, requestId: 'r1' })
  t.strictSame((await ask(agent, 'POST', '/v1/services', { ...WEB, requestId: 'r1' })).json, first.json)
  t.match((await ask(agent, 'POST', '/v1/services', WEB)).error, { code: 'ERR_SERVICE_EXISTS', field: 'name' })
})

const many = (count: number): string[] => Array.from({ length: count }, (_, n) => `${n + 1}`)
const REFUSALS: readonly (readonly [
  method: Method,
  url: string,
  body: unknown,
  code: string,
  field?: string | undefined
])[] = [
  ...(
    [
      [{ network: 'none' }, 'ERR_NETWORK_NOT_FOUND', undefined],
      [{ network: 'RED' }, 'ERR_INVALID', 'network'],
      [{ name: 'Web' }, 'ERR_INVALID', 'name'],
      [{ name: 'a.b' }, 'ERR_INVALID', 'name'],
      [{ colour: 'blue' }, 'ERR_INVALID', 'colour'],
      [{ ports: [] }, 'ERR_INVALID', 'ports'],
      [{ ports: '80' }, 'ERR_INVALID', 'ports'],
      [{ ports: ['http'] }, 'ERR_INVALID', 'ports.0'],
      [{ ports: ['80', { port: 0 }] }, 'ERR_INVALID', 'ports.1'],
      [{ ports: ['80', '80:81'] }, 'ERR_INVALID', 'ports'],
      [{ ports: ['80:81/sctp'] }, 'ERR_INVALID', 'ports'],
      [{ ports: many(17) }, 'ERR_INVALID', 'ports'],
      [{ select: [] }, 'ERR_INVALID', 'select'],
      [{ select: ['a b'] }, 'ERR_INVALID', 'select.0'],
      [{ select: ['a', 'a=1'] }, 'ERR_INVALID', 'select'],
      [{ select: undefined }, 'ERR_INVALID', 'select'],
      [{ backends: [] }, 'ERR_INVALID', 'select'],
      [{ select: undefined, backends: ['web'] }, 'ERR_INVALID', 'backends.0'],
      [{ select: undefined, backends: ['10.9.0.1'] }, 'ERR_INVALID', 'backends'],
      [{ select: undefined, backends: many(251).map(() => '10.1.0.2') }, 'ERR_INVALID', 'backends'],
      [{ affinitySeconds: -1 }, 'ERR_INVALID', 'affinitySeconds'],
      [{ affinitySeconds: 86_401 }, 'ERR_INVALID', 'affinitySeconds'],
      [{ headless: 'yes' }, 'ERR_INVALID', 'headless'],
      [{ headless: true, addresses: ['10.1.0.9'] }, 'ERR_INVALID', 'addresses'],
      [{ addresses: [] }, 'ERR_INVALID', 'addresses'],
      [{ addresses: ['10.1.0.9', '10.1.0.8'] }, 'ERR_INVALID', 'addresses'],
      [{ addresses: ['10.1.0.9/24'] }, 'ERR_INVALID', 'addresses.0'],
      [{ addresses: ['10.1.0.3'] }, 'ERR_ADDRESS_IN_USE', 'address'],
      [{ addresses: ['fd00::1'] }, 'ERR_INVALID', 'address'],
      [{ requestId: '' }, 'ERR_INVALID', 'requestId']
    ] as const
  ).map(([change, code, field]) => ['POST', '/v1/services', { ...WEB, name: 'x', ...change }, code, field] as const),
  ['PATCH', '/v1/services/red/none', { affinitySeconds: 1 }, 'ERR_SERVICE_NOT_FOUND', 'name'],
  ['PATCH', URL, {}, 'ERR_INVALID', 'body'],
  ['PATCH', URL, { select: ['a'], backends: [] }, 'ERR_INVALID', 'select'],
  ['PATCH', URL, { addresses: ['10.1.0.9'] }, 'ERR_INVALID', 'addresses'],
  ['PATCH', URL, { ports: [] }, 'ERR_INVALID', 'ports'],
  ['GET', '/v1/services/none/web', undefined, 'ERR_NETWORK_NOT_FOUND'],
  ['GET', '/v1/services/red/Web', undefined, 'ERR_INVALID', 'name'],
  ['GET', '/v1/services/RED/web', undefined, 'ERR_INVALID', 'network'],
  ['GET', '/v1/services?network=none', undefined, 'ERR_NETWORK_NOT_FOUND'],
  ['GET', '/v1/services?network=RED', undefined, 'ERR_INVALID', 'network'],
  ['GET', '/v1/services?limit=0', undefined, 'ERR_INVALID', 'limit'],
  ['GET', '/v1/services?continue=nope', undefined, 'ERR_INVALID', 'continue'],
  ['DELETE', '/v1/services/red/none', undefined, 'ERR_SERVICE_NOT_FOUND', 'name'],
  ['DELETE', '/v1/networks/red', undefined, 'ERR_NETWORK_IN_USE', 'name']
]

t.test('an invalid request is refused with code and field, and changes nothing', async t => {
  const agent = ready()
  await ask(agent, 'POST', '/v1/services', WEB)
  agent.caller.do({ ...attach('red', 'c1'), kind: 'endpoint-detach' })
  const { hash } = agent.caller.state.tables
  for (const [method, url, body, code, field] of REFUSALS) {
    const before = hash.value
    const { error } = await ask(agent, method, url, body)
    t.match(error, field === undefined ? { code } : { code, field }, `${method} ${url} ${JSON.stringify(body)}`)
    t.same(hash.value, before)
  }
})

t.test(
  'an address of a member that the state does not know is refused, unless it is inside of the network',
  async t => {
    const agent = ready()
    agent.members = [makeMember(1), makeMember(3)]
    const asked = { ...WEB, addresses: ['192.0.2.3'] }
    t.match(await ask(agent, 'POST', '/v1/services', asked), {
      ...{ status: 409, error: { code: 'ERR_ADDRESS_IN_USE', field: 'address', message: /belongs to host h3/ } }
    })
    agent.caller.do(create('same', { subnet: '192.0.2.0/24' }))
    t.match(await ask(agent, 'POST', '/v1/services', { ...asked, network: 'same' }), {
      ...{ status: 201, json: { addresses: ['192.0.2.3'] } }
    })
  }
)
