// What the paper's structs hold for networks and containers of both families: the numbers are IPv4's, the detail has all.

import t from 'tap'
import { connectionOfEvent } from '#zmq/answers.ts'
import {
  decodeConnection,
  decodeHeader,
  decodeNetwork,
  ERROR_TYPE,
  type Connection,
  type RequestKind
} from '#zmq/message.ts'
import { ZmqService } from '#zmq/service.ts'
import { create } from '../allocator/fixtures.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'

const NOTHING = { ovsPortId: 0, bandwidth: 0, delay: 0, rxTotal: 0, txTotal: 0, rxRate: 0, txRate: 0 }

/** Networks red (10.1.0.0/24), both (10.2.0.0/24 and fd00:2::/64) and six (fd00:6::/64). */
function ready(): { readonly host: MemoryHost; readonly service: ZmqService } {
  const host = new MemoryHost()
  host.caller.raise()
  host.caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  host.caller.do(create('six', { subnet: 'fd00:6::/64' }))
  return { host, service: new ZmqService(host.port, () => 7) }
}

function asking(id: string, detail: object, numbers: Partial<Connection> = {}): Connection {
  const connDetail = JSON.stringify({ netns: `/run/netns/${id}`, ...detail })
  return { id, name: '', pid: '', requestIp: 0, network: 0, ...NOTHING, connDetail, ...numbers }
}

type Answer = { readonly connection: Connection; readonly detail: Readonly<Record<string, unknown>> }

/** @throws the error that was answered */
async function answered(
  service: ZmqService,
  connection: Connection,
  kind: Extract<RequestKind, `connection-${string}`> = 'connection-create'
): Promise<Answer> {
  const types = {
    'connection-create': 1,
    'connection-delete': 2,
    'connection-query': 3,
    'connection-update': 4
  } as const
  const { type, data } = decodeHeader(await service.answer({ type: types[kind], request: { kind, connection } }))
  if (type === ERROR_TYPE) throw new Error(data.toString('latin1'))
  const answer = decodeConnection(data)
  return { connection: answer, detail: JSON.parse(answer.connDetail) as Answer['detail'] }
}

t.test('a container of both families has its IPv4 address in the numbers, and all in the detail', async t => {
  const { service } = ready()
  const { connection, detail } = await answered(service, asking('a', { network: 'both' }))
  t.match(connection, { requestIp: 0x0a020002, network: 0x0a020000, ovsPortId: 7 })
  t.match(detail, {
    ...{ address: '10.2.0.2/24', addresses: ['10.2.0.2/24', 'fd00:2::2/64'] },
    ...{ subnets: ['10.2.0.0/24', 'fd00:2::/64'], gateways: ['10.2.0.1', 'fd00:2::1'] }
  })
  for (const kind of ['connection-query', 'connection-delete'] as const)
    t.match(await answered(service, { ...asking('a', {}), connDetail: '' }, kind), {
      connection: { requestIp: 0x0a020002 }
    })
})

t.test('a container of IPv6 alone has no number', async t => {
  const { service } = ready()
  const { connection, detail } = await answered(service, asking('a', { network: 'six' }))
  t.match(connection, { requestIp: 0, network: 0 })
  t.match(detail, { addresses: ['fd00:6::2/64'], subnets: ['fd00:6::/64'], gateways: ['fd00:6::1'] })
})

t.test('an address of each family may be asked for, IPv4 by number or in the detail', async t => {
  const { service } = ready()
  for (const [id, network, numbers, addresses, given] of [
    ['a', 'both', { requestIp: 0x0a020009 }, ['fd00:2::99'], ['10.2.0.9/24', 'fd00:2::99/64']],
    ['b', 'both', {}, ['fd00:2::88'], ['10.2.0.2/24', 'fd00:2::88/64']],
    ['c', 'both', {}, ['fd00:2::77', '10.2.0.7'], ['10.2.0.7/24', 'fd00:2::77/64']],
    ['d', 'both', { requestIp: 0x0a020008 }, [], ['10.2.0.8/24', 'fd00:2::8/64']],
    ['e', 'six', {}, ['fd00:6::1:0:0:9'], ['fd00:6::1:0:0:9/64']],
    ['f', 'red', {}, ['10.1.0.9'], ['10.1.0.9/24']]
  ] as const) {
    const { detail } = await answered(service, asking(id, { network, addresses }, numbers))
    t.same(detail['addresses'], given, id)
  }
})

t.test(
  'a container is connected with labels, which an update changes; rates and delay stay unless they are given',
  async t => {
    const { host, service } = ready()
    const created = await answered(
      service,
      asking('a', { network: 'red', egressRate: '1mbit', labels: { app: 'web' } })
    )
    t.same(created.detail['labels'], { app: 'web' })
    const update = (detail: object, numbers: Partial<Connection> = {}): Promise<Answer> =>
      answered(service, { ...asking('a', {}, numbers), connDetail: JSON.stringify(detail) }, 'connection-update')
    const { connection, detail } = await update({ labels: { app: null, tier: 'front' }, requestId: 'r7' })
    t.match(detail, { labels: { tier: 'front' }, egressRate: 1_000_000, requestId: 'r7', address: '10.1.0.2/24' })
    t.match(connection, { id: 'a', requestIp: 0x0a010002, bandwidth: 1_000 })
    t.match((await update({ ifname: 'eth0', delayUs: 5 })).detail, { labels: { tier: 'front' }, delayUs: 5 })
    for (const kind of ['connection-query', 'connection-delete'] as const)
      t.same((await answered(service, { ...asking('a', {}), connDetail: '' }, kind)).detail['labels'], {
        tier: 'front'
      })
    await t.rejects(update({ labels: { app: 'web' } }), { message: /ERR_ENDPOINT_NOT_FOUND/ })
    await answered(service, asking('a', { network: 'red' }))
    for (const [what, numbers, words] of [
      [{}, {}, /ConnDetail: must give at least one of labels, ingressRate, egressRate, delayUs/],
      [{ ifname: 'eth0', requestId: 'r' }, {}, /must give at least one/],
      [{ labels: { app: 'web' } }, { bandwidth: 1 }, /Bandwidth: must be 0 in an update/],
      [{ labels: { app: 'web' } }, { delay: 1 }, /Delay: must be 0 in an update/],
      [{ labels: { 'a b': '' }, requestId: 'r' }, {}, /ConnDetail.labels: the name of a key/],
      [{ network: 'red' }, {}, /ConnDetail.network: cannot be changed/]
    ] as const)
      await t.rejects(update(what, numbers), { message: words })
    await t.rejects(update({ labels: { '-': '' } }), { message: /"msgType":4,"id":"a","requestId":null/ })
    t.same(
      [...host.caller.state.endpoints()].map(({ labels }) => labels),
      [undefined]
    )
  }
)

t.test('what cannot be had is refused by its field', async t => {
  const { host, service } = ready()
  for (const [asked, words] of [
    [
      asking('a', { network: 'both', addresses: ['10.2.0.5'] }, { requestIp: 0x0a020005 }),
      /ConnDetail.addresses: must be one/
    ],
    [asking('a', { network: 'both', addresses: ['fd00:2::5', 'fd00:2::6'] }), /ConnDetail.addresses: must be one/],
    [asking('a', { network: 'six' }, { requestIp: 0x0a020005 }), /network six has no IPv4 subnet/],
    [asking('a', { network: 'red', addresses: ['fd00:2::5'] }), /network red has no IPv6 subnet/],
    [asking('a', { network: 'both', gateway: 'fd00:2::9' }), /is 10\.2\.0\.1 and fd00:2::1/]
  ] as const)
    await t.rejects(answered(service, asked), { message: words })
  t.equal(host.caller.state.endpointCount, 0)
  for (const [id, gateway] of [
    ['a', '10.2.0.1'],
    ['b', 'fd00:2::1']
  ] as const)
    await t.resolves(answered(service, asking(id, { network: 'both', gateway })), gateway)
})

t.test('the number of a network finds it by its IPv4 subnet only', async t => {
  const { service } = ready()
  const { detail } = await answered(service, asking('a', {}, { network: 0x0a020000 }))
  t.equal(detail['network'], 'both')
  await t.rejects(answered(service, asking('b', {}, { network: 0x0a060000 })), {
    message: /no network has this address/
  })
})

t.test('a network of one or both families is created, and its answer has the first subnet', async t => {
  const { host, service } = ready()
  const made = async (name: string, subnet: string, gateway = ''): Promise<unknown> => {
    const network = { name, subnet, gateway, vni: 0, egressBandwidth: 0 }
    const answer = decodeHeader(await service.answer({ type: 11, request: { kind: 'network-create', network } }))
    return answer.type === ERROR_TYPE ? answer.data.toString('latin1') : decodeNetwork(answer.data)
  }
  t.match(await made('one', 'fd00:7::/64', 'fd00:7::9'), { subnet: 'fd00:7::/64', gateway: 'fd00:7::9' })
  t.match(await made('two', '10.8.0.0/24,fd00:8::/64'), { subnet: '10.8.0.0/24', gateway: '10.8.0.1' })
  t.match(await made('two', '10.8.0.0/24,fd00:8::/64'), { subnet: '10.8.0.0/24' }, 'again')
  t.match((await host.port.networkShow('two' as never)).subnets, ['10.8.0.0/24', 'fd00:8::/64'])
  for (const [subnet, words] of [
    ['10.9.0.0/24,10.10.0.0/24', /subnet: must be one, or one of each family/],
    ['10.9.0.0/24,', /subnet: must be a subnet/],
    ['', /subnet: must be a subnet/],
    ['10.9.0.0/24,fd00:9::/121', /fewer addresses/]
  ] as const)
    t.match(await made('bad', subnet), words)
})

t.test('an event of a container of IPv6 alone has no number', t => {
  const endpoint = { network: 'six', containerId: 'a', ifname: 'eth0', name: '', host: 'h1', mac: '', vni: 9 }
  const rates = { ingressRate: 0, egressRate: 0, delayUs: 0 }
  const six = { ...endpoint, ...rates, labels: { app: 'web' }, address: 'fd00:6::2/64', addresses: ['fd00:6::2/64'] }
  t.match(connectionOfEvent(six, 5), { requestIp: 0, network: 0, connDetail: /fd00:6::2/ })
  t.match(connectionOfEvent(six, 5).connDetail, /"labels":\{"app":"web"\}/)
  const both = { ...six, address: '10.2.0.2/24', addresses: ['10.2.0.2/24', 'fd00:2::2/64'] }
  t.match(connectionOfEvent(both, 5), { requestIp: 0x0a020002, network: 0x0a020000, connDetail: /fd00:2::2/ })
  t.end()
})
