import t from 'tap'
import type { NetworkName } from '#model/ids.ts'
import { parseIp, parseSubnet, type Ip } from '#model/ip.ts'
import { answerOwn, type NamesView, type OwnNames } from '#dns/own-names.ts'
import { parseQuery, type Query } from '#dns/query.ts'
import { encodeReply } from '#dns/reply.ts'
import { ask, read, type Read } from './messages.ts'

const RED = 'red' as NetworkName
const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  web: ['10.1.0.2', 'fd00:1::2'],
  'api-0.prod': ['10.1.0.3'],
  many: Array.from({ length: 60 }, (_, n) => `10.1.0.${n + 10}`)
}

const view: NamesView = {
  lookup: (network, name) => {
    const found = network === RED ? ADDRESSES[name] : undefined
    return found === undefined ? null : { addresses: found.map(text => parseIp(text)) }
  },
  nameOf: (network: NetworkName, address: Ip) =>
    network !== RED ? null : address === parseIp('10.1.0.2') || address === parseIp('fd00:1::2') ? 'web' : null
}
const own: OwnNames = {
  network: RED,
  subnets: [parseSubnet('10.1.0.0/24'), parseSubnet('fd00:1::/64')],
  zone: 'vxmesh',
  view
}

function queryOf(message: Buffer, transport: 'udp' | 'tcp' = 'udp'): Query {
  const parsed = parseQuery(message, transport)
  if (parsed.kind !== 'query') throw new Error(parsed.kind)
  return parsed.query
}

/** Null: the name is none of the network's. */
function answer(message: Buffer, transport: 'udp' | 'tcp' = 'udp'): Read | null {
  const query = queryOf(message, transport)
  const reply = answerOwn(own, query)
  return reply === null ? null : read(encodeReply(query, reply))
}

t.test('a name has its addresses, of the family that is asked for', t => {
  for (const [name, type, data] of [
    ['web.red.vxmesh', 'A', ['10.1.0.2']],
    ['WEB.Red.VXmesh', 'A', ['10.1.0.2']],
    ['web.red.vxmesh', 'AAAA', ['fd00:1::2']],
    ['web.red.vxmesh', 'ANY', ['10.1.0.2', 'fd00:1::2']],
    ['api-0.prod.red.vxmesh', 'A', ['10.1.0.3']],
    ['2.0.1.10.in-addr.arpa', 'PTR', ['web.red.vxmesh']],
    [`2.${'0.'.repeat(23)}1.0.0.0.0.0.d.f.ip6.arpa`, 'PTR', ['web.red.vxmesh']]
  ] as const) {
    const got = answer(ask(name, type, { id: 0 }))
    t.equal(got?.rcode, 'NOERROR', `${name} ${type}`)
    t.same(got?.data.toSorted(), data.toSorted(), `${name} ${type}`)
    t.equal(got?.packet.flag_aa, true)
    t.ok(got?.packet.answers?.every(one => 'ttl' in one && one.ttl === 0))
  }
  t.end()
})

t.test('what is in the zone and is none of the network’s does not exist', t => {
  for (const name of [
    ...['nobody.red.vxmesh', 'web.blue.vxmesh', 'blue.vxmesh', 'web.vxmesh', 'red.red.vxmesh', 'prod.red.vxmesh'],
    ...['x.web.red.vxmesh', '9.0.1.10.in-addr.arpa', 'xred.vxmesh']
  ]) {
    const got = answer(ask(name))
    t.equal(got?.rcode, 'NXDOMAIN', name)
    t.same(got?.data, [])
    t.match(got?.packet.authorities, [{ type: 'SOA', name: 'vxmesh', data: { minimum: 0 } }])
  }
  t.end()
})

t.test('a name without records of the type exists', t => {
  for (const [name, type] of [
    ['web.red.vxmesh', 'TXT'],
    ['api-0.prod.red.vxmesh', 'AAAA'],
    ['red.vxmesh', 'A'],
    ['vxmesh', 'NS'],
    ['2.0.1.10.in-addr.arpa', 'A']
  ] as const) {
    const got = answer(ask(name, type))
    t.equal(got?.rcode, 'NOERROR', `${name} ${type}`)
    t.same(got?.data, [])
  }
  t.end()
})

t.test('other names are not answered here', t => {
  for (const name of [
    'example.com',
    'vxmesh.example',
    '.',
    '2.0.2.10.in-addr.arpa',
    '10.in-addr.arpa',
    '300.0.1.10.in-addr.arpa'
  ])
    t.equal(answer(ask(name)), null, name)
  t.end()
})

t.test('a short name has no address, and is not asked of others, who may take long', t => {
  for (const [name, type, rcode] of [
    ['web', 'A', 'NXDOMAIN'],
    ['xvxmesh', 'AAAA', 'NXDOMAIN'],
    ['com', 'NS', undefined],
    ['com', 'DS', undefined]
  ] as const)
    t.equal(answer(ask(name, type))?.rcode, rcode, `${name} ${type}`)
  t.end()
})

t.test('a label with other bytes is in the zone or not by its bytes, and never forwarded from it', t => {
  const question = (...labels: readonly string[]): Buffer => {
    const plain = ask('placeholder')
    const name = Buffer.concat([
      ...labels.map(label => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')])),
      Buffer.from([0, 0, 1, 0, 1])
    ])
    return Buffer.concat([plain.subarray(0, 12), name])
  }
  t.equal(answer(question('web.red', 'vxmesh'))?.rcode, 'NXDOMAIN', 'a dot within a label is no separator')
  t.equal(answer(question('w\xffb', 'red', 'VXMESH'))?.rcode, 'NXDOMAIN')
  t.equal(answer(question('w\\b', 'red', 'vxmesh'))?.rcode, 'NXDOMAIN')
  t.equal(answer(question('w\xffb', 'example')), null)
  t.equal(answer(question('web', 'red.vxmesh')), null, 'one label that looks like two is not the zone')
  t.end()
})

t.test('many addresses start with another one each time, and are cut for UDP alone', t => {
  const first = (id: number): unknown => answer(ask('many.red.vxmesh', 'A', { id, edns: 4_096 }), 'tcp')?.data[0]
  t.not(first(1), first(2))
  const cut = answer(ask('many.red.vxmesh'))
  t.equal(cut?.packet.flag_tc, true)
  t.same(cut?.data, [])
  t.same(cut?.packet.questions, [{ name: 'many.red.vxmesh', type: 'A', class: 'IN' }])
  const whole = answer(ask('many.red.vxmesh'), 'tcp')
  t.equal(whole?.data.length, 60)
  t.equal(whole?.packet.flag_tc, false)
  t.end()
})

t.test('EDNS is answered with EDNS', t => {
  const got = answer(ask('web.red.vxmesh', 'A', { edns: 4_096, wantsSignatures: true }))
  t.match(got?.packet.additionals, [{ type: 'OPT', udpPayloadSize: 1_232, flag_do: true, ednsVersion: 0 }])
  t.same(answer(ask('web.red.vxmesh'))?.packet.additionals, [])
  t.end()
})
