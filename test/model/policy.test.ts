import t from 'tap'
import { parsePrefix } from '#model/ip.ts'
import {
  closedBy,
  MAX_EXCEPTIONS,
  MAX_PEERS,
  MAX_POLICY_BYTES,
  MAX_PORT_RANGES,
  MAX_PRIORITY,
  MAX_RULES,
  parsePolicySpec,
  type PolicyRule
} from '#model/policy.ts'
import { parseCommand } from '#model/parse-request.ts'
import { parseRuleText } from '#model/policy-text.ts'

const rule: PolicyRule = {
  direction: 'ingress',
  action: 'allow',
  priority: 0,
  peers: [{ select: [{ key: 'tier', value: 'app' }] }],
  ports: [{ protocol: 'tcp', first: 5_432, last: 5_432 }]
}
const outward: PolicyRule = {
  direction: 'egress',
  action: 'deny',
  priority: MAX_PRIORITY,
  peers: [
    { cidr: parsePrefix('10.0.0.0/8'), except: [parsePrefix('10.1.0.0/16'), parsePrefix('10.2.3.4/32')] },
    { cidr: parsePrefix('::/0'), except: [parsePrefix('fd00::/8')] }
  ],
  ports: [{ protocol: 'icmp', first: 0, last: 255 }]
}
const spec = { select: [{ key: 'tier', value: 'db' }], closes: ['ingress'], rules: [rule, outward] }

t.test('a policy is read as it is written, without what is not known', t => {
  t.same(parsePolicySpec(spec), spec)
  t.same(parsePolicySpec({ ...spec, more: 1, rules: [{ ...rule, more: 1 }, outward] }), spec)
  t.same(parsePolicySpec(JSON.parse(JSON.stringify(spec)) as typeof spec), spec)
  t.same(parsePolicySpec({ select: [], rules: [] }), { select: [], closes: ['ingress'], rules: [] })
  t.same(parsePolicySpec({ ...spec, closes: ['egress', 'ingress', 'egress'].slice(0, 2) }).closes, [
    'ingress',
    'egress'
  ])
  t.same(parsePolicySpec({ ...spec, closes: [] }).closes, [])
  t.end()
})

t.test('without saying so, a policy closes the directions in which it allows something', t => {
  const of = (direction: 'ingress' | 'egress', action: 'allow' | 'deny'): PolicyRule =>
    parseRuleText('any', { direction, action, field: 'rule' })
  t.same(closedBy([]), ['ingress'])
  t.same(closedBy([of('egress', 'allow')]), ['egress'])
  t.same(closedBy([of('egress', 'allow'), of('ingress', 'allow')]), ['ingress', 'egress'])
  t.same(closedBy([of('ingress', 'deny'), of('egress', 'deny')]), [])
  t.same(closedBy([of('ingress', 'deny'), of('egress', 'allow')]), ['egress'])
  t.end()
})

t.test('what is no policy is refused, and the refusal names the field', t => {
  const withRule = (changes: object): object => ({ ...spec, rules: [rule, { ...rule, ...changes }] })
  const withPeer = (peer: unknown): object => withRule({ peers: [peer] })
  const withPort = (port: unknown): object => withRule({ ports: [port] })
  const cidr = { base: 0x0a000000, prefixLength: 8 }
  for (const [value, field] of [
    [{ ...spec, select: undefined }, 'select'],
    [{ ...spec, select: [{ key: '' }] }, 'select'],
    [{ ...spec, closes: 'ingress' }, 'closes'],
    [{ ...spec, closes: null }, 'closes'],
    [{ ...spec, closes: ['in'] }, 'closes[0]'],
    [{ ...spec, closes: ['ingress', 'ingress', 'ingress'] }, 'closes'],
    [{ ...spec, rules: undefined }, 'rules'],
    [{ ...spec, rules: {} }, 'rules'],
    [{ ...spec, rules: [null] }, 'rules[0]'],
    [{ ...spec, rules: Array.from({ length: MAX_RULES + 1 }, () => rule) }, 'rules'],
    [withRule({ direction: 'both' }), 'rules[1].direction'],
    [withRule({ action: undefined }), 'rules[1].action'],
    [withRule({ priority: undefined }), 'rules[1].priority'],
    [withRule({ priority: -1 }), 'rules[1].priority'],
    [withRule({ priority: 0.5 }), 'rules[1].priority'],
    [withRule({ priority: MAX_PRIORITY + 1 }), 'rules[1].priority'],
    [withRule({ peers: undefined }), 'rules[1].peers'],
    [withRule({ peers: Array.from({ length: MAX_PEERS + 1 }, () => ({ select: [] })) }), 'rules[1].peers'],
    [withPeer('x'), 'rules[1].peers[0]'],
    [withPeer({}), 'rules[1].peers[0].cidr'],
    [withPeer({ select: 'a' }), 'rules[1].peers[0].select'],
    [withPeer({ cidr: { base: 0x0a000001, prefixLength: 8 }, except: [] }), 'rules[1].peers[0].cidr'],
    [withPeer({ cidr: { base: 0x0a000000, prefixLength: 33 }, except: [] }), 'rules[1].peers[0].cidr'],
    [withPeer({ cidr: { base: 2 ** 32, prefixLength: 8 }, except: [] }), 'rules[1].peers[0].cidr'],
    [withPeer({ cidr: { base: -1, prefixLength: 8 }, except: [] }), 'rules[1].peers[0].cidr'],
    [withPeer({ cidr: { base: 'fd00::/8', prefixLength: 8 }, except: [] }), 'rules[1].peers[0].cidr'],
    [withPeer({ cidr: { base: 0, prefixLength: '0' }, except: [] }), 'rules[1].peers[0].cidr'],
    [withPeer({ cidr }), 'rules[1].peers[0].except'],
    [withPeer({ cidr, except: [cidr] }), 'rules[1].peers[0].except'],
    [withPeer({ cidr, except: [parsePrefix('11.0.0.0/16')] }), 'rules[1].peers[0].except'],
    [withPeer({ cidr, except: [parsePrefix('0.0.0.0/0')] }), 'rules[1].peers[0].except'],
    [withPeer({ cidr, except: [parsePrefix('fd00::/16')] }), 'rules[1].peers[0].except'],
    [
      withPeer({ cidr, except: Array.from({ length: MAX_EXCEPTIONS + 1 }, () => parsePrefix('10.1.0.0/16')) }),
      'rules[1].peers[0].except'
    ],
    [withRule({ ports: null }), 'rules[1].ports'],
    [
      withRule({ ports: Array.from({ length: MAX_PORT_RANGES + 1 }, () => ({ protocol: 'tcp', first: 1, last: 1 })) }),
      'rules[1].ports'
    ],
    [withPort({ protocol: 'esp', first: 1, last: 1 }), 'rules[1].ports[0]'],
    [withPort({ protocol: 'tcp', first: 2, last: 1 }), 'rules[1].ports[0]'],
    [withPort({ protocol: 'tcp', first: 0, last: 65_536 }), 'rules[1].ports[0]'],
    [withPort({ protocol: 'icmp', first: 0, last: 256 }), 'rules[1].ports[0]'],
    [withPort({ protocol: 'udp', first: -1, last: 1 }), 'rules[1].ports[0]'],
    [withPort({ protocol: 'udp', first: '1', last: 1 }), 'rules[1].ports[0]'],
    [withPort({ protocol: 'udp', first: 1 }), 'rules[1].ports[0]']
  ] as const) {
    t.throws(() => parsePolicySpec(value as Record<string, unknown>), { code: 'ERR_INVALID', field }, field)
  }
  t.end()
})

t.test('a policy has a largest size', t => {
  const peers = Array.from({ length: 60 }, (_, n) => ({ select: [{ key: `k${n}`, value: 'v'.repeat(60) }] }))
  const rules = (count: number): object[] => Array.from({ length: count }, () => ({ ...rule, peers }))
  const large = parsePolicySpec({ ...spec, rules: rules(2) })
  t.ok(JSON.stringify(large).length > MAX_POLICY_BYTES / 2)
  t.throws(() => parsePolicySpec({ ...spec, rules: rules(4) }), {
    ...{ code: 'ERR_INVALID', field: 'rules', message: /bytes, and 16384 are the most/ }
  })
  t.end()
})

t.test('commands about policies are checked before they enter the log', t => {
  const which = { network: 'red', name: 'db' }
  t.same(parseCommand({ kind: 'policy-create', ...which, ...spec, requestId: 'r', more: 1 }), {
    ...{ kind: 'policy-create', ...which, ...spec, requestId: 'r' }
  })
  t.same(parseCommand({ kind: 'policy-update', ...which, select: [] }), { kind: 'policy-update', ...which, select: [] })
  t.same(parseCommand({ kind: 'policy-update', ...which, closes: null }), { kind: 'policy-update', ...which })
  t.same(parseCommand({ kind: 'policy-delete', ...which, select: 1 }), { kind: 'policy-delete', ...which })
  for (const [command, field] of [
    [{ kind: 'policy-create', ...spec, name: 'db' }, 'network'],
    [{ kind: 'policy-create', ...spec, network: 'red' }, 'name'],
    [{ kind: 'policy-create', ...spec, network: 'red', name: 'DB' }, 'name'],
    [{ kind: 'policy-create', ...which }, 'rules'],
    [{ kind: 'policy-create', ...which, ...spec, requestId: 1 }, 'requestId'],
    [{ kind: 'policy-update', ...which, rules: [{}] }, 'rules[0].direction'],
    [{ kind: 'policy-update', ...which, closes: 'ingress' }, 'closes'],
    [{ kind: 'policy-update', ...which, select: {} }, 'select'],
    [{ kind: 'policy-delete', network: 'red' }, 'name']
  ] as const) {
    t.throws(() => parseCommand(command), { code: 'ERR_INVALID', field }, JSON.stringify(command))
  }
  t.end()
})
