// Services by the ZeroMQ API: message types 21 to 23, and what is published of changes from elsewhere.

import t from 'tap'
import { serviceOfEvent } from '#zmq/answers.ts'
import { decodeHeader, decodeService, ERROR_TYPE, type TenantService } from '#zmq/message.ts'
import { parseServiceDetail } from '#zmq/service-detail.ts'
import { ZmqService } from '#zmq/service.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'
import { attach, create } from '#test/allocator/fixtures.ts'

const TYPES = { 'service-create': 21, 'service-delete': 22, 'service-query': 23 } as const

function ready(): { readonly host: MemoryHost; readonly service: ZmqService } {
  const host = new MemoryHost()
  host.caller.raise()
  host.caller.do(attach('red', 'c1', { labels: { app: 'web' } }))
  host.caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  return { host, service: new ZmqService(host.port, () => 7) }
}

function asking(
  network: string,
  name: string,
  detail: object | string,
  rest: Partial<TenantService> = {}
): TenantService {
  const serviceDetail = typeof detail === 'string' ? detail : JSON.stringify(detail)
  return { name, network, ports: '', requestIp: 0, affinity: 0, serviceDetail, ...rest }
}

type Answer = { readonly struct: TenantService; readonly detail: Readonly<Record<string, unknown>> }

/** @throws the error that was answered */
async function answered(
  zmq: ZmqService,
  service: TenantService,
  kind: keyof typeof TYPES = 'service-create'
): Promise<Answer> {
  const { type, data } = decodeHeader(await zmq.answer({ type: TYPES[kind], request: { kind, service } }))
  if (type === ERROR_TYPE) throw new Error(data.toString('latin1'))
  t.equal(type, TYPES[kind] + 100)
  const struct = decodeService(data)
  return { struct, detail: JSON.parse(struct.serviceDetail) as Answer['detail'] }
}

t.test('a service is created, queried and deleted', async t => {
  const { service } = ready()
  const asked = asking('red', 'web', { select: ['app=web'] }, { ports: '80:8080, 53/udp', affinity: 60 })
  const { struct, detail } = await answered(service, asked)
  t.match(struct, {
    ...{ name: 'web', network: 'red', ports: '80:8080/tcp,53:53/udp', requestIp: 0x0a010003, affinity: 60 }
  })
  t.match(detail, { addresses: ['10.1.0.3'], select: ['app=web'], backends: null, endpoints: 1 })
  t.strictSame((await answered(service, asked)).struct, struct, 'repeated')
  t.strictSame((await answered(service, asking('red', 'web', ''), 'service-query')).struct, struct)
  t.match((await answered(service, asking('red', 'web', ''), 'service-delete')).detail, { endpoints: 0 })
  await t.rejects(answered(service, asking('red', 'web', ''), 'service-query'), /ERR_SERVICE_NOT_FOUND/)
  await t.rejects(answered(service, asking('red', 'web', ''), 'service-delete'), /ERR_SERVICE_NOT_FOUND/)
})

t.test('an address of each family may be asked for, IPv4 by number or in the detail', async t => {
  const { service } = ready()
  for (const [name, requestIp, detail, expected] of [
    ['a', 0x0a600009, {}, { requestIp: 0x0a600009, addresses: ['10.96.0.9'] }],
    ['b', 0x0a60000a, { addresses: ['fd00:2::9'] }, { requestIp: 0x0a60000a, addresses: ['10.96.0.10', 'fd00:2::9'] }],
    ['c', 0, { addresses: ['fd00:2::a', '10.2.0.9'] }, { requestIp: 0x0a020009, addresses: ['10.2.0.9', 'fd00:2::a'] }],
    ['d', 0, { addresses: ['fd00:2::b'] }, { requestIp: 0, addresses: ['fd00:2::b'] }],
    ['e', 0, {}, { requestIp: 0x0a020002, addresses: ['10.2.0.2', 'fd00:2::2'] }],
    ['f', 0, { headless: true }, { requestIp: 0, addresses: [] }]
  ] as const) {
    const asked = asking('both', name, { backends: ['10.2.0.77'], ...detail }, { requestIp, ports: '80' })
    const answer = await answered(service, asked)
    t.match({ ...answer.detail, ...answer.struct }, expected, name)
  }
})

for (const [what, service, field] of [
  ['no network', asking('none', 'web', { select: ['a'] }, { ports: '80' }), 'ERR_NETWORK_NOT_FOUND'],
  ['a name that is none', asking('red', 'a b', { select: ['a'] }, { ports: '80' }), '"field":"name"'],
  ['a network that is none', asking('RED', 'web', { select: ['a'] }, { ports: '80' }), '"field":"network"'],
  ['no port', asking('red', 'web', { select: ['a'] }), '"field":"ports"'],
  ['ports that are none', asking('red', 'web', { select: ['a'] }, { ports: '80;81' }), '"field":"ports"'],
  ['an affinity below 0', asking('red', 'web', { select: ['a'] }, { ports: '80', affinity: -1 }), '"field":"affinity"'],
  ['neither selector nor backends', asking('red', 'web', '', { ports: '80' }), '"field":"ServiceDetail.select"'],
  ['both', asking('red', 'web', { select: ['a'], backends: [] }, { ports: '80' }), '"field":"ServiceDetail.select"'],
  [
    'addresses of a headless service',
    asking('red', 'web', { select: ['a'], headless: true }, { requestIp: 0x0a010009 }),
    '"field":"ServiceDetail.addresses"'
  ],
  [
    'two of one family',
    asking('red', 'web', { select: ['a'], addresses: ['10.1.0.9'] }, { requestIp: 0x0a010008, ports: '80' }),
    '"field":"ServiceDetail.addresses"'
  ]
] as const) {
  t.test(`refused: ${what}`, async t => {
    await t.rejects(answered(ready().service, service), new RegExp(field.replace('.', '\\.')))
  })
}

t.test('an invalid detail is refused with the name of the field', async t => {
  for (const [json, field] of [
    ['{', 'ServiceDetail'],
    ['[]', 'ServiceDetail'],
    ['{"unknown":1}', 'ServiceDetail.unknown'],
    ['{"__proto__":{"select":["a"]}}', 'ServiceDetail.__proto__'],
    ['{"network":"red"}', 'ServiceDetail.network'],
    ['{"select":"a"}', 'ServiceDetail.select'],
    ['{"select":[]}', 'ServiceDetail.select'],
    ['{"select":["a b"]}', 'ServiceDetail.select'],
    ['{"select":[7]}', 'ServiceDetail.select'],
    ['{"backends":["web"]}', 'ServiceDetail.backends'],
    ['{"addresses":["10.1.0.5/24"]}', 'ServiceDetail.addresses'],
    ['{"addresses":["10.1.0.5","fd00::1","fd00::2"]}', 'ServiceDetail.addresses'],
    ['{"headless":1}', 'ServiceDetail.headless'],
    ['{"requestId":""}', 'ServiceDetail.requestId']
  ] as const)
    t.throws(() => parseServiceDetail(json), { code: 'ERR_INVALID', field }, json)
  t.same(parseServiceDetail(''), {})
})

t.test('a change from elsewhere has the struct of an answer, with the index in the detail', async t => {
  const facts = {
    ...{ network: 'red', name: 'web', addresses: ['fd00::5'], affinitySeconds: 9, select: ['a'], backends: null },
    ports: [{ protocol: 'tcp', port: 80, targetPort: 80 }] as const
  }
  const { serviceDetail, ...struct } = serviceOfEvent(facts, 5)
  t.same(struct, { name: 'web', network: 'red', ports: '80:80/tcp', requestIp: 0, affinity: 9 })
  t.match(JSON.parse(serviceDetail), { event: true, index: 5, addresses: ['fd00::5'] })
})
