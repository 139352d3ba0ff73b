import t from 'tap'
import { parseEndpointRow, parseHostRow, parseNetworkRow, parseOutcome } from '#allocator/parse-row.ts'
import type { Outcome } from '#model/command.ts'
import { attach, Caller, create, makeHost } from './fixtures.ts'

const caller = Caller.ready()
const network = caller.network(create('a', { requestId: 'r' }))
const endpoint = caller.endpoint(attach('a', 'c', { requestId: 'r', rate: 8_000 }))
const host = makeHost(1)
const { requestId: r1, ...bareNetwork } = network
const { requestId: r2, ...bareEndpoint } = endpoint

t.test('rows are parsed unchanged, without unknown fields', t => {
  t.equal(r1, r2)
  for (const row of [network, bareNetwork]) t.strictSame(parseNetworkRow({ ...row, more: 1 }), row)
  for (const row of [endpoint, bareEndpoint]) t.strictSame(parseEndpointRow({ ...row, more: 1 }), row)
  t.strictSame(parseNetworkRow({ ...bareNetwork, requestId: null }), bareNetwork)
  t.strictSame(parseEndpointRow({ ...bareEndpoint, requestId: null }), bareEndpoint)
  t.strictSame(parseHostRow({ ...host, more: 1 }), host)
  t.strictSame(parseNetworkRow({ ...network, kind: 'host-remove' }), network, 'a row cannot choose the kind of command')
  t.end()
})

const outcomes: readonly Outcome[] = [
  { ok: true, result: { kind: 'session' } },
  { ok: true, result: { kind: 'network', network } },
  { ok: true, result: { kind: 'endpoint', endpoint, created: true } },
  { ok: true, result: { kind: 'endpoint', endpoint: bareEndpoint, created: false } },
  { ok: true, result: { kind: 'endpoint-released', endpoint } },
  { ok: true, result: { kind: 'host', host } },
  { ok: true, result: { kind: 'host-removed', host, released: 7 } },
  { ok: false, error: { code: 'ERR_BUSY', message: 'later' } },
  { ok: false, error: { code: 'ERR_INVALID', message: 'vni: no', field: 'vni' } }
]
t.test('answers are parsed unchanged', t => {
  for (const outcome of outcomes) t.strictSame(parseOutcome(JSON.parse(JSON.stringify(outcome))), outcome)
  t.end()
})

type Read = (value: unknown) => unknown
const hostile: readonly { what: string; read: Read; value: unknown; field: string }[] = [
  ...[null, undefined, 7, 'x', true].flatMap(value => [
    { what: String(value), read: parseNetworkRow, value, field: 'snapshot' },
    { what: String(value), read: parseEndpointRow, value, field: 'snapshot' },
    { what: String(value), read: parseHostRow, value, field: 'host' },
    { what: String(value), read: parseOutcome, value, field: 'snapshot' }
  ]),
  { what: 'a list', read: parseHostRow, value: [], field: 'host' },
  { what: 'no name', read: parseNetworkRow, value: { ...network, name: undefined }, field: 'name' },
  { what: 'a name of capitals', read: parseNetworkRow, value: { ...network, name: 'RED' }, field: 'name' },
  { what: 'no VNI', read: parseNetworkRow, value: { ...network, vni: undefined }, field: 'network' },
  { what: 'VNI null', read: parseNetworkRow, value: { ...network, vni: null }, field: 'network' },
  { what: 'VNI 0', read: parseNetworkRow, value: { ...network, vni: 0 }, field: 'vni' },
  { what: 'VNI 2^24', read: parseNetworkRow, value: { ...network, vni: 2 ** 24 }, field: 'vni' },
  { what: 'no gateway', read: parseNetworkRow, value: { ...network, gateway: undefined }, field: 'network' },
  { what: 'a gateway of text', read: parseNetworkRow, value: { ...network, gateway: '10.1.0.1' }, field: 'gateway' },
  { what: 'a subnet of text', read: parseNetworkRow, value: { ...network, subnet: '10.1.0.0/24' }, field: 'subnet' },
  { what: 'a rate below zero', read: parseNetworkRow, value: { ...network, egressRate: -1 }, field: 'egressRate' },
  { what: 'egress 1', read: parseNetworkRow, value: { ...network, egress: 1 }, field: 'egress' },
  { what: 'no VNI', read: parseEndpointRow, value: { ...endpoint, vni: undefined }, field: 'vni' },
  { what: 'VNI 1.5', read: parseEndpointRow, value: { ...endpoint, vni: 1.5 }, field: 'vni' },
  { what: 'no address', read: parseEndpointRow, value: { ...endpoint, address: undefined }, field: 'endpoint' },
  { what: 'no MAC', read: parseEndpointRow, value: { ...endpoint, mac: undefined }, field: 'endpoint' },
  { what: 'a MAC of five octets', read: parseEndpointRow, value: { ...endpoint, mac: '02:00:00:00:01' }, field: 'mac' },
  { what: 'a host by name', read: parseEndpointRow, value: { ...endpoint, host: 'h1' }, field: 'host' },
  { what: 'a delay of an hour', read: parseEndpointRow, value: { ...endpoint, delayUs: 3.6e9 }, field: 'delayUs' },
  { what: 'a role that is none', read: parseHostRow, value: { ...host, role: 'leader' }, field: 'role' },
  { what: 'an IPv4 VTEP as text', read: parseHostRow, value: { ...host, vtep: '192.0.2.1' }, field: 'vtep' },
  { what: 'a multicast VTEP', read: parseHostRow, value: { ...host, vtep: 'ff02::1' }, field: 'vtep' },
  { what: 'the unspecified VTEP', read: parseHostRow, value: { ...host, vtep: '::' }, field: 'vtep' },
  { what: 'a VTEP with a zone', read: parseHostRow, value: { ...host, vtep: 'fd00::1%eth0' }, field: 'vtep' },
  { what: 'a VTEP of 33 bits', read: parseHostRow, value: { ...host, vtep: 2 ** 32 }, field: 'vtep' },
  {
    what: 'a version of 257 letters',
    read: parseHostRow,
    value: { ...host, version: 'x'.repeat(257) },
    field: 'version'
  },
  { what: 'neither ok nor not', read: parseOutcome, value: { ok: 1 }, field: 'outcome' },
  { what: 'ok without a result', read: parseOutcome, value: { ok: true }, field: 'snapshot' },
  {
    what: 'a result that is none',
    read: parseOutcome,
    value: { ok: true, result: { kind: 'toString' } },
    field: 'kind'
  },
  {
    what: 'a network without one',
    read: parseOutcome,
    value: { ok: true, result: { kind: 'network' } },
    field: 'snapshot'
  },
  {
    what: '-1 endpoints released',
    read: parseOutcome,
    value: { ok: true, result: { kind: 'host-removed', host, released: -1 } },
    field: 'released'
  },
  {
    what: 'a creation that is neither true nor false',
    read: parseOutcome,
    value: { ok: true, result: { kind: 'endpoint', endpoint, created: 1 } },
    field: 'created'
  },
  { what: 'a refusal without an error', read: parseOutcome, value: { ok: false }, field: 'snapshot' },
  {
    what: 'a code that is none',
    read: parseOutcome,
    value: { ok: false, error: { code: 'ERR_X', message: '' } },
    field: 'error'
  },
  {
    what: 'a code of Object',
    read: parseOutcome,
    value: { ok: false, error: { code: 'constructor', message: '' } },
    field: 'error'
  },
  {
    what: 'an error without a message',
    read: parseOutcome,
    value: { ok: false, error: { code: 'ERR_BUSY' } },
    field: 'error'
  },
  {
    what: 'a field that is a number',
    read: parseOutcome,
    value: { ok: false, error: { code: 'ERR_BUSY', message: '', field: 7 } },
    field: 'error'
  }
]
for (const { what, read, value, field } of hostile) {
  t.test(`${read.name} refuses ${what}`, t => {
    t.throws(() => read(value), { code: 'ERR_INVALID', field })
    t.end()
  })
}
