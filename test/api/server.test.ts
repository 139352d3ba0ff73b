import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import { stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ApiClient } from '#cli/client.ts'
import { buildApi, startApi } from '#api/server.ts'
import { VxmeshError, type ErrorBody, type ErrorCode } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { scratch } from './scratch.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'
import { waitFor } from '#test/lab/wait.ts'

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
type Answer = { readonly status: number; readonly json: unknown; readonly error: ErrorBody | undefined }

const logger = createLogger('silent')
const LONG_ID = 'c'.repeat(128)
const BLUE = { name: 'blue', subnet: '10.1.0.0/24' }
const WEB = { network: 'red', containerId: 'web', netns: '/run/netns/web' }

async function ask(agent: MemoryHost, method: Method, url: string, body?: unknown): Promise<Answer> {
  const server = buildApi({ agent: agent.port, logger, clock: systemClock })
  const payload = body === undefined ? {} : { payload: JSON.stringify(body) }
  const headers = body === undefined ? {} : { 'content-type': 'application/json' }
  const response = await server.inject({ method, url, headers, ...payload })
  const json = response.json<{ error?: ErrorBody }>()
  await server.close()
  return { status: response.statusCode, json, error: json.error }
}

const ROUTES: readonly {
  readonly request: readonly [method: Method, url: string, body?: unknown]
  readonly status?: number
  readonly answer: unknown
}[] = [
  { request: ['GET', '/v1/status'], answer: { host: 'h1', ready: true, raft: { role: 'leader' } } },
  { request: ['GET', '/v1/members'], answer: [{ name: 'h1', status: 'alive' }, { name: 'h2' }] },
  {
    request: ['GET', '/v1/members?limit=9'],
    answer: { items: [{ name: 'h1', status: 'alive' }, { name: 'h2' }], continue: null }
  },
  { request: ['POST', '/v1/join', { addresses: ['192.0.2.1', '192.0.2.2:7946'] }], answer: { joined: 2 } },
  { request: ['POST', '/v1/leave'], answer: {} },
  { request: ['POST', '/v1/reload'], answer: { changed: ['log.level'], restart: ['bind', 'serf.port'] } },
  { request: ['GET', '/v1/hosts'], answer: [{ name: 'h1' }, { name: 'h2' }] },
  { request: ['GET', '/v1/hosts?limit=9'], answer: { items: [{ name: 'h1' }, { name: 'h2' }], continue: null } },
  { request: ['GET', '/v1/hosts/h2'], answer: { name: 'h2', vtep: '192.0.2.2' } },
  { request: ['DELETE', '/v1/hosts/h2'], answer: { name: 'h2' } },
  { request: ['GET', '/v1/namespaces'], answer: [] },
  { request: ['GET', '/v1/namespaces?limit=9'], answer: { items: [], continue: null } },
  {
    request: ['PUT', '/v1/namespaces/shop', { network: 'red' }],
    answer: { namespace: 'shop', network: 'red', grants: [] }
  },
  { request: ['GET', '/v1/raft/peers'], answer: [{ name: 'h1', state: 'leader', voter: true }, { name: 'h2' }] },
  { request: ['GET', '/v1/kv/network/red'], answer: { key: 'network/red', value: { name: 'red', vni: 4096 } } },
  {
    request: ['GET', '/v1/kv/vlanStore'],
    answer: {
      value: {
        size: 2 ** 24,
        used: 1,
        set: [
          [0, 0],
          [4096, 4096]
        ]
      }
    }
  },
  { request: ['GET', '/v1/kv?prefix=host/&limit=1'], answer: { entries: [{ key: 'host/h1' }], next: 'host/h1' } },
  { request: ['GET', '/v1/kv?prefix=host/&after=host/h1'], answer: { entries: [{ key: 'host/h2' }], next: null } },
  { request: ['GET', '/v1/networks'], answer: [{ name: 'red', subnet: '10.1.0.0/24' }] },
  { request: ['GET', '/v1/networks?limit=9'], answer: { items: [{ name: 'red', subnet: '10.1.0.0/24' }] } },
  { request: ['POST', '/v1/networks', BLUE], status: 201, answer: { name: 'blue', vni: 4097, gateway: '10.1.0.1' } },
  { request: ['GET', '/v1/networks/red'], answer: { name: 'red', vni: 4096, mtu: 1450 } },
  { request: ['PATCH', '/v1/networks/red', { egressRate: '10mbit' }], answer: { egressRate: 10_000_000 } },
  { request: ['PATCH', '/v1/networks/red', {}], answer: { egressRate: 0, egressV6: 'nat' } },
  { request: ['DELETE', '/v1/networks/red'], answer: { name: 'red' } },
  { request: ['DELETE', '/v1/networks/red?force=true'], answer: { name: 'red' } },
  { request: ['GET', '/v1/endpoints'], answer: [{ containerId: LONG_ID }] },
  { request: ['GET', '/v1/endpoints?network=red'], answer: [{ containerId: LONG_ID }] },
  { request: ['GET', '/v1/endpoints?network=red&limit=9'], answer: { items: [{ containerId: LONG_ID }] } },
  { request: ['POST', '/v1/endpoints', WEB], status: 201, answer: { containerId: 'web', address: '10.1.0.3/24' } },
  { request: ['GET', `/v1/endpoints/${LONG_ID}`], answer: [{ containerId: LONG_ID, ifname: 'eth0' }] },
  { request: ['GET', `/v1/endpoints/${LONG_ID}?ifname=eth0`], answer: [{ host: 'h1' }] },
  {
    request: ['PATCH', `/v1/endpoints/${LONG_ID}`, { egressRate: '5mbit' }],
    answer: { egressRate: 5e6, ingressRate: 0 }
  },
  {
    request: ['PATCH', `/v1/endpoints/${LONG_ID}?ifname=eth0`, { ingressRate: 'none', delayUs: '1ms' }],
    answer: { ingressRate: 0, delayUs: 1_000 }
  },
  { request: ['DELETE', `/v1/endpoints/${LONG_ID}`], answer: { address: '10.1.0.2/24' } },
  { request: ['DELETE', `/v1/endpoints/${LONG_ID}?ifname=eth0`], answer: { address: '10.1.0.2/24' } }
]

t.test('every route answers from the state', async t => {
  for (const { request, status = 200, answer } of ROUTES) {
    const agent = new MemoryHost()
    const occupied = !request[0].startsWith('DELETE') || request[1].includes('/endpoints')
    if (occupied || request[1].includes('force')) {
      await ask(agent, 'POST', '/v1/endpoints', { ...WEB, containerId: LONG_ID })
    }
    const { json, status: got } = await ask(agent, ...request)
    t.equal(got, status, `${request[0]} ${request[1]}`)
    t.match(json, answer, `${request[0]} ${request[1]}`)
  }
})

t.test('a body reaches the agent parsed and with defaults', async t => {
  const agent = new MemoryHost()
  await ask(agent, 'POST', '/v1/networks', { ...BLUE, vni: 7, egressRate: '1gbit', mtu: 1400, egress: false })
  await ask(agent, 'POST', '/v1/endpoints', { network: 'red', containerId: 'web', pid: 42, delayUs: '10ms' })
  t.match(agent.asked, [
    { name: 'blue', subnet: { base: 0x0a010000, prefixLength: 24 }, vni: 7, egressRate: 1e9, mtu: 1400, egress: false },
    { netns: '/proc/42/ns/net', ifname: 'eth0', name: '', ingressRate: 0, egressRate: 0, delayUs: 10_000 }
  ])
  t.notOk(Object.hasOwn(agent.asked[0] as object, 'gateway'), 'an absent field stays absent, not undefined')
  t.notOk(
    Object.hasOwn(agent.asked[0] as object, 'egressV6'),
    'nor is a sparse setting sent to versions that do not know it'
  )
  await ask(agent, 'POST', '/v1/networks', { ...BLUE, name: 'green', egressV6: 'routed' })
  t.match(agent.asked[2], { egressV6: 'routed' })
})

/** h1 with the latest rules. */
function host6(): MemoryHost {
  const agent = new MemoryHost()
  agent.caller.raise()
  return agent
}

t.test('a network and an endpoint are made with one or both families', async t => {
  const agent = host6()
  const made = async (name: string, body: object): Promise<unknown> =>
    (await ask(agent, 'POST', '/v1/networks', { name, ...body })).json
  t.match(await made('six', { subnet: 'FD00:6::/64' }), { subnet: 'fd00:6::/64', subnets: ['fd00:6::/64'] })
  t.match(await made('one', { subnets: ['10.2.0.0/24'] }), { subnet: '10.2.0.0/24', gateways: ['10.2.0.1'] })
  const both = { subnet: '10.3.0.0/24', subnets: ['10.3.0.0/24', 'fd00:3::/64'], gateways: ['10.3.0.1', 'fd00:3::1'] }
  t.match(await made('both', { subnets: ['fd00:3::/64', '10.3.0.0/24'] }), both)
  t.match((await ask(agent, 'GET', '/v1/networks?limit=9')).json, { items: [{}, {}, {}, both] })
  const attached = async (network: string, containerId: string, body: object): Promise<unknown> =>
    (await ask(agent, 'POST', '/v1/endpoints', { ...WEB, network, containerId, ...body })).json
  t.match(await attached('both', 'a', {}), {
    ...{ address: '10.3.0.2/24', addresses: ['10.3.0.2/24', 'fd00:3::2/64'] },
    ...{ gateway: '10.3.0.1', gateways: ['10.3.0.1', 'fd00:3::1'] }
  })
  for (const [id, asked, addresses] of [
    ['b', { address: '10.3.0.9' }, ['10.3.0.9/24', 'fd00:3::9/64']],
    ['c', { address: 'fd00:3::77' }, ['10.3.0.3/24', 'fd00:3::77/64']],
    ['d', { addresses: ['fd00:3::88'] }, ['10.3.0.4/24', 'fd00:3::88/64']],
    ['e', { addresses: ['fd00:3::99', '10.3.0.10'] }, ['10.3.0.10/24', 'fd00:3::99/64']],
    ['f', { addresses: [] }, ['10.3.0.5/24', 'fd00:3::5/64']]
  ] as const)
    t.match(await attached('both', id, asked), { addresses }, id)
  t.match(await attached('six', 'g', { addresses: ['fd00:6::1:0:0:9'] }), { address: 'fd00:6::1:0:0:9/64' })
  t.match((await ask(agent, 'GET', '/v1/endpoints?network=both&limit=1')).json, { items: [{ containerId: 'a' }] })
})

t.test('an endpoint is attached with labels, which change and by which lists are filtered', async t => {
  const agent = host6()
  const ids = async (query: string): Promise<unknown> => {
    const { json } = await ask(agent, 'GET', `/v1/endpoints${query}`)
    const rows = Array.isArray(json) ? json : (json as { items: unknown[] }).items
    return (rows as { containerId: string }[]).map(({ containerId }) => containerId)
  }
  t.match(
    (await ask(agent, 'POST', '/v1/endpoints', { ...WEB, labels: { app: 'web', 'example.com/tier': 'front' } })).json,
    {
      labels: { app: 'web', 'example.com/tier': 'front' }
    }
  )
  t.strictSame(
    ((await ask(agent, 'POST', '/v1/endpoints', { ...WEB, containerId: 'db' })).json as { labels: unknown }).labels,
    {}
  )
  for (const [query, found] of [
    ['', ['web', 'db']],
    ['?label=app', ['web']],
    ['?label=app%3Dweb', ['web']],
    ['?label=app=web&label=example.com/tier', ['web']],
    ['?network=red&label=app=web&limit=1', ['web']],
    ['?label=app=db', []],
    ['?label=app=web&label=none&limit=1', []]
  ] as const)
    t.same(await ids(query), found, query)
  const changed = await ask(agent, 'PATCH', '/v1/endpoints/web', { labels: { app: null, zone: '' } })
  t.strictSame((changed.json as { labels: unknown }).labels, { 'example.com/tier': 'front', zone: '' })
  t.same(await ids('?label=zone='), ['web'])
  t.match((await ask(agent, 'PATCH', '/v1/endpoints/db', { egressRate: 8_000, labels: { app: 'db' } })).json, {
    ...{ egressRate: 8_000, labels: { app: 'db' } }
  })
  t.match((await ask(agent, 'PATCH', '/v1/endpoints/db', { labels: {} })).json, { labels: { app: 'db' } })
  t.match((await ask(agent, 'GET', '/v1/kv/endpoint/red/db/eth0')).json, { value: { labels: { app: 'db' } } })
})

t.test('labels that an endpoint cannot have are refused by that field, and before the rules allow them', async t => {
  const agent = host6()
  await ask(agent, 'POST', '/v1/endpoints', { ...WEB, labels: { app: 'web' } })
  const many = (count: number): object => Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, '']))
  for (const labels of [{ 'a b': '' }, { app: '-' }, { 'A/b': '' }, many(33), ['app'], 'app=web', { app: 7 }]) {
    for (const [method, url, body] of [
      ['POST', '/v1/endpoints', { ...WEB, containerId: 'x' }],
      ['PATCH', '/v1/endpoints/web', {}]
    ] as const) {
      const { status, error } = await ask(agent, method, url, { ...body, labels })
      t.equal(status, 400)
      t.match(error, { code: 'ERR_INVALID', field: /^labels/, message: /^labels/ }, JSON.stringify(labels))
    }
  }
  for (const [body, field] of [
    [{ ...WEB, containerId: 'x', labels: { app: null } }, 'labels.app'],
    [{ ...WEB, containerId: 'x', labels: null }, 'labels']
  ] as const)
    t.match((await ask(agent, 'POST', '/v1/endpoints', body)).error, { code: 'ERR_INVALID', field })
  t.match((await ask(agent, 'PATCH', '/v1/endpoints/web', { labels: many(32) })).error, {
    ...{ code: 'ERR_INVALID', field: 'labels', message: /33 labels/ }
  })
  for (const query of ['label=', 'label==x', 'label=a%20b', 'label=app=a/b', `label=${'x'.repeat(400)}`])
    t.match((await ask(agent, 'GET', `/v1/endpoints?${query}`)).error, { code: 'ERR_INVALID', field: 'label' }, query)
  t.equal(agent.caller.state.endpointCount, 1)

  const early = new MemoryHost()
  t.match(await ask(early, 'POST', '/v1/endpoints', { ...WEB, labels: { app: 'web' } }), {
    status: 501,
    error: { code: 'ERR_UNSUPPORTED', field: 'labels', message: /upgrade vxmesh to 0\.3 on h1, h2 first/ }
  })
  t.equal((await ask(early, 'POST', '/v1/endpoints', { ...WEB, labels: {} })).status, 201)
})

t.test('a network gets a subnet of the other family, and its endpoints their addresses', async t => {
  const agent = host6()
  await ask(agent, 'POST', '/v1/endpoints', WEB)
  const patch = async (name: string, body: object): Promise<Answer> => ask(agent, 'PATCH', `/v1/networks/${name}`, body)
  t.match(await patch('red', { addSubnet: 'fd00:1::/64', egressRate: '8mbit' }), {
    json: { subnets: ['10.1.0.0/24', 'fd00:1::/64'], egressRate: 8e6 }
  })
  t.match((await ask(agent, 'GET', '/v1/endpoints/web')).json, [{ addresses: ['10.1.0.2/24', 'fd00:1::2/64'] }])
  t.match(await patch('red', { addSubnet: 'fd00:1::/64' }), { status: 200 }, 'again')
  await ask(agent, 'POST', '/v1/networks', { name: 'six', subnet: 'fd00:6::/64' })
  await ask(agent, 'POST', '/v1/endpoints', { ...WEB, network: 'six', containerId: 'db' })
  t.match(await patch('six', { addSubnet: '10.6.0.0/24' }), { json: { subnets: ['10.6.0.0/24', 'fd00:6::/64'] } })
  t.match((await ask(agent, 'GET', '/v1/endpoints/db')).json, [{ addresses: ['10.6.0.2/24', 'fd00:6::2/64'] }])
  t.match((await ask(agent, 'GET', '/v1/kv/endpoint/six/db/eth0')).json, {
    value: { address: '10.6.0.2', address6: 'fd00:6::2' }
  })
})

type Refusal = readonly [method: Method, url: string, body: unknown, code: ErrorCode, field?: string]

const REFUSED: readonly Refusal[] = [
  ['GET', '/v1/nothing', undefined, 'ERR_ROUTE_NOT_FOUND'],
  ['POST', '/v1/members', undefined, 'ERR_ROUTE_NOT_FOUND'],
  ['GET', '/', undefined, 'ERR_ROUTE_NOT_FOUND'],
  ['GET', '/v1/networks/%zz', undefined, 'ERR_INVALID', 'url'],
  ['GET', `/v1/networks/${'a'.repeat(2_000)}`, undefined, 'ERR_INVALID', 'url'],
  ['GET', '/v1/networks/BLUE', undefined, 'ERR_INVALID', 'name'],
  ['GET', '/v1/networks/..%2f..%2fetc', undefined, 'ERR_INVALID', 'name'],
  ['GET', '/v1/networks/nope', undefined, 'ERR_NETWORK_NOT_FOUND'],
  ['PATCH', '/v1/networks/nope', {}, 'ERR_NETWORK_NOT_FOUND'],
  ['PATCH', '/v1/networks/red', { egressRate: 'fast' }, 'ERR_INVALID', 'egressRate'],
  ['PATCH', '/v1/networks/red', { egressV6: 'none' }, 'ERR_INVALID', 'egressV6'],
  ['PATCH', '/v1/networks/red', { vni: 7 }, 'ERR_INVALID', 'vni'],
  ['DELETE', '/v1/networks/nope', undefined, 'ERR_NETWORK_NOT_FOUND'],
  ['PATCH', '/v1/endpoints/nope', { egressRate: 0 }, 'ERR_ENDPOINT_NOT_FOUND', 'containerId'],
  ['PATCH', '/v1/endpoints/nope', {}, 'ERR_INVALID', 'body'],
  ['PATCH', '/v1/endpoints/nope', { egressRate: 7 }, 'ERR_INVALID', 'egressRate'],
  ['PATCH', '/v1/endpoints/nope', { delayUs: -1 }, 'ERR_INVALID', 'delayUs'],
  ['PATCH', '/v1/endpoints/nope', { address: '10.1.0.9' }, 'ERR_INVALID', 'address'],
  ['PATCH', '/v1/endpoints/nope?ifname=a%2fb', { egressRate: 0 }, 'ERR_INVALID', 'ifname'],
  ['DELETE', '/v1/networks/red', undefined, 'ERR_NETWORK_IN_USE'],
  ['DELETE', '/v1/networks/red?force=yes', undefined, 'ERR_INVALID', 'force'],
  ['DELETE', '/v1/networks/red?force=true&force=true', undefined, 'ERR_INVALID', 'force'],
  ['POST', '/v1/networks', undefined, 'ERR_INVALID', 'body'],
  ['POST', '/v1/networks', [], 'ERR_INVALID', 'body'],
  ['POST', '/v1/networks', 'text', 'ERR_INVALID', 'body'],
  ['POST', '/v1/networks', { name: 'blue' }, 'ERR_INVALID', 'subnet'],
  ['POST', '/v1/networks', { ...BLUE, name: 'red' }, 'ERR_NETWORK_EXISTS', 'name'],
  ['POST', '/v1/networks', { ...BLUE, name: '-blue' }, 'ERR_INVALID', 'name'],
  ['POST', '/v1/networks', { ...BLUE, name: 5 }, 'ERR_INVALID', 'name'],
  ['POST', '/v1/networks', { ...BLUE, subnet: '10.1.0.5/24' }, 'ERR_INVALID', 'subnet'],
  ['POST', '/v1/networks', { ...BLUE, subnet: '10.1.0.0/33' }, 'ERR_INVALID', 'subnet'],
  ['POST', '/v1/networks', { ...BLUE, subnets: ['10.1.0.0/24'] }, 'ERR_INVALID', 'subnet'],
  ['POST', '/v1/networks', { name: 'blue', subnets: [] }, 'ERR_INVALID', 'subnets'],
  ['POST', '/v1/networks', { name: 'blue', subnets: '10.1.0.0/24' }, 'ERR_INVALID', 'subnets'],
  ['POST', '/v1/networks', { name: 'blue', subnets: ['10.1.0.0/24', '10.2.0.0/24'] }, 'ERR_INVALID', 'subnets'],
  ['POST', '/v1/networks', { name: 'blue', subnets: ['fd00:1::/64', 'fd00:2::/64'] }, 'ERR_INVALID', 'subnets'],
  ['POST', '/v1/networks', { name: 'blue', subnets: ['10.1.0.0/24', 'fd00:1::5/64'] }, 'ERR_INVALID', 'subnets.1'],
  [
    'POST',
    '/v1/networks',
    { name: 'blue', subnets: ['10.1.0.0/24', 'fd00:1::/64', 'fd00:2::/64'] },
    'ERR_INVALID',
    'subnets'
  ],
  ['PATCH', '/v1/networks/red', { addSubnet: 'fd00:1::5/64' }, 'ERR_INVALID', 'addSubnet'],
  ['PATCH', '/v1/networks/red', { addSubnet: ['fd00:1::/64'] }, 'ERR_INVALID', 'addSubnet'],
  ['POST', '/v1/networks', { ...BLUE, gateway: '010.1.0.1' }, 'ERR_INVALID', 'gateway'],
  ['POST', '/v1/networks', { ...BLUE, gateway: '10.9.0.1' }, 'ERR_INVALID', 'gateway'],
  ['POST', '/v1/networks', { ...BLUE, vni: 0 }, 'ERR_INVALID', 'vni'],
  ['POST', '/v1/networks', { ...BLUE, vni: 4096 }, 'ERR_VNI_IN_USE', 'vni'],
  ['POST', '/v1/networks', { ...BLUE, mtu: 10 }, 'ERR_INVALID', 'mtu'],
  ['POST', '/v1/networks', { ...BLUE, egress: 'no' }, 'ERR_INVALID', 'egress'],
  ['POST', '/v1/networks', { ...BLUE, egressV6: true }, 'ERR_INVALID', 'egressV6'],
  ['POST', '/v1/networks', { ...BLUE, egressRate: -1 }, 'ERR_INVALID', 'egressRate'],
  ['POST', '/v1/networks', { ...BLUE, requestId: 'r'.repeat(257) }, 'ERR_INVALID', 'requestId'],
  ['POST', '/v1/networks', { ...BLUE, colour: 'blue' }, 'ERR_INVALID', 'colour'],
  ['POST', '/v1/networks', { ...BLUE, name: 'x'.repeat(70_000) }, 'ERR_TOO_LARGE'],
  ...['members', 'hosts', 'namespaces', 'networks', 'endpoints'].flatMap((list): Refusal[] => [
    ['GET', `/v1/${list}?limit=0`, undefined, 'ERR_INVALID', 'limit'],
    ['GET', `/v1/${list}?limit=1001`, undefined, 'ERR_INVALID', 'limit'],
    ['GET', `/v1/${list}?continue=`, undefined, 'ERR_INVALID', 'continue'],
    ['GET', `/v1/${list}?continue=nope`, undefined, 'ERR_INVALID', 'continue'],
    ['GET', `/v1/${list}?continue=${'a'.repeat(1_025)}`, undefined, 'ERR_INVALID', 'continue'],
    ['GET', `/v1/${list}?continue=a&continue=b`, undefined, 'ERR_INVALID', 'continue']
  ]),
  ['GET', '/v1/endpoints?network=nope', undefined, 'ERR_NETWORK_NOT_FOUND'],
  ['GET', '/v1/endpoints?network=a&network=b', undefined, 'ERR_INVALID', 'network'],
  ['GET', '/v1/endpoints/nope', undefined, 'ERR_ENDPOINT_NOT_FOUND'],
  ['GET', '/v1/endpoints/.hidden', undefined, 'ERR_INVALID', 'containerId'],
  ['GET', `/v1/endpoints/${LONG_ID}c`, undefined, 'ERR_INVALID', 'containerId'],
  ['GET', `/v1/endpoints/${LONG_ID}?ifname=a/b`, undefined, 'ERR_INVALID', 'ifname'],
  ['DELETE', '/v1/endpoints/nope', undefined, 'ERR_ENDPOINT_NOT_FOUND'],
  ['DELETE', `/v1/endpoints/${LONG_ID}?ifname=eth1`, undefined, 'ERR_ENDPOINT_NOT_FOUND'],
  ['POST', '/v1/endpoints', {}, 'ERR_INVALID', 'network'],
  ['POST', '/v1/endpoints', { ...WEB, network: 'nope' }, 'ERR_NETWORK_NOT_FOUND', 'network'],
  ['POST', '/v1/endpoints', { ...WEB, netns: 'web' }, 'ERR_INVALID', 'netns'],
  ['POST', '/v1/endpoints', { ...WEB, pid: 1 }, 'ERR_INVALID', 'netns'],
  ['POST', '/v1/endpoints', { network: 'red', containerId: 'web' }, 'ERR_INVALID', 'netns'],
  ['POST', '/v1/endpoints', { network: 'red', containerId: 'web', pid: 1.5 }, 'ERR_INVALID', 'pid'],
  ['POST', '/v1/endpoints', { ...WEB, containerId: 'a b' }, 'ERR_INVALID', 'containerId'],
  ['POST', '/v1/endpoints', { ...WEB, ifname: 'an-interface-too-long' }, 'ERR_INVALID', 'ifname'],
  ['POST', '/v1/endpoints', { ...WEB, address: '10.9.0.1' }, 'ERR_INVALID', 'address'],
  ['POST', '/v1/endpoints', { ...WEB, address: '10.1.0.2' }, 'ERR_ADDRESS_IN_USE', 'address'],
  ['POST', '/v1/endpoints', { ...WEB, address: 'fd00::5/64' }, 'ERR_INVALID', 'address'],
  ['POST', '/v1/endpoints', { ...WEB, address: '10.1.0.9', addresses: ['10.1.0.9'] }, 'ERR_INVALID', 'address'],
  ['POST', '/v1/endpoints', { ...WEB, addresses: ['10.1.0.9', '10.1.0.10'] }, 'ERR_INVALID', 'addresses'],
  ['POST', '/v1/endpoints', { ...WEB, addresses: ['fd00::5', 'fd00::6'] }, 'ERR_INVALID', 'addresses'],
  ['POST', '/v1/endpoints', { ...WEB, addresses: ['10.1.0.9', 'fd00::%1'] }, 'ERR_INVALID', 'addresses.1'],
  ['POST', '/v1/endpoints', { ...WEB, addresses: '10.1.0.9' }, 'ERR_INVALID', 'addresses'],
  ['POST', '/v1/endpoints', { ...WEB, mac: 'ff:ff:ff:ff:ff:ff' }, 'ERR_INVALID', 'mac'],
  ['POST', '/v1/endpoints', { ...WEB, delayUs: '61s' }, 'ERR_INVALID', 'delayUs'],
  ['POST', '/v1/endpoints', { ...WEB, name: 'n'.repeat(257) }, 'ERR_INVALID', 'name'],
  ['GET', '/v1/kv/nope', undefined, 'ERR_KEY_NOT_FOUND', 'key'],
  ['GET', '/v1/kv/', undefined, 'ERR_KEY_NOT_FOUND', 'key'],
  ['GET', '/v1/kv/network/__proto__', undefined, 'ERR_KEY_NOT_FOUND', 'key'],
  ['GET', `/v1/kv/${'a/'.repeat(300)}`, undefined, 'ERR_INVALID', 'key'],
  ['GET', '/v1/kv?limit=0', undefined, 'ERR_INVALID', 'limit'],
  ['GET', '/v1/kv?limit=1001', undefined, 'ERR_INVALID', 'limit'],
  ['GET', '/v1/kv?limit=1e2', undefined, 'ERR_INVALID', 'limit'],
  ['GET', '/v1/kv?prefix=a&prefix=b', undefined, 'ERR_INVALID', 'prefix'],
  ['GET', `/v1/kv?after=${'a'.repeat(257)}`, undefined, 'ERR_INVALID', 'after'],
  ['GET', '/v1/hosts/nope', undefined, 'ERR_HOST_NOT_FOUND'],
  ['GET', '/v1/hosts/h_1', undefined, 'ERR_INVALID', 'name'],
  ['DELETE', '/v1/hosts/nope', undefined, 'ERR_HOST_NOT_FOUND'],
  ['POST', '/v1/join', { addresses: [] }, 'ERR_INVALID', 'addresses'],
  ['POST', '/v1/join', { addresses: ['host'] }, 'ERR_INVALID', 'addresses.0'],
  ['POST', '/v1/join', { addresses: ['192.0.2.1:0'] }, 'ERR_INVALID', 'addresses.0'],
  ['POST', '/v1/join', { addresses: Array<string>(65).fill('192.0.2.1') }, 'ERR_INVALID', 'addresses'],
  ['POST', '/v1/join', {}, 'ERR_INVALID', 'addresses']
]

const REFUSED6: readonly Refusal[] = [
  ['POST', '/v1/networks', { name: 'x', subnets: ['10.4.0.0/24', 'fd00:4::/121'] }, 'ERR_INVALID', 'subnets'],
  ['POST', '/v1/networks', { name: 'x', subnet: 'fd00:4::/127' }, 'ERR_INVALID', 'subnet'],
  ['POST', '/v1/networks', { name: 'x', subnet: 'fd00:4::/64', gateway: '10.4.0.1' }, 'ERR_INVALID', 'gateway'],
  ['PATCH', '/v1/networks/red', { addSubnet: '10.4.0.0/24' }, 'ERR_INVALID', 'subnet'],
  ['PATCH', '/v1/networks/red', { addSubnet: 'fd00:4::/121' }, 'ERR_INVALID', 'subnet'],
  ['POST', '/v1/endpoints', { ...WEB, address: 'fd00:4::5' }, 'ERR_INVALID', 'address'],
  ['POST', '/v1/endpoints', { ...WEB, network: 'both', addresses: ['fd00:5::1'] }, 'ERR_INVALID', 'address'],
  ['POST', '/v1/endpoints', { ...WEB, network: 'both', address: 'fd00:5::2' }, 'ERR_ADDRESS_IN_USE', 'address']
]

t.test('an invalid request is refused with code and field, and changes nothing', async t => {
  const agent = new MemoryHost()
  await ask(agent, 'POST', '/v1/endpoints', { ...WEB, containerId: LONG_ID })
  await refused(t, agent, REFUSED)
})

t.test('before every host knows IPv6, it is refused as unsupported', async t => {
  const agent = new MemoryHost()
  for (const [method, url, body, field] of [
    ['POST', '/v1/networks', { ...BLUE, subnet: 'fd00:1::/64' }, 'subnet'],
    ['POST', '/v1/networks', { name: 'blue', subnets: ['10.1.0.0/24', 'fd00:1::/64'] }, 'subnet'],
    ['PATCH', '/v1/networks/red', { addSubnet: 'fd00:1::/64' }, 'subnet'],
    ['POST', '/v1/endpoints', { ...WEB, address: 'fd00::5' }, 'address']
  ] as const) {
    const { status, error } = await ask(agent, method, url, body)
    t.match({ status, error }, { status: 501, error: { code: 'ERR_UNSUPPORTED', field } }, url)
  }
  t.same([agent.caller.state.networkCount, agent.caller.state.endpointCount], [1, 0])
})

t.test('as are those about IPv6 once the cluster allows it', async t => {
  const agent = host6()
  await ask(agent, 'POST', '/v1/networks', { name: 'both', subnets: ['10.5.0.0/24', 'fd00:5::/64'] })
  await ask(agent, 'POST', '/v1/endpoints', { ...WEB, network: 'both', containerId: LONG_ID })
  await refused(t, agent, REFUSED6)
})

async function refused(t: Test, agent: MemoryHost, requests: readonly Refusal[]): Promise<void> {
  for (const [method, url, body, code, field] of requests) {
    const { state } = agent.caller
    const before = [state.networkCount, state.endpointCount, state.hostByName('h2' as never)]
    const { error, status } = await ask(agent, method, url, body)
    const title = `${method} ${url.slice(0, 60)} ${(JSON.stringify(body) as string | undefined)?.slice(0, 80) ?? ''}`
    t.equal(error?.code, code, title)
    if (field !== undefined) t.equal(error?.field, field, title)
    if (field !== undefined && code === 'ERR_INVALID') t.ok(error?.message.startsWith(`${field}: `), title)
    t.ok(status >= 400 && status < 500, `${title} ${status}`)
    t.same([state.networkCount, state.endpointCount, state.hostByName('h2' as never)], before, title)
  }
}

t.test('a body that is not JSON, or would change a prototype, is refused', async t => {
  const server = buildApi({ agent: new MemoryHost().port, logger, clock: systemClock })
  t.teardown(() => server.close())
  const body = JSON.stringify(BLUE)
  for (const [type, payload] of [
    ['application/json', '{"name": "blue", '],
    ['application/json', ''],
    ['application/json', '{"__proto__": {"egress": false}, "name": "blue", "subnet": "10.1.0.0/24"}'],
    ['application/json', '{"constructor": {"prototype": {"x": 1}}, "name": "blue", "subnet": "10.1.0.0/24"}'],
    ['text/plain', body],
    ['application/xml', body],
    ['application/x-www-form-urlencoded', 'name=blue&subnet=10.1.0.0/24']
  ] as const) {
    const headers = { 'content-type': type }
    const response = await server.inject({ method: 'POST', url: '/v1/networks', headers, payload })
    t.equal(response.statusCode, 400, `${type} ${payload}`)
    t.match(response.json(), { error: { code: 'ERR_INVALID', field: 'body' } }, `${type} ${payload}`)
  }
  t.equal(({} as Record<string, unknown>)['egress'], undefined)
})

t.test('the agent’s errors keep code, message and field; unexpected ones become ERR_INTERNAL', async t => {
  const agent = new MemoryHost()
  for (const [code, status] of [
    ['ERR_NO_QUORUM', 503],
    ['ERR_SUBNET_EXHAUSTED', 507],
    ['ERR_KERNEL', 500],
    ['ERR_UNSUPPORTED', 501],
    ['ERR_TIMEOUT', 504]
  ] as const) {
    agent.refusal = new VxmeshError(code, 'why', { field: 'netns', context: { secret: 'x' } })
    const answer = await ask(agent, 'GET', '/v1/status')
    t.equal(answer.status, status, code)
    t.strictSame(answer.json, { error: { code, message: 'why', field: 'netns' } })
  }
  agent.refusal = new TypeError('x is undefined')
  const answer = await ask(agent, 'GET', '/v1/status')
  t.equal(answer.status, 500)
  t.strictSame(answer.json, { error: { code: 'ERR_INTERNAL', message: 'x is undefined' } })
})

t.test('the socket has mode 0600 in a directory of mode 0700, answers, and is removed on close', async t => {
  const here = scratch(t)
  const directory = join(here, 'run')
  const socketPath = join(directory, 'agent.sock')
  const before = await fresh(here, 'before')
  const api = await startApi({ socketPath, agent: new MemoryHost().port, clock: systemClock, logger })
  t.equal((await stat(socketPath)).mode & 0o777, 0o600)
  t.equal((await stat(directory)).mode & 0o777, 0o700)
  t.equal(await fresh(here, 'after'), before, 'files created afterwards have the same permissions as before')
  t.equal(await get(socketPath), 200)
  await t.rejects(startApi({ socketPath, agent: new MemoryHost().port, clock: systemClock, logger }), {
    code: 'ERR_CONFIG',
    field: 'socket',
    message: /an agent is listening/
  })
  t.equal(await get(socketPath), 200, 'the second agent’s failure has not affected the first')
  await api.close()
  await t.rejects(stat(socketPath), { code: 'ENOENT' })
})

t.test('events are a stream of lines', async t => {
  const socketPath = join(scratch(t), 'agent.sock')
  const api = await startApi({ socketPath, agent: new MemoryHost().port, clock: systemClock, logger })
  t.teardown(() => api.close())
  for await (const line of new ApiClient(socketPath).lines('/v1/events')) {
    t.match(JSON.parse(line), { kind: 'watching', index: 4 })
    break
  }
  const kinds: unknown[] = []
  for await (const line of new ApiClient(socketPath).lines('/v1/events?recent=true')) {
    if (kinds.push((JSON.parse(line) as { kind: string }).kind) === 2) break
  }
  t.same(kinds, ['member-vanished', 'watching'], 'recent events come first if requested')
  await t.rejects(new ApiClient(socketPath).lines('/v1/events?recent=yes').next(), {
    code: 'ERR_INVALID',
    field: 'recent'
  })
})

t.test('a file that is not a socket is not replaced', async t => {
  const socketPath = join(scratch(t), 'agent.sock')
  await writeFile(socketPath, 'precious')
  await t.rejects(startApi({ socketPath, agent: new MemoryHost().port, clock: systemClock, logger }), {
    code: 'ERR_CONFIG',
    field: 'socket'
  })
})

/** The mode of a newly created file. */
async function fresh(directory: string, name: string): Promise<number> {
  await writeFile(join(directory, name), '')
  return (await stat(join(directory, name))).mode
}

function get(socketPath: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: '/v1/status' }, response => {
      response.resume()
      response.on('end', () => resolve(response.statusCode))
    })
      .on('error', reject)
      .end()
  })
}

t.test('idle connections do not hold the API when descriptors have run out', { timeout: 60_000 }, async t => {
  const dir = scratch(t)
  const socketPath = join(dir, 'agent.sock')
  // A process of its own with 3 descriptors to spare.
  const program = `
    import { startApi } from '#api/server.ts'
    import { MemoryHost } from '#test/agent/memory-host.ts'
    import { systemClock } from '#platform/clock.ts'
    import { createLogger } from '#platform/log.ts'
    import { openSync, readdirSync } from 'node:fs'
    await startApi({ socketPath: '${socketPath}', agent: new MemoryHost().port, logger: createLogger('silent'), clock: systemClock })
    for (let n = readdirSync('/proc/self/fd').length; n < 253; n++) openSync('/dev/null', 'r')
    console.log('up')`
  const argv = ['--nofile=256', process.execPath, '--input-type=module-typescript', '-e', program]
  const agent = spawn('prlimit', argv, {
    cwd: join(import.meta.dirname, '../..'),
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => agent.kill('SIGKILL'))
  await once(agent.stdout, 'data')
  const idle = Array.from({ length: 30 }, () => connect(socketPath).on('error', () => undefined))
  t.teardown(() => idle.forEach(socket => socket.destroy()))
  await once(idle[0] ?? agent, 'connect')
  const client = new ApiClient(socketPath)
  const status = await waitFor('the API answers again', () => client.call('GET', '/v1/status').catch(() => false), {
    timeoutMs: 20_000
  })
  t.match(status, { host: 'h1' })
})
