// What the evaluator looks up, in a compiled form that is written by hand.

import t from 'tap'
import { parseIp, parsePrefix } from '#model/ip.ts'
import type { CompiledPolicies, VerdictEntry } from '#overlay/plan/policy/compiled.ts'
import { PolicyTables, type Packet } from '#overlay/plan/policy/evaluate.ts'

const here = { ruleset: 5, direction: 'ingress', protocol: null, port: 0, portBits: 0 } as const
const STRANGERS: VerdictEntry = { ...here, side: { of: 'identity', number: 0 }, allowed: false, rank: -1, reason: 0 }

const tablesWith = (...verdicts: readonly VerdictEntry[]): PolicyTables => {
  const compiled: CompiledPolicies = {
    members: new Map([[parseIp('10.1.0.2'), 1]]),
    subjects: new Map([['c1/eth0', 5]]),
    rulesets: new Map(),
    blocks: [{ ruleset: 5, direction: 'ingress', prefix: parsePrefix('192.0.2.0/24'), block: 1 }],
    verdicts: [STRANGERS, ...verdicts],
    reasons: new Map()
  }
  return new PolicyTables(compiled)
}

const from = (address: string, p: Partial<Packet> = {}): Packet => ({
  ...{ from: { key: null, address: parseIp(address) }, to: { key: 'c1/eth0', address: parseIp('10.1.0.1') } },
  ...{ protocol: 'tcp', port: 80, ...p }
})

t.test('an identity and a block of the same number have verdicts of their own', t => {
  const identity: VerdictEntry = { ...here, side: { of: 'identity', number: 1 }, allowed: true, rank: 0, reason: 7 }
  const block: VerdictEntry = { ...here, side: { of: 'block', number: 1 }, allowed: true, rank: 0, reason: 8 }
  const reasonOf = (tables: PolicyTables, address: string): number => tables.judge(from(address)).ingress.reason
  t.same(
    ['10.1.0.2', '192.0.2.7', '10.1.0.3'].map(each => reasonOf(tablesWith(identity, block), each)),
    [7, 8, 0]
  )
  t.same(
    ['10.1.0.2', '192.0.2.7'].map(each => reasonOf(tablesWith(identity), each)),
    [7, 0]
  )
  t.same(
    ['10.1.0.2', '192.0.2.7'].map(each => reasonOf(tablesWith(block), each)),
    [0, 8]
  )
  t.end()
})

t.test('only endpoints that a policy selects are judged, and each end in its own direction', t => {
  const tables = tablesWith()
  const { ingress, egress } = tables.judge(from('10.1.0.2'))
  t.same([ingress.allowed, egress.allowed], [false, true])
  const away = tables.judge({ ...from('10.1.0.1'), to: { key: 'c2/eth0', address: parseIp('10.1.0.2') } })
  t.same([away.ingress.allowed, away.egress.allowed], [true, true])
  t.end()
})

t.test('a ruleset without a verdict for strangers is a broken invariant', t => {
  const tables = tablesWith()
  const outward = { ...from('10.1.0.2'), from: { key: 'c1/eth0', address: parseIp('10.1.0.1') } }
  t.throws(() => tables.judge(outward), /ruleset 5 has no verdict for strangers/)
  t.end()
})
