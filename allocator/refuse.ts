// Refusals. They are outcomes too: the same on every replica, and remembered for retries.

import {
  BOTH_FAMILIES,
  LABELS,
  POLICIES,
  rulesOfVersion,
  SERVICES,
  versionOfRules,
  type Refusal
} from '#model/command.ts'
import type { ErrorCode } from '#model/errors.ts'
import type { NetworkName } from '#model/ids.ts'
import type { Tables } from './tables.ts'

/** @param field the invalid input field, by its name in the API */
export function refuse(code: ErrorCode, message: string, field: string): Refusal {
  return { ok: false, error: { code, message, field } }
}

/** @param field `name` where the command is about the network, `network` where it refers to it */
export function noNetwork(name: NetworkName, field: 'name' | 'network'): Refusal {
  return refuse('ERR_NETWORK_NOT_FOUND', `there is no network ${name}`, field)
}

/**
 * What needs newer rules, before the cluster has raised its own to them (docs/adr/0054).
 * @param needed BOTH_FAMILIES, LABELS, SERVICES or POLICIES
 */
export function refuseOldRules({ presentHosts }: Tables, field: string, needed: number = BOTH_FAMILIES): Refusal {
  const old = presentHosts.filter(({ version }) => rulesOfVersion(version) < needed).map(({ name }) => name)
  const why =
    old.length === 0
      ? 'the cluster is about to allow it; try again in a moment'
      : `upgrade vxmesh to ${versionOfRules(needed)} on ${namesOf(old)} first`
  return refuse('ERR_UNSUPPORTED', `${field}: ${wants(needed)}: ${why}`, field)
}

function wants(rules: number): string {
  const every = 'every host of the cluster to know'
  if (rules >= POLICIES) return `policies need ${every} them`
  if (rules >= SERVICES) return `services need ${every} them`
  return rules >= LABELS ? `labels need ${every} them` : `IPv6 needs ${every} it`
}

const NAMES_SHOWN = 5

function namesOf(hosts: readonly string[]): string {
  const shown = hosts.toSorted().slice(0, NAMES_SHOWN).join(', ')
  return hosts.length > NAMES_SHOWN ? `${shown} and ${hosts.length - NAMES_SHOWN} others` : shown
}
