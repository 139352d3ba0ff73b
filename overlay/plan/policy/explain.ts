// What would happen to a packet between two ends, and why, in words: `vxmesh policy test`. Pure.

import { formatIp } from '#model/ip.ts'
import { DIRECTIONS, type Direction, type Policy } from '#model/policy.ts'
import { formatRule } from '#model/policy-text.ts'
import { NO_RULE, type CompiledPolicies, type Verdict } from './compiled.ts'
import { PolicyTables, type End, type Packet } from './evaluate.ts'

export type Explanation = {
  readonly allowed: boolean
  /** One for the sender and one for the receiver. */
  readonly because: readonly string[]
}

/** @param compiled with both ends among its subjects, if they are endpoints */
export function explain(compiled: CompiledPolicies, packet: Packet): Explanation {
  const judgement = new PolicyTables(compiled).judge(packet)
  const ends = { egress: packet.from, ingress: packet.to }
  return {
    allowed: DIRECTIONS.every(direction => judgement[direction].allowed),
    because: (['egress', 'ingress'] as const).map(direction =>
      sentence(compiled, { direction, end: ends[direction], verdict: judgement[direction] })
    )
  }
}

function sentence(
  compiled: CompiledPolicies,
  p: { readonly direction: Direction; readonly end: End; readonly verdict: Verdict }
): string {
  const { direction, end, verdict } = p
  const what = `${direction} of ${formatIp(end.address)} is ${verdict.allowed ? 'allowed' : 'denied'}`
  if (end.key === null) return `${what}: it is no endpoint of this network`
  const ruleset = compiled.rulesets.get(compiled.subjects.get(end.key) ?? NO_RULE)
  if (ruleset === undefined) return `${what}: no policy selects it`
  return `${what}: ${why(compiled, { direction, verdict, policies: ruleset.policies })}`
}

function why(
  compiled: CompiledPolicies,
  p: { readonly direction: Direction; readonly verdict: Verdict; readonly policies: readonly Policy[] }
): string {
  const { direction, verdict, policies } = p
  const reason = compiled.reasons.get(verdict.reason)
  if (reason !== undefined) {
    const rule = policies.find(({ name }) => name === reason.policy)?.rules[reason.rule]
    const text = rule === undefined ? '' : ` (${rule.action === 'deny' ? 'deny ' : ''}${direction} ${formatRule(rule)})`
    return `rule ${reason.rule + 1} of policy ${reason.policy}${text}`
  }
  const closing = policies.filter(({ closes }) => closes.includes(direction)).map(({ name }) => name)
  if (verdict.allowed)
    return `no rule of ${listed(policies.map(({ name }) => name))} is about it, and none closes ${direction}`
  return `${listed(closing)} ${closing.length === 1 ? 'closes' : 'close'} ${direction}, and no rule allows it`
}

function listed(names: readonly string[]): string {
  return `${names.length === 1 ? 'policy' : 'policies'} ${names.join(', ')}`
}
