import fc from 'fast-check'
import t from 'tap'
import { parseIp } from '#model/ip.ts'
import { parseSelectorTerm } from '#model/labels.ts'
import {
  asBackends,
  asPorts,
  asSelect,
  asServiceAddresses,
  checkAffinity,
  formatBackend,
  formatPort,
  isHeadless,
  MAX_BACKENDS,
  MAX_SELECT_TERMS,
  MAX_SERVICE_PORTS,
  parseBackendText,
  parsePortText,
  PROTOCOLS,
  whyUnfit
} from '#model/service.ts'

for (const [text, expected] of [
  ['80', '80:80/tcp'],
  ['80:8080', '80:8080/tcp'],
  ['53/udp', '53:53/udp'],
  ['1:65535/sctp', '1:65535/sctp'],
  ['080', '80:80/tcp']
] as const) {
  t.test(`the port ${text} is ${expected}`, t => {
    t.equal(formatPort(parsePortText(text)), expected)
    t.end()
  })
}

for (const text of [
  '',
  '0',
  '65536',
  '80:',
  ':80',
  '80:0',
  '80/',
  '80/icmp',
  '80/TCP',
  '-1',
  '80:1:2',
  ' 80',
  '8e1',
  '100000'
]) {
  t.test(`refused as a port: ${JSON.stringify(text)}`, t => {
    t.throws(() => parsePortText(text), { code: 'ERR_INVALID', field: 'ports' })
    t.end()
  })
}

for (const text of ['10.1.0.5', '10.1.0.5:80', 'fd00::5', '[fd00::5]:80']) {
  t.test(`the backend ${text} is written as it is read`, t => {
    t.equal(formatBackend(parseBackendText(text)), text)
    t.end()
  })
}
t.equal(formatBackend(parseBackendText('[fd00::5]')), 'fd00::5', 'brackets alone are no port')

for (const text of [
  '',
  '10.1.0',
  '10.1.0.5:',
  '10.1.0.5:0',
  '10.1.0.5:65536',
  '10.1.0.5:http',
  '[fd00::5]:',
  '[10.1.0.5',
  'web:80',
  '[]:80'
]) {
  t.test(`refused as a backend: ${JSON.stringify(text)}`, t => {
    t.throws(() => parseBackendText(text, 'backend'), { code: 'ERR_INVALID', field: 'backend' })
    t.end()
  })
}

const port = fc.integer({ min: 1, max: 65_535 })

t.test('any port and any backend are read as they were written', t => {
  const ports = fc.record(
    { protocol: fc.constantFrom(...PROTOCOLS), port, targetPort: port },
    { noNullPrototype: true }
  )
  fc.assert(fc.property(ports, one => t.strictSame(parsePortText(formatPort(one)), one)))
  const address = fc.oneof(
    fc.nat(255).map(n => `10.1.0.${n}`),
    fc.integer({ min: 1, max: 65_535 }).map(n => `fd00::${n.toString(16)}`)
  )
  const backends = fc.record(
    { address: address.map(text => parseIp(text)), port },
    { requiredKeys: ['address'], noNullPrototype: true }
  )
  fc.assert(fc.property(backends, one => t.strictSame(parseBackendText(formatBackend(one)), one)))
  t.end()
})

t.test('equal lists have one form, whatever their order', t => {
  const orders = <T>(items: readonly T[]): fc.Arbitrary<T[]> =>
    fc.shuffledSubarray([...items], { minLength: items.length })
  const ports = ['80', '53/udp', '53/tcp', '9/sctp', '443'].map(text => parsePortText(text))
  fc.assert(fc.property(orders(ports), list => t.strictSame(asPorts(list), asPorts(ports))))
  t.same(asPorts(ports).map(formatPort), ['9:9/sctp', '53:53/tcp', '80:80/tcp', '443:443/tcp', '53:53/udp'])
  const backends = ['10.1.0.9', '10.1.0.9:1', '10.1.0.10', 'fd00::5', '[fd00::5]:2'].map(text => parseBackendText(text))
  fc.assert(fc.property(orders(backends), list => t.strictSame(asBackends([...list, ...list]), asBackends(backends))))
  const terms = ['b', 'a=1', 'example.com/a='].map(text => parseSelectorTerm(text, 'select'))
  fc.assert(fc.property(orders(terms), list => t.strictSame(asSelect(list), asSelect(terms))))
  const addresses = ['fd00::1', '10.1.0.9'].map(text => parseIp(text))
  t.strictSame(asServiceAddresses(addresses), asServiceAddresses(addresses.toReversed()))
  t.end()
})

t.test('refused: too many of each, one given twice, and none', t => {
  const many = (count: number): number[] => Array.from({ length: count }, (_, n) => n + 1)
  const numbered = (count: number): ReturnType<typeof asPorts> => asPorts(many(count).map(n => parsePortText(`${n}`)))
  t.equal(numbered(MAX_SERVICE_PORTS).length, MAX_SERVICE_PORTS)
  t.throws(() => numbered(MAX_SERVICE_PORTS + 1), { code: 'ERR_INVALID', field: 'ports' })
  t.throws(() => asPorts(['80', '80:81'].map(text => parsePortText(text))), {
    code: 'ERR_INVALID',
    field: 'ports',
    message: /80\/tcp is given twice/
  })
  t.throws(() => asBackends(many(MAX_BACKENDS + 1).map(n => ({ address: parseIp(`10.1.${n >> 8}.${n & 255}`) }))), {
    code: 'ERR_INVALID',
    field: 'backends'
  })
  t.throws(() => asSelect(many(MAX_SELECT_TERMS + 1).map(n => ({ key: `k${n}` }))), {
    code: 'ERR_INVALID',
    field: 'select'
  })
  t.throws(() => asSelect([]), { code: 'ERR_INVALID', field: 'select' })
  t.throws(() => asSelect([{ key: 'a' }, { key: 'a', value: '1' }]), {
    code: 'ERR_INVALID',
    field: 'select',
    message: /"a" is given twice/
  })
  for (const texts of [[], ['10.1.0.1', '10.1.0.2'], ['fd00::1', 'fd00::1'], ['10.1.0.1', 'fd00::1', 'fd00::2']])
    t.throws(() => asServiceAddresses(texts.map(text => parseIp(text))), { code: 'ERR_INVALID', field: 'addresses' })
  for (const seconds of [-1, 0.5, 86_401, NaN])
    t.throws(() => checkAffinity(seconds), { code: 'ERR_INVALID', field: 'affinitySeconds' })
  t.same(
    [0, 1, 86_400].map(seconds => checkAffinity(seconds)),
    [0, 1, 86_400]
  )
  t.end()
})

t.test(
  'a service needs a port unless it is headless, and backends have ports of their own beside one port alone',
  t => {
    const addresses = [parseIp('10.1.0.2')]
    const [one, two] = [[parsePortText('80')], [parsePortText('80'), parsePortText('81')]]
    const own = [parseBackendText('10.1.0.5:8080')]
    t.equal(whyUnfit({ addresses, ports: one, backends: own }), null)
    t.equal(whyUnfit({ addresses, ports: two, backends: [parseBackendText('10.1.0.5')] }), null)
    t.equal(whyUnfit({ addresses: [], ports: [] }), null)
    t.match(whyUnfit({ addresses, ports: [] }), { field: 'ports' })
    t.match(whyUnfit({ addresses, ports: two, backends: own }), { field: 'backends' })
    t.match(whyUnfit({ addresses: [], ports: [], backends: own }), { field: 'backends' })
    const sctp = [parsePortText('80/sctp')]
    t.equal(whyUnfit({ addresses, ports: sctp, backends: [parseBackendText('10.1.0.5:80')] }), null)
    t.match(whyUnfit({ addresses, ports: [parsePortText('80:81/sctp')] }), { field: 'ports' })
    t.match(whyUnfit({ addresses, ports: sctp, backends: own }), { field: 'backends' })
    t.same([isHeadless({ addresses }), isHeadless({ addresses: [] })], [false, true])
    t.end()
  }
)
