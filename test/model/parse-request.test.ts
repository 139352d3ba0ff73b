import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { BOTH_FAMILIES, RULES, UNGATED_RULES, type Command } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import { parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { MAX_TEXT } from '#model/fields.ts'
import { parseCommand, parseRequest } from '#model/parse-request.ts'

const PEER = `12D3KooW${'a'.repeat(44)}`
const create = {
  kind: 'network-create',
  name: 'red',
  subnet: parseSubnet('10.1.0.0/24'),
  gateway: parseIpv4('10.1.0.1'),
  vni: 7,
  egressRate: 8_000,
  mtu: 1_400,
  egress: true,
  hostAccess: false,
  requestId: 'r'
}
const attach = {
  kind: 'endpoint-attach',
  network: 'red',
  containerId: 'c1',
  ifname: 'eth0',
  name: 'web',
  host: PEER,
  address: parseIpv4('10.1.0.5'),
  mac: '02:00:0a:01:00:05',
  ingressRate: 0,
  egressRate: 1e9,
  delayUs: 500,
  requestId: 'r'
}
const host = { name: 'h1', peerId: PEER, vtep: parseIpv4('192.0.2.1'), role: 'server', bootId: 'b', version: '1' }
const register = { kind: 'host-register', host }
const served = {
  kind: 'service-create',
  network: 'red',
  name: 'web',
  headless: false,
  addresses: [parseIpv4('10.1.0.9'), 'fd00:1::9'],
  ports: [{ protocol: 'tcp', port: 80, targetPort: 8080 }],
  affinitySeconds: 60,
  select: [{ key: 'app', value: 'web' }, { key: 'tier' }],
  requestId: 'r'
}
const { addresses: _, select: __, ...unaddressed } = served
const commands = [
  served,
  {
    ...unaddressed,
    headless: true,
    backends: [{ address: parseIpv4('10.1.0.3') }, { address: 'fd00:1::3', port: 81 }]
  },
  { kind: 'service-update', network: 'red', name: 'web' },
  { kind: 'service-update', network: 'red', name: 'web', ports: served.ports, affinitySeconds: 0, backends: [] },
  { kind: 'service-delete', network: 'red', name: 'web' },
  { kind: 'session-open' },
  create,
  { kind: 'network-update', name: 'red', egressRate: 0 },
  { kind: 'network-update', name: 'red' },
  { kind: 'network-delete', name: 'red', force: true },
  attach,
  { kind: 'endpoint-detach', containerId: 'c1', ifname: 'eth0' },
  register,
  { kind: 'host-remove', name: 'h1' },
  { ...create, subnet: parseSubnet('fd00:1::/64'), gateway: 'fd00:1::1' },
  { ...attach, address: 'fd00:1::5' }
]
/** Those with something that only requests by newer rules hold. */
const commands6 = [
  { ...create, subnet6: parseSubnet('fd00:1::/120') },
  { kind: 'network-update', name: 'red', addSubnet: parseSubnet('fd00:1::/64') },
  { kind: 'network-update', name: 'red', addSubnet: parseSubnet('10.3.0.0/24') },
  { ...attach, address6: 'fd00:1::5' },
  { ...attach, address: 'fd00:1::5', address6: 'fd00:1::5' }
]
const update = { kind: 'endpoint-update', containerId: 'c1', ifname: 'eth0', egressRate: 0 }
const labelled = [
  { ...attach, labels: { app: 'web', 'example.com/tier': '' } },
  { ...update, labels: { app: 'web', gone: null } }
]

for (const command of commands) {
  t.test(`a ${command.kind} is parsed unchanged, without unknown fields`, t => {
    t.strictSame(parseCommand(command), command)
    t.strictSame(parseCommand({ ...command, more: 1, toString: 2 }), command)
    const request = { session: 's', seq: 5, settledBelow: 3, command }
    const parsed = parseRequest({ ...request, more: 1 })
    t.strictSame(parsed, request)
    t.not(parsed.command, command, 'a fresh object')
    t.end()
  })
}

t.test('an optional field may be null or absent', t => {
  const { gateway, vni, requestId, ...bare } = create
  t.strictSame(parseCommand({ ...bare, gateway: null, vni: null, requestId: undefined }), bare)
  const { address, mac, requestId: other, ...bareAttach } = attach
  t.strictSame(parseCommand({ ...bareAttach, address: null, mac: undefined }), bareAttach)
  t.strictSame([gateway, vni, address, mac], [create.gateway, create.vni, attach.address, attach.mac])
  t.equal(requestId, other)
  t.end()
})

t.test('__proto__ is dropped like any unknown field, and changes no prototype', t => {
  const text = JSON.stringify(create).replace('{', '{"__proto__":{"vni":9,"polluted":true},')
  const parsed = parseCommand(JSON.parse(text)) as Command & { polluted?: boolean }
  t.strictSame(parsed, create)
  t.equal(parsed.polluted, undefined)
  t.equal(({} as { polluted?: boolean }).polluted, undefined)
  t.end()
})

const OBJECTS = [null, undefined, 7, 'x', true, []]
const NUMBERS = [undefined, '7', -1, 0.5, NaN, Infinity, 2 ** 53, 1e300, 7n, {}, [7], true]
const TEXTS = [undefined, null, 7, {}, ['red'], 'x'.repeat(MAX_TEXT + 1)]
const FLAGS = [undefined, null, 0, 1, 'true', {}]
const NAMES = [...TEXTS, '', 'Red', 'a b', '__proto__']

const LISTS = [undefined, null, 7, {}, 'x', [7], [null]]

type Case = { readonly command: object; readonly key: string; readonly values: readonly unknown[] }
const fields: readonly Case[] = [
  { command: create, key: 'name', values: NAMES },
  { command: create, key: 'subnet', values: [...OBJECTS, '10.1.0.0/24'] },
  { command: create, key: 'gateway', values: NUMBERS.slice(1).concat(2 ** 32, '10.1.0.1') },
  { command: create, key: 'vni', values: NUMBERS.slice(1).concat(0, 2 ** 24) },
  { command: create, key: 'egressRate', values: [...NUMBERS, null, 1, 7_999, 1e12 + 1] },
  { command: create, key: 'mtu', values: [...NUMBERS, null, 1, 575, 65_486] },
  { command: create, key: 'egress', values: FLAGS },
  { command: create, key: 'hostAccess', values: FLAGS },
  { command: create, key: 'requestId', values: TEXTS.slice(2) },
  { command: { kind: 'network-update', name: 'red' }, key: 'name', values: NAMES },
  { command: { kind: 'network-update', name: 'red' }, key: 'egressRate', values: NUMBERS.slice(1) },
  { command: { kind: 'network-delete', name: 'red', force: true }, key: 'name', values: NAMES },
  { command: { kind: 'network-delete', name: 'red', force: true }, key: 'force', values: FLAGS },
  { command: attach, key: 'network', values: NAMES },
  { command: attach, key: 'containerId', values: [...TEXTS, '', '../x', 'a/b'] },
  { command: attach, key: 'ifname', values: [...TEXTS, '', '..', 'a/b', 'eth%d', 'x'.repeat(16)] },
  { command: attach, key: 'name', values: TEXTS },
  { command: attach, key: 'host', values: [...TEXTS, '', 'h1'] },
  { command: attach, key: 'address', values: NUMBERS.slice(1).concat(2 ** 32) },
  { command: attach, key: 'mac', values: [...TEXTS.slice(2), '', 'ff:ff:ff:ff:ff:ff'] },
  { command: attach, key: 'ingressRate', values: NUMBERS },
  { command: attach, key: 'egressRate', values: NUMBERS },
  { command: attach, key: 'delayUs', values: [...NUMBERS, 60e6 + 1] },
  { command: attach, key: 'requestId', values: TEXTS.slice(2) },
  { command: { kind: 'endpoint-detach', containerId: 'c', ifname: 'e' }, key: 'containerId', values: [...TEXTS, ''] },
  { command: { kind: 'endpoint-detach', containerId: 'c', ifname: 'e' }, key: 'ifname', values: [...TEXTS, ''] },
  { command: register, key: 'host', values: OBJECTS },
  { command: served, key: 'network', values: NAMES },
  { command: served, key: 'name', values: [...NAMES, 'a.b'] },
  { command: served, key: 'headless', values: FLAGS },
  { command: served, key: 'affinitySeconds', values: [...NUMBERS, null, 86_401] },
  { command: served, key: 'requestId', values: TEXTS.slice(2) },
  {
    command: served,
    key: 'ports',
    values: [
      ...LISTS,
      [{ protocol: 'icmp', port: 1, targetPort: 1 }],
      [{ protocol: 'tcp', port: 0, targetPort: 1 }],
      [{ protocol: 'tcp', port: 1 }],
      [...served.ports, ...served.ports]
    ]
  },
  {
    command: served,
    key: 'select',
    values: [...LISTS.slice(2), [], [{ key: 'a b' }], [{ key: 'a', value: 'a b' }], [{ key: 'a' }, { key: 'a' }]]
  },
  {
    command: unaddressed,
    key: 'backends',
    values: [
      ...LISTS.slice(2),
      [{ address: parseIpv4('10.1.0.3'), port: 0 }],
      [{ address: parseIpv4('10.1.0.3'), port: '80' }]
    ]
  },
  { command: served, key: 'addresses', values: [7, {}, 'x', ['x'], [null], [], [1, 2], ['fd00::1', 'fd00::2']] },
  { command: { kind: 'host-remove', name: 'h1' }, key: 'name', values: NAMES }
]
for (const { command, key, values } of fields) {
  const { kind } = command as { kind: string }
  t.test(`a ${kind} with an invalid ${key} is refused by that name`, t => {
    for (const value of values) {
      t.throws(() => parseCommand({ ...command, [key]: value }), { code: 'ERR_INVALID', field: key }, String(value))
    }
    t.end()
  })
}

const parts: readonly { key: string; values: readonly unknown[] }[] = [
  { key: 'name', values: NAMES },
  { key: 'peerId', values: [...TEXTS, '', 'h1'] },
  { key: 'vtep', values: [...NUMBERS, 2 ** 32, 0, parseIpv4('224.0.0.1'), 0xffffffff] },
  { key: 'role', values: [...TEXTS, '', 'leader', 'Server'] },
  { key: 'bootId', values: TEXTS },
  { key: 'version', values: TEXTS }
]
for (const { key, values } of parts) {
  t.test(`a host with an invalid ${key} is refused by that name`, t => {
    for (const value of values) {
      const command = { kind: 'host-register', host: { ...host, [key]: value } }
      t.throws(() => parseCommand(command), { code: 'ERR_INVALID', field: key }, String(value))
    }
    t.end()
  })
}

for (const command of [...commands6, ...labelled]) {
  const what = Object.keys(command).find(key => key.endsWith('6') || key === 'addSubnet' || key === 'labels') ?? ''
  t.test(`${what} of a ${command.kind} is parsed unchanged, and ignored by rules of versions that ignored it`, t => {
    t.strictSame(parseCommand({ ...command, more: 1 }), command)
    const request = { session: 's', seq: 5, settledBelow: 3, command }
    t.strictSame(parseRequest({ ...request, rules: RULES }), { ...request, rules: RULES })
    for (const rules of [undefined, 1, UNGATED_RULES, ...(what === 'labels' ? [BOTH_FAMILIES] : [])]) {
      const parsed = parseRequest(rules === undefined ? request : { ...request, rules })
      const { [what as 'kind']: _, ...rest } = command
      t.strictSame(parsed.command, rest)
    }
    t.end()
  })
}

t.test('labels are in one form for equal ones; without any, or without changes, there is no such field', t => {
  const parsed = parseCommand({ ...attach, labels: { b: '2', '10': 'x', a: '1', '9': 'y' } })
  t.equal(JSON.stringify((parsed as { labels?: object }).labels), '{"9":"y","10":"x","a":"1","b":"2"}')
  for (const labels of [undefined, null, {}]) {
    t.strictSame(parseCommand({ ...attach, labels }), attach)
    t.strictSame(parseCommand({ ...update, labels }), update)
  }
  for (const labels of [7, 'app=web', [], { 'a b': '' }, { app: 7 }, { app: 'a b' }]) {
    for (const command of [attach, update])
      t.throws(() => parseCommand({ ...command, labels }), { code: 'ERR_INVALID', field: 'labels' })
  }
  t.throws(() => parseCommand({ ...attach, labels: { app: null } }), { code: 'ERR_INVALID', field: 'labels' })
  t.end()
})

t.test('what is wrong with IPv6 in a command is refused with its field', t => {
  const four = parseSubnet('10.3.0.0/24')
  for (const [field, command] of [
    ['subnet', { ...create, subnet6: parseSubnet('fd00:1::/121') }],
    ['subnet', { ...create, subnet6: four }],
    ['subnet', { ...create, subnet: parseSubnet('fd00:1::/64'), subnet6: parseSubnet('fd00:2::/64') }],
    ['subnet', { ...create, subnet6: { base: 'fd00:1::1', prefixLength: 64 } }],
    ['subnet', { ...create, subnet6: { base: 'fe80::', prefixLength: 64 } }],
    ['subnet', { ...create, subnet: { base: 'fd00:1::', prefixLength: 127 } }],
    ['subnet', { ...create, subnet: { base: 'fd00:1::', prefixLength: 32 } }],
    ['base', { ...create, subnet6: { base: 'fd00:1::g', prefixLength: 64 } }],
    ['prefixLength', { ...create, subnet6: { base: 'fd00:1::', prefixLength: '64' } }],
    ['subnet', { ...create, subnet6: 'fd00:1::/64' }],
    ['gateway', { ...create, gateway: 'fd00:1::%eth0' }],
    ['gateway', { ...create, gateway: '10.1.0.1' }],
    ['subnet', { kind: 'network-update', name: 'red', addSubnet: '10.3.0.0/24' }],
    ['subnet', { kind: 'network-update', name: 'red', addSubnet: { base: 'fd00:1::1', prefixLength: 64 } }],
    ['address', { ...attach, address: 'fd00:1::/64' }],
    ['address6', { ...attach, address6: 'fd00' }],
    ['address6', { ...attach, address6: parseIpv4('10.1.0.5') }],
    ['range', { kind: 'namespace-open', namespace: 'x', range: parseSubnet('fd00:1::/64'), prefixLength: 80 }]
  ] as const) {
    t.throws(() => parseCommand(command), { code: 'ERR_INVALID', field }, JSON.stringify(command))
  }
  t.end()
})

t.test('IPv6 addresses of a command are in canonical form, so that equal rows have equal hashes', t => {
  const parsed = parseCommand({ ...attach, address: 'FD00:1:0:0::0005', address6: 'fd00:0001::0:5' })
  t.match(parsed, { address: 'fd00:1::5', address6: 'fd00:1::5' })
  t.match(parseCommand({ ...create, subnet: { base: 'FD00:1:0::0', prefixLength: 64 }, gateway: 'fd00:1:0::1' }), {
    subnet: { base: 'fd00:1::' },
    gateway: 'fd00:1::1'
  })
  t.end()
})

t.test('a subnet in a command follows the same rules as its text form', t => {
  for (const { base, prefixLength, field } of [
    { base: parseIpv4('10.1.0.1'), prefixLength: 24, field: 'subnet' },
    { base: parseIpv4('10.0.0.0'), prefixLength: 7, field: 'subnet' },
    { base: parseIpv4('10.0.0.0'), prefixLength: 31, field: 'subnet' },
    { base: parseIpv4('224.0.0.0'), prefixLength: 8, field: 'subnet' },
    { base: parseIpv4('10.0.0.0'), prefixLength: 1e15, field: 'subnet' },
    { base: 2 ** 32, prefixLength: 24, field: 'base' },
    { base: '10.0.0.0', prefixLength: 24, field: 'base' },
    { base: parseIpv4('10.0.0.0'), prefixLength: -1, field: 'prefixLength' },
    { base: parseIpv4('10.0.0.0'), prefixLength: '24', field: 'prefixLength' }
  ]) {
    t.throws(() => parseCommand({ ...create, subnet: { base, prefixLength } }), { code: 'ERR_INVALID', field })
  }
  t.end()
})

t.test('a request without a valid identity or command is refused', t => {
  const sound = { session: 's', seq: 1, settledBelow: 1, command: { kind: 'session-open' } }
  for (const value of OBJECTS) t.throws(() => parseRequest(value), { code: 'ERR_INVALID', field: 'request' })
  for (const command of OBJECTS) {
    t.throws(() => parseRequest({ ...sound, command }), { code: 'ERR_INVALID', field: 'command' })
  }
  for (const kind of [undefined, null, 7, '', 'Network-create', 'constructor', '__proto__', 'network-create ']) {
    t.throws(() => parseRequest({ ...sound, command: { kind } }), { code: 'ERR_INVALID', field: 'kind' })
  }
  for (const session of TEXTS)
    t.throws(() => parseRequest({ ...sound, session }), { code: 'ERR_INVALID', field: 'session' })
  for (const seq of NUMBERS) t.throws(() => parseRequest({ ...sound, seq }), { code: 'ERR_INVALID', field: 'seq' })
  for (const settledBelow of NUMBERS) {
    t.throws(() => parseRequest({ ...sound, settledBelow }), { code: 'ERR_INVALID', field: 'settledBelow' })
  }
  t.equal(parseRequest({ ...sound, seq: Number.MAX_SAFE_INTEGER }).seq, Number.MAX_SAFE_INTEGER)
  t.ok(Object.is(parseRequest({ ...sound, seq: -0 }).seq, 0), '-0 is 0, as in JSON')
  t.end()
})

t.test('any input is either a valid command or refused by a field', t => {
  const near = fc
    .constantFrom(...commands)
    .chain(command =>
      fc
        .dictionary(fc.constantFrom(...Object.keys(command)), fc.anything(), { maxKeys: 2 })
        .map(more => ({ ...command, ...more }))
    )
  let read = 0
  const property = fc.property(fc.oneof(near, fc.anything()), value => {
    try {
      const command = parseCommand(value)
      read += 1
      assert.deepEqual(parseCommand(command), command)
      assert.deepEqual(parseCommand(JSON.parse(JSON.stringify(command))), command)
    } catch (err) {
      assert.ok(err instanceof VxmeshError && err.code === 'ERR_INVALID' && err.field !== undefined, String(err))
    }
  })
  fc.assert(property, { numRuns: 5_000 })
  t.ok(read > 100)
  t.end()
})

t.test('a service has a selector or backends, and a headless one has no addresses', t => {
  t.throws(() => parseCommand(unaddressed), { code: 'ERR_INVALID', field: 'select' })
  t.throws(() => parseCommand({ ...served, backends: [] }), { code: 'ERR_INVALID', field: 'backends' })
  t.throws(() => parseCommand({ ...served, headless: true }), { code: 'ERR_INVALID', field: 'addresses' })
  const both = { kind: 'service-update', network: 'red', name: 'web', select: served.select, backends: [] }
  t.throws(() => parseCommand(both), { code: 'ERR_INVALID', field: 'backends' })
  t.end()
})
