// Compiles the policies of a network (docs/adr/0067). The same policies and endpoints give the same numbers on every host. Pure.

import type { EndpointKey } from '#model/endpoint.ts'
import { DIRECTIONS, type Direction, type Policy } from '#model/policy.ts'
import { formatRequirements } from '#model/requirement.ts'
import { blocksOf } from './blocks.ts'
import {
  MAX_BLOCK_ENTRIES,
  MAX_VERDICTS,
  tooMany,
  type BlockEntry,
  type CompiledPolicies,
  type PolicyEndpoint,
  type Reason,
  type Ruleset,
  type RulesetNumber,
  type Side,
  type VerdictEntry
} from './compiled.ts'
import { identitiesOf, type Identities } from './identities.ts'
import { LabelClasses } from './label-classes.ts'
import { numbersOf } from './numbers.ts'
import { blockVerdicts, identityVerdicts, judgeOf, type JudgedPorts } from './verdicts.ts'

export type PolicyInput = {
  /** Of one network. */
  readonly policies: readonly Policy[]
  /** All of the network's. */
  readonly endpoints: readonly PolicyEndpoint[]
  /** Those to which rules are applied here: a host's own. */
  readonly isSubject: (endpoint: PolicyEndpoint) => boolean
}

const NOTHING: CompiledPolicies = {
  ...{ members: new Map(), subjects: new Map(), rulesets: new Map(), blocks: [], verdicts: [], reasons: new Map() }
}

/** O(endpoints), and what the bounds of the tables allow. @throws ERR_LIMIT_REACHED when a table would be too large */
export function compile({ policies: given, endpoints, isSubject }: PolicyInput): CompiledPolicies {
  if (given.length === 0) return NOTHING
  const policies = given.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const { subjects, rulesets } = rulesetsOf(policies, endpoints.filter(isSubject))
  const identities = identitiesOf(policies, endpoints)
  const reasons = reasonsOf(policies)
  const tables = tablesOf({ rulesets, identities, reasons: reasons.numbers })
  return { members: identities.members, subjects, rulesets, ...tables, reasons: reasons.byNumber }
}

/** Which policies select each subject. A ruleset's number follows from its policies' contents: rules that change have another. */
function rulesetsOf(
  policies: readonly Policy[],
  subjects: readonly PolicyEndpoint[]
): { subjects: ReadonlyMap<EndpointKey, RulesetNumber>; rulesets: ReadonlyMap<RulesetNumber, Ruleset> } {
  const classes = new LabelClasses(policies.map(({ select }) => select))
  const byText = new Map<string, Ruleset>()
  const texts = new Map<EndpointKey, string>()
  const bySelectors = new Map<readonly string[], string | null>()
  for (const { key, labels } of subjects) {
    const met = classes.of(labels)
    const known = bySelectors.get(met)
    if (known === undefined) {
      const selecting = policies.filter(({ select }) => met.includes(formatRequirements(select)))
      const text = selecting.length === 0 ? null : selecting.map(contentOf).join('\n')
      bySelectors.set(met, text)
      if (text !== null) byText.set(text, { policies: selecting })
    }
    const text = bySelectors.get(met) ?? null
    if (text !== null) texts.set(key, text)
  }
  const numbers = numbersOf(byText.keys())
  return {
    subjects: new Map([...texts].map(([key, text]) => [key, numbers.get(text) ?? 0])),
    rulesets: new Map([...byText].map(([text, ruleset]) => [numbers.get(text) ?? 0, ruleset]))
  }
}

function contentOf({ name, closes, rules }: Policy): string {
  return JSON.stringify([name, closes, rules])
}

type Reasons = { readonly numbers: ReadonlyMap<string, number>; readonly byNumber: ReadonlyMap<number, Reason> }

function reasonsOf(policies: readonly Policy[]): Reasons {
  const all = policies.flatMap(({ name, rules }) => rules.map((_, rule) => ({ policy: name, rule })))
  const numbers = numbersOf(all.map(reasonText))
  return { numbers, byNumber: new Map(all.map(reason => [numbers.get(reasonText(reason)) ?? 0, reason])) }
}

function reasonText({ policy, rule }: Reason): string {
  return `${policy} ${rule}`
}

type Rulesets = {
  readonly rulesets: ReadonlyMap<RulesetNumber, Ruleset>
  readonly identities: Identities
  readonly reasons: ReadonlyMap<string, number>
}

/** @throws ERR_LIMIT_REACHED */
function tablesOf(p: Rulesets): { readonly blocks: readonly BlockEntry[]; readonly verdicts: readonly VerdictEntry[] } {
  const tables = { blocks: [] as BlockEntry[], verdicts: [] as VerdictEntry[] }
  for (const [ruleset, { policies }] of p.rulesets) {
    for (const direction of DIRECTIONS) {
      addDirection(tables, { ...p, ruleset, direction, policies })
      const { blocks, verdicts } = tables
      if (blocks.length > MAX_BLOCK_ENTRIES) throw tooMany('prefixes', { count: blocks.length, max: MAX_BLOCK_ENTRIES })
      if (verdicts.length > MAX_VERDICTS) throw tooMany('verdicts', { count: verdicts.length, max: MAX_VERDICTS })
    }
  }
  return tables
}

function addDirection(
  { blocks, verdicts }: { readonly blocks: BlockEntry[]; readonly verdicts: VerdictEntry[] },
  p: Omit<Rulesets, 'rulesets'> & Ruleset & { readonly ruleset: RulesetNumber; readonly direction: Direction }
): void {
  const { ruleset, direction, policies } = p
  const rules = policies.flatMap(({ name: policy, rules: own }) =>
    own.map((rule, at) => ({ rule, reason: p.reasons.get(reasonText({ policy, rule: at })) ?? 0 }))
  )
  const judges = rules
    .filter(({ rule }) => rule.direction === direction)
    .map(({ rule, reason }, at) => ({ peers: rule.peers, judge: judgeOf(rule, { at, reason }) }))
  const add = (of: Side['of'], judged: ReadonlyMap<number, readonly JudgedPorts[]>): void => {
    for (const [number, ports] of judged)
      for (const each of ports) verdicts.push({ ruleset, direction, side: { of, number }, ...each })
  }
  const all = judges.map(({ judge }) => judge)
  const isClosed = policies.some(({ closes }) => closes.includes(direction))
  add('identity', identityVerdicts(all, { isClosed, identities: p.identities.peers }))
  const found = blocksOf(judges.flatMap(({ peers }) => peers))
  add('block', blockVerdicts(all, found.peers))
  for (const { prefix, block } of found.prefixes) blocks.push({ ruleset, direction, prefix, block })
}
