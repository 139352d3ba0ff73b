import fc from 'fast-check'
import t from 'tap'
import { parsePrefix } from '#model/ip.ts'
import { DIRECTIONS, LAST_PORT, POLICY_PROTOCOLS, type Peer, type PolicyRule } from '#model/policy.ts'
import { formatPeer, formatPortRange, formatRule, parsePortText, parseRuleText } from '#model/policy-text.ts'

const ingress = (text: string): PolicyRule =>
  parseRuleText(text, { direction: 'ingress', action: 'allow', field: '--ingress' })
const egress = (text: string): PolicyRule =>
  parseRuleText(text, { direction: 'egress', action: 'deny', field: '--deny-egress' })

t.test('rules are read from text', t => {
  t.same(ingress('from=tier=app,port=5432/tcp'), {
    ...{ direction: 'ingress', action: 'allow', priority: 0 },
    peers: [{ select: [{ key: 'tier', value: 'app' }] }],
    ports: [{ protocol: 'tcp', first: 5_432, last: 5_432 }]
  })
  t.same(egress('to=cidr:10.0.0.0/8,except=10.1.0.0/16,except=10.2.0.0/16,to=cidr:fd00::/8,port=53/udp,priority=7'), {
    ...{ direction: 'egress', action: 'deny', priority: 7 },
    peers: [
      { cidr: parsePrefix('10.0.0.0/8'), except: [parsePrefix('10.1.0.0/16'), parsePrefix('10.2.0.0/16')] },
      { cidr: parsePrefix('fd00::/8'), except: [] }
    ],
    ports: [{ protocol: 'udp', first: 53, last: 53 }]
  })
  t.same(ingress('any'), { direction: 'ingress', action: 'allow', priority: 0, peers: [], ports: [] })
  t.same(ingress('from=*').peers, [{ select: [] }])
  t.same(ingress('from=app=web+!canary,from=cidr=x').peers, [
    {
      select: [
        { key: 'app', value: 'web' },
        { key: 'canary', not: true }
      ]
    },
    { select: [{ key: 'cidr', value: 'x' }] }
  ])
  t.end()
})

t.test('what is no rule is refused, and the refusal names the option', t => {
  for (const text of [
    ...[
      '',
      ',',
      'from',
      'from=',
      'from=a,',
      'any,port=80/tcp',
      'to=a',
      'form=a',
      'port=80',
      'port=http',
      'port=http/tcp'
    ],
    ...['port=80/esp', 'port=/tcp', 'port=80-/tcp', 'port=90-80/tcp', 'port=65536/tcp', 'port=256/icmp', 'port=80/TCP'],
    ...['port=-1/tcp', 'port=0x50/tcp', 'port=080000/tcp', 'priority=-1', 'priority=1001', 'priority=1,priority=2'],
    ...['priority=1.5', 'priority=', 'except=10.0.0.0/8', 'from=a,except=10.0.0.0/8', 'from=cidr:10.0.0.1/8'],
    ...['from=cidr:10.0.0.0/8,port=80/tcp,except=11.0.0.0/16', 'from=cidr:10.0.0.0/8,except=10.0.0.0/8'],
    ...['from=cidr:10.0.0.0', 'from=cidr:fd00::/129', 'from=cidr:10.0.0.0/8,except=fd00::/16']
  ]) {
    t.throws(() => ingress(text), { code: 'ERR_INVALID', field: '--ingress' }, JSON.stringify(text))
  }
  t.throws(() => ingress(Array.from({ length: 65 }, () => 'from=a').join(',')), {
    code: 'ERR_INVALID',
    field: '--ingress'
  })
  t.throws(() => ingress(Array.from({ length: 33 }, () => 'port=1/tcp').join(',')), {
    code: 'ERR_INVALID',
    field: '--ingress'
  })
  t.end()
})

t.test('a port is one number, a range, a whole protocol, or echo', t => {
  t.same(parsePortText('8000-8999/sctp', 'port'), [{ protocol: 'sctp', first: 8_000, last: 8_999 }])
  t.same(parsePortText('tcp', 'port'), [{ protocol: 'tcp', first: 0, last: 65_535 }])
  t.same(parsePortText('icmp', 'port'), [{ protocol: 'icmp', first: 0, last: 255 }])
  t.same(parsePortText('3/icmp', 'port'), [{ protocol: 'icmp', first: 3, last: 3 }])
  t.same(
    parsePortText('echo/icmp', 'port').map(({ first }) => first),
    [8, 128]
  )
  t.equal(formatPortRange({ protocol: 'tcp', first: 0, last: 65_535 }), 'tcp')
  t.equal(formatPortRange({ protocol: 'tcp', first: 0, last: 65_534 }), '0-65534/tcp')
  t.throws(() => parsePortText('http', 'port'), /names of ports are not known/)
  t.end()
})

t.test('every rule has a text, which is read as that rule', t => {
  const select = fc.array(
    fc.record(
      { key: fc.constantFrom('a', 'x.org/b'), value: fc.constantFrom('', '1'), not: fc.constant(true as const) },
      { requiredKeys: ['key'] }
    ),
    { maxLength: 3 }
  )
  const cidr = fc.subarray(['10.1.0.0/16', '10.128.0.0/9', '10.2.0.7/32']).map(except => ({
    ...{ cidr: parsePrefix('10.0.0.0/8'), except: except.map(text => parsePrefix(text)) }
  }))
  const peer = fc.oneof(
    select.map((each): Peer => ({ select: each })),
    cidr,
    fc.constant<Peer>({ cidr: parsePrefix('::/0'), except: [] })
  )
  const range = fc.constantFrom(...POLICY_PROTOCOLS).chain(protocol => {
    const port = fc.nat({ max: LAST_PORT[protocol] })
    return fc.tuple(port, port).map(([a, b]) => ({ protocol, first: Math.min(a, b), last: Math.max(a, b) }))
  })
  const rule: fc.Arbitrary<PolicyRule> = fc.record({
    direction: fc.constantFrom(...DIRECTIONS),
    action: fc.constantFrom('allow', 'deny'),
    priority: fc.nat({ max: 1_000 }),
    peers: fc.array(peer, { maxLength: 3 }),
    ports: fc.array(range, { maxLength: 3 })
  })
  fc.assert(
    fc.property(rule, each => {
      const { direction, action } = each
      t.same(parseRuleText(formatRule(each), { direction, action, field: 'rule' }), each)
    })
  )
  t.equal(formatRule(ingress('any')), 'any')
  t.not(formatPeer({ select: [] }), formatPeer({ select: [{ key: 'a' }] }))
  t.end()
})
