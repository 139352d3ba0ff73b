import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { readMember } from '#membership/view/serf-member.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { record, tags } from './fixtures.ts'

const { clusterId, ...bare } = tags(1)
const member = { name: 'h1', address: parseIpv4('192.0.2.1'), port: 7_946, status: 'alive', ...bare, clusterId }

t.test('a record becomes a member', t => {
  t.strictSame(readMember(record(1)), { kind: 'member', member })
  t.end()
})

t.test('a record survives msgpack', t => {
  t.strictSame(readMember(decodeMsgpack(encodeMsgpack(record(1)))), { kind: 'member', member })
  t.end()
})

for (const Status of ['alive', 'leaving', 'left', 'failed']) {
  t.test(`a member may be ${Status}`, t => {
    t.match(readMember(record(1, { Status })), { kind: 'member', member: { status: Status } })
    t.end()
  })
}

t.test('an IPv4-mapped address of sixteen bytes is accepted', t => {
  const Addr = Uint8Array.from([...Array<number>(10).fill(0), 255, 255, 192, 0, 2, 9])
  t.match(readMember(record(1, { Addr })), { member: { address: parseIpv4('192.0.2.9') } })
  t.end()
})

t.test('an IPv6 address of sixteen bytes is accepted, with a VTEP of its family', t => {
  const Addr = Uint8Array.from([0xfd, ...Array<number>(14).fill(0), 9])
  const six = record(1, { Addr, Tags: { vtep: 'FD00:0::9' } })
  t.match(readMember(six), { member: { address: 'fd00::9', vtep: 'fd00::9' } })
  t.match(readMember(record(1, { Addr })), { foreign: { reason: 'vtep: is not of the family of its address' } })
  t.match(readMember(record(1, { Tags: { vtep: 'fd00::9' } })), { foreign: { reason: /^vtep: is not of the family/ } })
  t.end()
})

const foreign: readonly { what: string; record: unknown; reason: RegExp; name?: string }[] = [
  ...[null, undefined, 7, 'h1', true, [], {}].map(value => {
    return { what: `${JSON.stringify(value)} as record`, record: value, reason: /^Tags: /, name: '' }
  }),
  { what: 'no tags', record: { ...record(1), Tags: undefined }, reason: /^Tags: are missing/ },
  { what: 'null as tags', record: { ...record(1), Tags: null }, reason: /^Tags: are missing/ },
  { what: 'tags of a plain Serf', record: { ...record(1), Tags: { role: 'web' } }, reason: /^role: / },
  { what: 'no tag at all', record: { ...record(1), Tags: {} }, reason: /^role: is missing/ },
  { what: 'numeric tags', record: record(1, { Tags: { p2p: 7_947 } }), reason: /^p2p: is missing/ },
  { what: 'another protocol', record: record(1, { Tags: { vx: '2' } }), reason: /^vx: speaks protocol 2, not 1/ },
  { what: 'protocol 0', record: record(1, { Tags: { vx: '0' } }), reason: /^vx: / },
  { what: 'an invalid peer id', record: record(1, { Tags: { peer: '../../etc' } }), reason: /^peer: / },
  { what: 'a VTEP that is not an address', record: record(1, { Tags: { vtep: 'here' } }), reason: /^vtep: / },
  { what: 'a multicast VTEP', record: record(1, { Tags: { vtep: '239.0.0.1' } }), reason: /^vtep: / },
  { what: 'no name', record: record(1, { Name: undefined }), reason: /^name: /, name: '' },
  { what: 'a binary name', record: record(1, { Name: Uint8Array.from([104]) }), reason: /^name: /, name: '' },
  { what: 'an empty name', record: record(1, { Name: '' }), reason: /^name: /, name: '' },
  { what: 'an uppercase name', record: record(1, { Name: 'H1' }), reason: /^name: /, name: 'H1' },
  {
    what: 'a name with dots',
    record: record(1, { Name: 'h1.example.com' }),
    reason: /^name: /,
    name: 'h1.example.com'
  },
  { what: 'a name that is a path', record: record(1, { Name: '../h1' }), reason: /^name: /, name: '../h1' },
  { what: 'a name of two lines', record: record(1, { Name: 'h1\nh2' }), reason: /^name: /, name: 'h1\nh2' },
  {
    what: 'an overlong name',
    record: record(1, { Name: 'x'.repeat(100_000) }),
    reason: /^name: .{0,200}$/,
    name: 'x'.repeat(128)
  },
  { what: 'a text address', record: record(1, { Addr: '192.0.2.1' }), reason: /^Addr: is not an address/ },
  {
    what: 'an address of five bytes',
    record: record(1, { Addr: new Uint8Array(5) }),
    reason: /^Addr: is not an IP address/
  },
  { what: 'an empty address', record: record(1, { Addr: new Uint8Array() }), reason: /^Addr: is not an IP address/ },
  {
    what: 'an address of seventeen bytes',
    record: record(1, { Addr: new Uint8Array(17).fill(32) }),
    reason: /^Addr: is not an IP address/
  },
  ...[0, -1, 65_536, 1.5, NaN, '7946', null].map(Port => {
    return { what: `port ${String(Port)}`, record: record(1, { Port }), reason: /^Port: is not a port/ }
  }),
  ...['', 'none', 'ALIVE', 7, null, ['alive']].map(Status => {
    return { what: `status ${JSON.stringify(Status)}`, record: record(1, { Status }), reason: /^Status: / }
  })
]
for (const { what, record, reason, name = 'h1' } of foreign) {
  t.test(`an invalid record is foreign, with its name and the reason: ${what}`, t => {
    const read = readMember(record)
    if (read.kind !== 'foreign') return assert.fail('a member')
    t.equal(read.foreign.name, name)
    t.match(read.foreign.reason, reason)
    t.end()
  })
}

t.test('no record makes the parser throw', t => {
  const near = fc
    .dictionary(fc.constantFrom('Name', 'Addr', 'Port', 'Tags', 'Status'), fc.anything(), { maxKeys: 2 })
    .map(more => ({ ...record(1), ...more }))
  const property = fc.property(fc.oneof(near, fc.anything()), value => {
    const read = readMember(value)
    assert.ok(read.kind === 'member' || read.foreign.reason !== '')
  })
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})
