import t from 'tap'
import { parseDetail, parseDetailChanges } from '#zmq/detail.ts'

t.test('every field of the detail is parsed', async t => {
  t.same(parseDetail(''), {})
  t.same(parseDetail('{}'), {})
  const full = {
    network: 'blue',
    ifname: 'eth1',
    mac: '02:00:00:00:00:01',
    netns: '/run/netns/web',
    gateway: '10.0.0.1',
    addresses: ['10.0.0.5', 'FD00:1:0::5'],
    requestId: 'r1',
    ingressRate: 1_000_000,
    egressRate: '2mbit',
    delayUs: 500,
    labels: { app: 'web' }
  }
  const addresses = [0x0a000005, 'fd00:1::5']
  t.same(parseDetail(JSON.stringify(full)), { ...full, gateway: 0x0a000001, addresses, egressRate: 2_000_000 })
  t.same(parseDetail('{"gateway":"fd00:1::0:1"}'), { gateway: 'fd00:1::1' })
})

t.test('an invalid detail is refused with the name of the field', async t => {
  const cases: readonly (readonly [json: string, field: string])[] = [
    ['{', 'ConnDetail'],
    ['[]', 'ConnDetail'],
    ['null', 'ConnDetail'],
    ['"x"', 'ConnDetail'],
    ['{"unknown":1}', 'ConnDetail.unknown'],
    ['{"__proto__":{"network":"a"}}', 'ConnDetail.__proto__'],
    ['{"constructor":1}', 'ConnDetail.constructor'],
    ['{"network":5}', 'ConnDetail.network'],
    ['{"network":"../x"}', 'ConnDetail.network'],
    ['{"ifname":"a/b"}', 'ConnDetail.ifname'],
    ['{"mac":"02:00"}', 'ConnDetail.mac'],
    ['{"netns":"web"}', 'ConnDetail.netns'],
    ['{"netns":7}', 'ConnDetail.netns'],
    ['{"gateway":"10.0.0"}', 'ConnDetail.gateway'],
    ['{"gateway":"fd00::g"}', 'ConnDetail.gateway'],
    ['{"addresses":"10.0.0.5"}', 'ConnDetail.addresses'],
    ['{"addresses":[5]}', 'ConnDetail.addresses'],
    ['{"addresses":["fd00::5/64"]}', 'ConnDetail.addresses'],
    ['{"addresses":["10.0.0.5","fd00::5","fd00::6"]}', 'ConnDetail.addresses'],
    ['{"requestId":""}', 'ConnDetail.requestId'],
    [`{"requestId":"${'x'.repeat(257)}"}`, 'ConnDetail.requestId'],
    ['{"ingressRate":-1}', 'ConnDetail.ingressRate'],
    ['{"ingressRate":"fast"}', 'ConnDetail.ingressRate'],
    ['{"egressRate":1.5}', 'ConnDetail.egressRate'],
    ['{"egressRate":null}', 'ConnDetail.egressRate'],
    ['{"delayUs":"1"}', 'ConnDetail.delayUs'],
    ['{"delayUs":1e99}', 'ConnDetail.delayUs'],
    ['{"labels":[]}', 'ConnDetail.labels'],
    ['{"labels":{"a":1}}', 'ConnDetail.labels'],
    ['{"labels":{"a":null}}', 'ConnDetail.labels'],
    ['{"labels":{"a b":""}}', 'ConnDetail.labels'],
    ['{"labels":{"__proto__":""}}', 'ConnDetail.labels']
  ]
  for (const [json, field] of cases) t.throws(() => parseDetail(json), { code: 'ERR_INVALID', field }, json)
})

t.test('the detail of an update has what can be changed, and null removes a label', async t => {
  const full = { ifname: 'eth1', requestId: 'r1', ingressRate: '1mbit', egressRate: 0, delayUs: 5 }
  const labels = { app: 'web', gone: null }
  t.same(parseDetailChanges(JSON.stringify({ ...full, labels })), { ...full, ingressRate: 1_000_000, labels })
  t.same(parseDetailChanges(''), {})
  for (const [json, field, words] of [
    ['{"network":"blue"}', 'ConnDetail.network', /cannot be changed/],
    ['{"mac":"02:00:00:00:00:01"}', 'ConnDetail.mac', /cannot be changed/],
    ['{"netns":"/run/netns/web"}', 'ConnDetail.netns', /cannot be changed/],
    ['{"unknown":1}', 'ConnDetail.unknown', /is not a known field/],
    ['{"toString":1}', 'ConnDetail.toString', /is not a known field/],
    ['{"labels":{"a":1}}', 'ConnDetail.labels', /a value must be/],
    ['{"delayUs":-1}', 'ConnDetail.delayUs', /must be/]
  ] as const)
    t.throws(() => parseDetailChanges(json), { code: 'ERR_INVALID', field, message: words }, json)
})
