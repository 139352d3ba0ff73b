// The compiled form decides as the policies mean it, and has the sizes that it promises.

import t from 'tap'
import { parseNetworkName, parsePolicyName } from '#model/ids.ts'
import { closedBy, type Action, type Direction, type Policy, type PolicyRule } from '#model/policy.ts'
import { parseRuleText } from '#model/policy-text.ts'
import { parseRequirementsText } from '#model/requirement.ts'
import { compile } from '#overlay/plan/policy/compile.ts'
import { MAX_VERDICTS, type CompiledPolicies } from '#overlay/plan/policy/compiled.ts'
import { endpoint } from './arbitraries.ts'
import { compare } from './compare.ts'

t.test('the compiled form decides as the policies mean it, for 24,000 packets of 1,200 generated networks', t => {
  const { packets, denied, difference } = compare({ seed: 67, runs: 1_200, packetsEach: 20 })
  t.equal(difference, null)
  t.equal(packets, 24_000)
  t.ok(denied > packets / 4 && denied < (packets * 3) / 4, `${denied} of them are denied`)
  t.end()
})

const policy = (
  name: string,
  select: string,
  p: Partial<Record<'ingress' | 'egress' | 'deny', string[]>> = {}
): Policy => {
  const of = (texts: readonly string[] = [], direction: Direction, action: Action): readonly PolicyRule[] =>
    texts.map(text => parseRuleText(text, { direction, action, field: 'rule' }))
  const rules = [
    ...of(p.ingress, 'ingress', 'allow'),
    ...of(p.egress, 'egress', 'allow'),
    ...of(p.deny, 'ingress', 'deny')
  ]
  return {
    network: parseNetworkName('red'),
    name: parsePolicyName(name),
    ...{ select: parseRequirementsText(select, 'select'), closes: closedBy(rules), rules }
  }
}

const all = (): boolean => true

t.test('nothing is compiled of no policies, and of policies that select nobody only what peers are', t => {
  const endpoints = [endpoint(1, { app: 'a' }), endpoint(2, {})]
  t.same(compile({ policies: [], endpoints, isSubject: all }).members.size, 0)
  const { subjects, verdicts, members } = compile({
    ...{ policies: [policy('p', 'app=none', { ingress: ['from=app'] })], endpoints, isSubject: all }
  })
  t.same([subjects.size, verdicts.length, members.size], [0, 0, 2])
  t.end()
})

t.test('tables grow with what policies tell apart, and not with endpoints', t => {
  const policies = [
    policy('db', 'tier=db', { ingress: ['from=tier=app,port=5432/tcp'], egress: ['to=cidr:10.0.0.0/8'] }),
    policy('app', 'tier=app', { ingress: ['from=tier=web,port=8000-8007/tcp'] })
  ]
  const of = (count: number): CompiledPolicies => {
    const tiers = ['db', 'app', 'web', 'other']
    const endpoints = Array.from({ length: count }, (_, n) =>
      endpoint(n % 250, { tier: tiers[n % 4] ?? '', id: `${n}` })
    )
    return compile({ policies, endpoints, isSubject: all })
  }
  const [few, many] = [of(8), of(200)]
  t.same(many.verdicts, few.verdicts)
  t.equal(few.rulesets.size, 2)
  t.equal(few.verdicts.length, 7 + 2)
  t.equal(many.members.size, 200, 'both addresses of the endpoints that are app or web')
  t.equal(new Set(many.members.values()).size, 2)
  t.same(many.blocks, few.blocks)
  t.end()
})

t.test('a host compiles the rules of its own endpoints, with the numbers that all hosts have', t => {
  const policies = [
    policy('db', 'tier=db', { ingress: ['from=tier=app'] }),
    policy('app', 'tier=app', { egress: ['any'] })
  ]
  const endpoints = [endpoint(1, { tier: 'db' }), endpoint(2, { tier: 'app' }), endpoint(3, { tier: 'app' })]
  const everywhere = compile({ policies, endpoints, isSubject: all })
  const here = compile({
    policies: policies.toReversed(),
    endpoints,
    isSubject: ({ labels }) => labels['tier'] === 'db'
  })
  t.same([...here.subjects.keys()], ['c1/eth0'])
  t.equal(here.subjects.get('c1/eth0'), everywhere.subjects.get('c1/eth0'))
  t.same(here.members, everywhere.members)
  const isHere = ({ ruleset }: { ruleset: number }): boolean => here.rulesets.has(ruleset)
  t.same(here.verdicts, everywhere.verdicts.filter(isHere))
  t.ok(here.verdicts.length < everywhere.verdicts.length)
  t.end()
})

t.test('a verdict never changes under its key: rules that change have another ruleset', t => {
  const endpoints = [endpoint(1, { tier: 'db' }), endpoint(2, { tier: 'app' })]
  const of = (...texts: string[]): CompiledPolicies =>
    compile({ policies: [policy('db', 'tier=db', { ingress: texts })], endpoints, isSubject: all })
  const keys = ({ verdicts }: CompiledPolicies): Map<string, boolean> =>
    new Map(verdicts.map(({ allowed, reason: _, ...key }) => [JSON.stringify(key), allowed]))
  const [before, after] = [keys(of('from=tier=app')), keys(of('from=tier=app,port=80/tcp'))]
  t.same(
    [...before.keys()].filter(key => after.has(key)),
    []
  )
  t.same(of('from=tier=app').members, of('from=tier=app,port=80/tcp').members, 'and identities stay')
  t.end()
})

t.test('what would not fit is refused, in words', t => {
  const endpoints = Array.from({ length: 120 }, (_, n) => endpoint(n, { [`k${n % 60}`]: '', all: '' }))
  const wide = Array.from({ length: 60 }, (_, n) => `from=k${n},port=1-65534/tcp,port=1-65534/udp,port=1-65534/sctp`)
  const policies = Array.from({ length: 20 }, (_, n) => policy(`p${n}`, `k${n}`, { ingress: wide }))
  t.throws(() => compile({ policies, endpoints, isSubject: all }), {
    ...{ code: 'ERR_LIMIT_REACHED', field: 'policies', message: /verdicts, and 65536 are the most of a network/ }
  })
  t.ok(compile({ policies: policies.slice(0, 10), endpoints, isSubject: all }).verdicts.length > MAX_VERDICTS / 2)
  const cidrs = (from: number, count: number): string =>
    Array.from({ length: count }, (_, n) => `from=cidr:10.${(from + n) >> 8}.${(from + n) & 255}.0/24`).join(',')
  const blocks = Array.from({ length: 1_000 }, (_, n) => policy(`p${n}`, '*', { ingress: [cidrs(n * 33, 33)] }))
  t.throws(() => compile({ policies: blocks, endpoints, isSubject: all }), {
    ...{ code: 'ERR_LIMIT_REACHED', message: /33000 prefixes, and 32768 are the most of a network/ }
  })
  t.end()
})
