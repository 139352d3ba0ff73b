// Refusals. They are outcomes too: the same on every replica, and remembered for retries.

import { BOTH_FAMILIES, rulesOfVersion, versionOfRules, type Refusal } from '#model/command.ts'
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

/** What needs IPv6, before the cluster has raised its rules for it (docs/adr/0054). */
export function refuseOldRules({ presentHosts }: Tables, field: string): Refusal {
  const old = presentHosts.filter(({ version }) => rulesOfVersion(version) < BOTH_FAMILIES).map(({ name }) => name)
  const why =
    old.length === 0
      ? 'the cluster is about to allow it; try again in a moment'
      : `upgrade vxmesh to ${versionOfRules(BOTH_FAMILIES)} on ${namesOf(old)} first`
  return refuse('ERR_UNSUPPORTED', `${field}: IPv6 needs every host of the cluster to know it: ${why}`, field)
}

const NAMES_SHOWN = 5

function namesOf(hosts: readonly string[]): string {
  const shown = hosts.toSorted().slice(0, NAMES_SHOWN).join(', ')
  return hosts.length > NAMES_SHOWN ? `${shown} and ${hosts.length - NAMES_SHOWN} others` : shown
}
