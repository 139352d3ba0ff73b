// The self-check of policies: part of consistency.ts. Pure.

import { POLICIES } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import { parsePolicySpec } from '#model/policy.ts'
import type { Tables } from './tables.ts'

/** Every inconsistency, as text. O(policies) */
export function* policyFaults({ rules, networks, policies }: Tables): Generator<string> {
  let rows = 0
  for (const network of policies.networks()) {
    if (!networks.has(network)) yield `network ${network} has policies and is none`
    if (rules < POLICIES) yield `network ${network} has policies by rules ${rules}`
    for (const policy of policies.of(network)) {
      rows++
      const what = `policy ${network}/${policy.name}`
      if (policy.network !== network) yield `${what} is filed in ${network}, and of ${policy.network}`
      if (policies.get(network, policy.name) !== policy) yield `${what} is not found by its name`
      try {
        parsePolicySpec(policy)
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
        yield `${what}: ${err.message}`
      }
    }
  }
  if (rows !== policies.count) yield `${rows} policies, ${policies.count} counted`
}
