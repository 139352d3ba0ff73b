// Commands about policies (docs/adr/0067).

import { POLICIES, type CommandOf, type OutcomeOf, type PolicyKey, type Refusal } from '#model/command.ts'
import { closedBy, whyTooLarge, type Policy } from '#model/policy.ts'
import { MAX_POLICIES, MAX_POLICIES_PER_NETWORK, whyFull } from './quotas.ts'
import { noNetwork, refuse, refuseOldRules } from './refuse.ts'
import { policyRow } from './rows.ts'
import type { Tables } from './tables.ts'

/**
 * A request with the same name and request id as an existing policy is a retry whose session was lost: it gets that policy, whatever
 * its other fields.
 */
export function createPolicy(
  tables: Tables,
  command: CommandOf<'policy-create'>,
  rules: number
): OutcomeOf<'policy-create'> {
  const unknown = whyUnknown(tables, command, rules)
  if (unknown !== null) return unknown
  const { network, name, requestId } = command
  const existing = tables.policies.get(network, name)
  if (existing !== undefined) {
    if (requestId !== undefined && requestId === existing.requestId) return outcome(existing, false)
    return refuse('ERR_POLICY_EXISTS', `policy ${name} already exists in network ${network}`, 'name')
  }
  const full = whyNoMore(tables, command, rules)
  if (full !== null) return full
  const policy = policyRow(command)
  tables.addPolicy(policy)
  return outcome(policy, true)
}

/** Rules are replaced as a whole. With them, and not with `closes`, the policy closes what they say (model/policy.ts). */
export function updatePolicy(
  tables: Tables,
  command: CommandOf<'policy-update'>,
  rules: number
): OutcomeOf<'policy-update'> {
  const policy = policyOf(tables, command, rules)
  if ('ok' in policy) return policy
  const closes = command.closes ?? (command.rules === undefined ? policy.closes : closedBy(command.rules))
  const changed = policyRow({
    ...policy,
    select: command.select ?? policy.select,
    closes,
    rules: command.rules ?? policy.rules
  })
  const large = whyTooLarge(changed)
  if (large !== null) return refuse('ERR_INVALID', `rules: ${large}`, 'rules')
  tables.policies.remove(policy)
  tables.addPolicy(changed)
  return outcome(changed, false)
}

export function deletePolicy(
  tables: Tables,
  command: CommandOf<'policy-delete'>,
  rules: number
): OutcomeOf<'policy-delete'> {
  const policy = policyOf(tables, command, rules)
  if ('ok' in policy) return policy
  tables.policies.remove(policy)
  return outcome(policy, false)
}

function policyOf(tables: Tables, key: PolicyKey, rules: number): Policy | Refusal {
  const unknown = whyUnknown(tables, key, rules)
  if (unknown !== null) return unknown
  const policy = tables.policies.get(key.network, key.name)
  return policy ?? refuse('ERR_POLICY_NOT_FOUND', `network ${key.network} has no policy ${key.name}`, 'name')
}

function whyUnknown(tables: Tables, { network }: PolicyKey, rules: number): Refusal | null {
  if (rules < POLICIES) return refuseOldRules(tables, 'name', POLICIES)
  return tables.networks.has(network) ? null : noNetwork(network, 'network')
}

function whyNoMore({ policies }: Tables, { network }: PolicyKey, rules: number): Refusal | null {
  const own = { count: policies.countOf(network), what: `policies in network ${network}`, field: 'network' }
  return (
    whyFull(rules, { ...own, max: MAX_POLICIES_PER_NETWORK }) ??
    whyFull(rules, { count: policies.count, max: MAX_POLICIES, what: 'policies', field: 'name' })
  )
}

function outcome(policy: Policy, created: boolean): OutcomeOf<'policy-create'> {
  return { ok: true, result: { kind: 'policy', policy, created } }
}
