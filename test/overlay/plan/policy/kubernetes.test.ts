// The cases of Kubernetes' own tests of NetworkPolicy (test/e2e/network/netpol/network_policy.go) in our words.
//
// A namespace is a label `ns` in one network here, so that cases with a namespaceSelector can be told; a network a namespace,
// as CNI makes them, has no peers in other namespaces at all. Kubernetes' named ports are numbers here, and its sets of values
// (In) several peers. Pods of namespaces x, y and z are 10.1.0.1 to 10.1.0.9 and fd00:1::1 to fd00:1::9.

import t from 'tap'
import { parseNetworkName, parsePolicyName } from '#model/ids.ts'
import { familyOf, FAMILIES, type Family } from '#model/ip.ts'
import { closedBy, type Direction, type Policy, type PolicyProtocol } from '#model/policy.ts'
import { parseRuleText } from '#model/policy-text.ts'
import { parseRequirementsText } from '#model/requirement.ts'
import { compile } from '#overlay/plan/policy/compile.ts'
import type { PolicyEndpoint } from '#overlay/plan/policy/compiled.ts'
import { PolicyTables, type End } from '#overlay/plan/policy/evaluate.ts'
import { endpoint } from './arbitraries.ts'

const PODS = ['x/a', 'x/b', 'x/c', 'y/a', 'y/b', 'y/c', 'z/a', 'z/b', 'z/c']

type PolicyText = {
  readonly select: string
  readonly closes?: readonly Direction[]
  readonly ingress?: readonly string[]
  readonly egress?: readonly string[]
}

type Case = {
  readonly name: string
  readonly policies: readonly PolicyText[]
  /** Beside `ns` and `pod`. */
  readonly labels?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly port?: number
  readonly protocol?: PolicyProtocol
  /** `x/a<y/*`: from y/* to x/a; `*` is any. Applied in their order to a matrix in which all is allowed. */
  readonly denied?: readonly string[]
  readonly butAllowed?: readonly string[]
}

/** Written for IPv4; `address` gives a pod's own. */
type ByFamily = (p: { readonly single: string; readonly large: string }) => Case

const BOTH: readonly Direction[] = ['ingress', 'egress']
const X = 'ns=x'
const XA = 'ns=x+pod=a'

const CASES: readonly Case[] = [
  {
    name: 'default-deny-ingress',
    policies: [{ select: X, closes: ['ingress'] }],
    denied: ['x/*<*']
  },
  { name: 'default-deny-all', policies: [{ select: X, closes: BOTH }], denied: ['x/*<*', '*<x/*'] },
  {
    name: 'pods within server namespace based on PodSelector',
    policies: [{ select: XA, ingress: ['from=ns=x+pod=b'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<x/b']
  },
  {
    name: 'ingress traffic for a target',
    policies: [
      { select: X, closes: ['ingress'] },
      { select: XA, ingress: ['from=*'] }
    ],
    denied: ['x/*<*'],
    butAllowed: ['x/a<*']
  },
  { name: 'ingress traffic from pods in all namespaces', policies: [{ select: XA, ingress: ['from=*'] }] },
  {
    name: 'only from a different namespace, based on NamespaceSelector',
    policies: [{ select: XA, ingress: ['from=ns=y'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/*']
  },
  {
    name: 'PodSelector with MatchExpressions',
    policies: [{ select: XA, ingress: ['from=ns=x+pod=b'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<x/b']
  },
  {
    name: 'NamespaceSelector with MatchExpressions (In)',
    policies: [{ select: XA, ingress: ['from=ns=y,from=ns=none'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/*']
  },
  {
    name: 'PodSelector or NamespaceSelector (NotIn)',
    policies: [{ select: XA, ingress: ['from=ns!=x,from=ns=x+pod=b'] }],
    denied: ['x/a<x/*'],
    butAllowed: ['x/a<x/b']
  },
  {
    name: 'PodSelector and NamespaceSelector',
    policies: [{ select: XA, ingress: ['from=ns!=x+pod=b'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/b', 'x/a<z/b']
  },
  {
    name: 'multiple PodSelectors and NamespaceSelectors',
    policies: [{ select: XA, ingress: ['from=ns!=x+pod=b,from=ns!=x+pod=c'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/b', 'x/a<y/c', 'x/a<z/b', 'x/a<z/c']
  },
  {
    name: 'any PodSelectors',
    policies: [{ select: XA, ingress: ['from=ns=x+pod=b,from=ns=x+pod=c'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<x/b', 'x/a<x/c']
  },
  {
    name: 'only from a pod in a different namespace',
    policies: [{ select: XA, ingress: ['from=ns=y+pod=a'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/a']
  },
  {
    name: 'based on Ports',
    port: 81,
    policies: [{ select: XA, ingress: ['from=ns=y,port=81/tcp'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/*']
  },
  {
    name: 'multiple, stacked policies: another port is denied',
    port: 80,
    policies: [{ select: XA, ingress: ['from=ns=y,port=81/tcp'] }],
    denied: ['x/a<*']
  },
  {
    name: 'multiple, stacked policies: a second one allows it',
    port: 80,
    policies: [
      { select: XA, ingress: ['from=ns=y,port=81/tcp'] },
      { select: XA, ingress: ['from=ns=y,port=80/tcp'] }
    ],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/*']
  },
  { name: 'allow-all policy', policies: [{ select: X, ingress: ['any'] }] },
  { name: 'ingress on one named port', port: 81, policies: [{ select: X, ingress: ['port=81/tcp'] }] },
  {
    name: 'ingress on one named port: no other',
    port: 80,
    policies: [{ select: X, ingress: ['port=81/tcp'] }],
    denied: ['x/*<*']
  },
  {
    name: 'ingress from namespace on one named port',
    port: 80,
    policies: [{ select: XA, ingress: ['from=ns=y,port=80/tcp'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/*']
  },
  {
    name: 'ingress from namespace on one named port: no other',
    port: 81,
    policies: [{ select: XA, ingress: ['from=ns=y,port=80/tcp'] }],
    denied: ['x/a<*']
  },
  { name: 'egress on one named port', port: 80, policies: [{ select: X, egress: ['port=80/tcp'] }] },
  {
    name: 'egress on one named port: no other',
    port: 81,
    policies: [{ select: X, egress: ['port=80/tcp'] }],
    denied: ['*<x/*']
  },
  { name: 'updated policy: before', policies: [{ select: X, ingress: ['any'] }] },
  { name: 'updated policy: after', policies: [{ select: X, closes: ['ingress'], ingress: [] }], denied: ['x/*<*'] },
  {
    name: 'updated namespace: before',
    policies: [{ select: XA, ingress: ['from=ns2=updated'] }],
    denied: ['x/a<*']
  },
  {
    name: 'updated namespace: after',
    policies: [{ select: XA, ingress: ['from=ns2=updated'] }],
    labels: { 'y/a': { ns2: 'updated' }, 'y/b': { ns2: 'updated' }, 'y/c': { ns2: 'updated' } },
    denied: ['x/a<*'],
    butAllowed: ['x/a<y/*']
  },
  {
    name: 'ingress from updated pod: before',
    policies: [{ select: XA, ingress: ['from=ns=x+pod=b+pod2=updated'] }],
    denied: ['x/a<*']
  },
  {
    name: 'ingress from updated pod: after',
    policies: [{ select: XA, ingress: ['from=ns=x+pod=b+pod2=updated'] }],
    labels: { 'x/b': { pod2: 'updated' } },
    denied: ['x/a<*'],
    butAllowed: ['x/a<x/b']
  },
  {
    name: 'deny ingress from pods on other namespaces',
    policies: [{ select: X, ingress: ['from=ns=x'] }],
    denied: ['x/*<y/*', 'x/*<z/*']
  },
  { name: 'deny ingress to updated pod: before', policies: [{ select: 'ns=x+target=isolated', closes: ['ingress'] }] },
  {
    name: 'deny ingress to updated pod: after',
    policies: [{ select: 'ns=x+target=isolated', closes: ['ingress'] }],
    labels: { 'x/a': { target: 'isolated' } },
    denied: ['x/a<*']
  },
  { name: 'deny egress based on PodSelector', policies: [{ select: XA, closes: ['egress'] }], denied: ['*<x/a'] },
  {
    name: 'deny egress from all pods in a namespace',
    policies: [{ select: X, closes: ['egress'] }],
    denied: ['*<x/*']
  },
  {
    name: 'ingress, egress specified together',
    port: 80,
    policies: [{ select: XA, ingress: ['from=ns=x+pod=b'], egress: ['port=80/tcp'] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<x/b']
  },
  {
    name: 'ingress, egress specified together: another port',
    port: 81,
    policies: [{ select: XA, ingress: ['from=ns=x+pod=b'], egress: ['port=80/tcp'] }],
    denied: ['x/a<*', '*<x/a'],
    butAllowed: ['x/a<x/b']
  },
  {
    name: 'denying of egress on the client side even if the server allows this traffic',
    policies: [
      { select: XA, egress: ['to=ns=y+pod=a'] },
      { select: 'ns=y+pod=a', ingress: ['from=ns=x+pod=a'] },
      { select: 'ns=y+pod=b', ingress: ['from=ns=x+pod=a'] }
    ],
    denied: ['*<x/a', 'y/a<*', 'y/b<*'],
    butAllowed: ['y/a<x/a']
  },
  {
    name: 'egress to a server in a different namespace',
    policies: [{ select: XA, egress: ['to=ns=y+pod=a'] }],
    denied: ['*<x/a'],
    butAllowed: ['y/a<x/a']
  },
  { name: 'any port on a specific protocol', protocol: 'tcp', policies: [{ select: XA, ingress: ['port=tcp'] }] },
  {
    name: 'any port on a specific protocol: no other',
    protocol: 'udp',
    policies: [{ select: XA, ingress: ['port=tcp'] }],
    denied: ['x/a<*']
  },
  {
    name: 'allow-all ingress takes precedence: before',
    port: 81,
    policies: [{ select: X, ingress: ['port=80/tcp'] }],
    denied: ['x/*<*']
  },
  {
    name: 'allow-all ingress takes precedence',
    port: 81,
    policies: [
      { select: X, ingress: ['port=80/tcp'] },
      { select: X, ingress: ['any'] }
    ]
  },
  {
    name: 'allow-all egress takes precedence: before',
    port: 81,
    policies: [{ select: X, egress: ['port=80/tcp'] }],
    denied: ['*<x/*']
  },
  {
    name: 'allow-all egress takes precedence',
    port: 81,
    policies: [
      { select: X, egress: ['port=80/tcp'] },
      { select: X, egress: ['any'] }
    ]
  },
  { name: 'stop enforcing policies after they are deleted', policies: [] },
  {
    name: 'ingress and egress can be controlled independently',
    policies: [
      { select: XA, egress: ['any'] },
      { select: XA, closes: ['ingress'] }
    ],
    denied: ['x/a<*']
  },
  {
    name: 'SCTP is not TCP',
    port: 81,
    policies: [
      { select: X, closes: ['ingress'] },
      { select: XA, ingress: ['port=81/sctp'] }
    ],
    denied: ['x/*<*']
  },
  {
    name: 'isolate pods that are selected by a policy allowing SCTP',
    port: 81,
    policies: [{ select: XA, ingress: ['port=80/sctp'] }],
    denied: ['x/a<*']
  },
  {
    name: 'no access by TCP when a policy specifies only UDP',
    port: 81,
    policies: [{ select: XA, ingress: ['port=81/udp'] }],
    denied: ['x/a<*']
  },
  {
    name: 'NamespaceSelector using default ns label (NotIn)',
    policies: [{ select: XA, egress: ['to=ns!=y'] }],
    denied: ['y/*<x/a']
  },
  ...(['udp', 'sctp'] as const).flatMap((protocol): Case[] => [
    {
      name: `${protocol}: default-deny-ingress`,
      protocol,
      policies: [{ select: X, closes: ['ingress'] }],
      denied: ['x/*<*']
    },
    {
      name: `${protocol}: based on Ports`,
      ...{ protocol, port: 81 },
      policies: [{ select: XA, ingress: [`from=ns=y,port=81/${protocol}`] }],
      denied: ['x/a<*'],
      butAllowed: ['x/a<y/*']
    },
    {
      name: `${protocol}: only from a pod in a different namespace`,
      protocol,
      policies: [{ select: XA, ingress: ['from=ns=y+pod=a'] }],
      denied: ['x/a<*'],
      butAllowed: ['x/a<y/a']
    }
  ]),
  {
    name: 'endPort: a range of ports',
    port: 8_050,
    policies: [{ select: XA, ingress: ['port=8000-8100/tcp'] }]
  },
  {
    name: 'endPort: past the range',
    port: 8_101,
    policies: [{ select: XA, ingress: ['port=8000-8100/tcp'] }],
    denied: ['x/a<*']
  },
  { name: 'an empty podSelector selects all', policies: [{ select: '*', closes: ['ingress'] }], denied: ['*<*'] },
  { name: 'a policy without rules and types is one of ingress', policies: [{ select: X }], denied: ['x/*<*'] }
]

/** Of x/b, which is number 2; `large` is the /4 in which it is. */
const BLOCKS: Readonly<Record<Family, { readonly single: string; readonly large: string }>> = {
  ipv4: { single: '10.1.0.2/32', large: '0.0.0.0/4' },
  ipv6: { single: 'fd00:1::2/128', large: 'f000::/4' }
}

const CIDR_CASES: readonly ByFamily[] = [
  ({ single }) => ({
    name: 'egress to server in CIDR block',
    policies: [{ select: XA, egress: [`to=cidr:${single}`] }],
    denied: ['*<x/a'],
    butAllowed: ['x/b<x/a']
  }),
  ({ single, large }) => ({
    name: 'except clause while egress to server in CIDR block',
    policies: [{ select: XA, egress: [`to=cidr:${large},except=${single}`] }],
    denied: ['x/b<x/a']
  }),
  ({ single, large }) => ({
    name: 'an IP overlapping both CIDR and except is allowed',
    policies: [
      { select: XA, egress: [`to=cidr:${large},except=${single}`] },
      { select: XA, egress: [`to=cidr:${single}`] }
    ]
  }),
  ({ single }) => ({
    name: 'ingress from a CIDR block',
    policies: [{ select: XA, ingress: [`from=cidr:${single}`] }],
    denied: ['x/a<*'],
    butAllowed: ['x/a<x/b']
  })
]

function pods(labels: Case['labels'] = {}): readonly PolicyEndpoint[] {
  return PODS.map((name, at) => {
    const [ns = '', pod = ''] = name.split('/')
    return endpoint(at + 1, { ns, pod, ...labels[name] })
  })
}

function policyOf({ select, closes, ingress = [], egress = [] }: PolicyText, at: number): Policy {
  const rules = [
    ...ingress.map(text => parseRuleText(text, { direction: 'ingress', action: 'allow', field: 'ingress' })),
    ...egress.map(text => parseRuleText(text, { direction: 'egress', action: 'allow', field: 'egress' }))
  ]
  return {
    network: parseNetworkName('red'),
    name: parsePolicyName(`p${at}`),
    ...{ select: parseRequirementsText(select, 'select'), closes: closes ?? closedBy(rules), rules }
  }
}

/** `x/a<y/b` for all that `x/*<*` and the like stand for. */
function pairsOf(pattern: string): readonly string[] {
  const [to = '', from = ''] = pattern.split('<')
  const isIn = (pod: string, what: string): boolean =>
    what === '*' || pod === what || (what.endsWith('/*') && pod.startsWith(what.slice(0, -1)))
  return PODS.filter(pod => isIn(pod, to)).flatMap(one =>
    PODS.filter(pod => isIn(pod, from)).map(other => `${one}<${other}`)
  )
}

function expected({ denied = [], butAllowed = [] }: Case): readonly string[] {
  const allowed = new Set(pairsOf('*<*'))
  for (const pair of denied.flatMap(pairsOf)) allowed.delete(pair)
  for (const pair of butAllowed.flatMap(pairsOf)) allowed.add(pair)
  return [...allowed].filter(isOfTwo).sort()
}

function found({ policies, labels, port = 80, protocol = 'tcp' }: Case, family: Family): readonly string[] {
  const endpoints = pods(labels)
  const tables = new PolicyTables(compile({ policies: policies.map(policyOf), endpoints, isSubject: () => true }))
  const end = (pod: string): End => {
    const { key, addresses } = endpoints[PODS.indexOf(pod)] ?? { key: null, addresses: [] }
    const address = addresses.find(each => familyOf(each) === family)
    if (address === undefined) throw new Error(`no ${family} address of ${pod}`)
    return { key, address }
  }
  return pairsOf('*<*')
    .filter(isOfTwo)
    .filter(pair => {
      const [to = '', from = ''] = pair.split('<')
      const { ingress, egress } = tables.judge({ from: end(from), to: end(to), protocol, port })
      return ingress.allowed && egress.allowed
    })
    .sort()
}

/** What a pod sends to itself never leaves it. */
function isOfTwo(pair: string): boolean {
  const [to, from] = pair.split('<')
  return to !== from
}

for (const family of FAMILIES) {
  t.test(`${family}: who reaches whom is what Kubernetes' tests expect`, t => {
    for (const each of [...CASES, ...CIDR_CASES.map(of => of(BLOCKS[family]))])
      t.same(found(each, family), expected(each), each.name)
    t.end()
  })
}

t.test('the cases tell policies apart', t => {
  const all = CASES.map(each => expected(each).length)
  t.ok(new Set(all).size > 8, `${new Set(all).size} different numbers of allowed pairs`)
  t.equal(Math.max(...all), 72)
  t.end()
})
