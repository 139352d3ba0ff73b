import t from 'tap'
import { parseNetworkName, parsePolicyName } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { closedBy, type Policy, type PolicyRule } from '#model/policy.ts'
import { parseRuleText } from '#model/policy-text.ts'
import { parseRequirementsText } from '#model/requirement.ts'
import { compile } from '#overlay/plan/policy/compile.ts'
import { explain } from '#overlay/plan/policy/explain.ts'
import { endpoint } from './arbitraries.ts'

const allow = (direction: 'ingress' | 'egress', text: string): PolicyRule =>
  parseRuleText(text, { direction, action: 'allow', field: 'rule' })
const deny = (text: string): PolicyRule => parseRuleText(text, { direction: 'ingress', action: 'deny', field: 'rule' })
const policy = (name: string, select: string, rules: readonly PolicyRule[]): Policy => ({
  network: parseNetworkName('red'),
  name: parsePolicyName(name),
  ...{ select: parseRequirementsText(select, 'select'), closes: closedBy(rules), rules }
})

const [db, app, web] = [endpoint(1, { tier: 'db' }), endpoint(2, { tier: 'app' }), endpoint(3, { tier: 'web' })]
const endpoints = [db, app, web]
const policies = [
  policy('db', 'tier=db', [allow('ingress', 'from=tier=app,port=5432/tcp'), deny('from=cidr:192.0.2.0/24')]),
  policy('quiet', '*', [deny('port=23/tcp,priority=10')]),
  policy('web', 'tier=web', [allow('egress', 'to=tier=app'), allow('ingress', 'port=80/tcp')])
]
const compiled = compile({ policies, endpoints, isSubject: () => true })

for (const [title, from, to, port, allowed, because] of [
  [
    'a rule allows it',
    ...['10.1.0.2', '10.1.0.1', 5_432, true],
    [
      'egress of 10.1.0.2 is allowed: no rule of policy quiet is about it, and none closes egress',
      'ingress of 10.1.0.1 is allowed: rule 1 of policy db (ingress from=tier=app,port=5432/tcp)'
    ]
  ],
  [
    'no rule allows it',
    ...['10.1.0.2', '10.1.0.1', 80, false],
    [
      'egress of 10.1.0.2 is allowed: no rule of policy quiet is about it, and none closes egress',
      'ingress of 10.1.0.1 is denied: policy db closes ingress, and no rule allows it'
    ]
  ],
  [
    'a rule denies it',
    ...['10.1.0.3', '10.1.0.2', 23, false],
    [
      'egress of 10.1.0.3 is allowed: rule 1 of policy web (egress to=tier=app)',
      'ingress of 10.1.0.2 is denied: rule 1 of policy quiet (deny ingress port=23/tcp,priority=10)'
    ]
  ],
  [
    'of an address outside, only the other end is judged',
    ...['192.0.2.9', '10.1.0.1', 5_432, false],
    [
      'egress of 192.0.2.9 is allowed: it is no endpoint of this network',
      'ingress of 10.1.0.1 is denied: rule 2 of policy db (deny ingress from=cidr:192.0.2.0/24)'
    ]
  ]
] as const) {
  t.test(title, t => {
    const end = (text: string): { key: string | null; address: ReturnType<typeof parseIp> } => {
      const address = parseIp(text)
      return { key: endpoints.find(({ addresses }) => addresses.includes(address))?.key ?? null, address }
    }
    t.same(explain(compiled, { from: end(from), to: end(to), protocol: 'tcp', port }), { allowed, because })
    t.end()
  })
}

t.test('an endpoint that no policy selects is open', t => {
  const none = compile({ policies: [], endpoints, isSubject: () => true })
  const [from, to] = [app, db].map(({ key, addresses: [address = parseIp('::')] }) => ({ key, address }))
  if (from === undefined || to === undefined) throw new Error('no ends')
  t.same(explain(none, { from, to, protocol: null, port: 0 }), {
    allowed: true,
    because: [
      'egress of 10.1.0.2 is allowed: no policy selects it',
      'ingress of 10.1.0.1 is allowed: no policy selects it'
    ]
  })
  t.end()
})
