// Validates the commands about policies before they enter the log, as parse-request.ts does the others. Pure.

import type { CommandOf } from './command.ts'
import { optional, text, type Fields } from './fields.ts'
import { parseNetworkName, parsePolicyName } from './ids.ts'
import { parsePolicyChanges, parsePolicySpec } from './policy.ts'

type PolicyCommand = CommandOf<'policy-create' | 'policy-update' | 'policy-delete'>

/** @throws ERR_INVALID naming the field */
export function parsePolicyCommand(kind: PolicyCommand['kind'], f: Fields): PolicyCommand {
  const which = { network: parseNetworkName(text(f, 'network'), 'network'), name: parsePolicyName(text(f, 'name')) }
  switch (kind) {
    case 'policy-create':
      return { kind, ...which, ...parsePolicySpec(f), ...optional(f, 'requestId', text) }
    case 'policy-update':
      return { kind, ...which, ...parsePolicyChanges(f) }
    case 'policy-delete':
      return { kind, ...which }
  }
}
