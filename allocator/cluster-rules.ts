// The rules of the cluster (docs/adr/0054).

import { RULES, rulesOfVersion, UNGATED_RULES, versionOfRules, type Refusal } from '#model/command.ts'
import type { Host } from '#model/host.ts'
import { refuse } from './refuse.ts'
import type { Tables } from './tables.ts'

/**
 * Raises the rules to the newest that every registered host knows. Called after each change of the hosts, and for a snapshot,
 * which may be of a version that did not know them: every replica raises them at the same entry. O(hosts) until they are the latest
 */
export function raiseRules(tables: Tables): void {
  if (tables.rules === RULES) return
  const known = tables.presentHosts.map(({ version }) => rulesOfVersion(version))
  tables.rules = Math.max(tables.rules, known.length === 0 ? UNGATED_RULES : Math.min(...known))
}

/** The rules once this host is registered, too. O(hosts) until they are the latest */
export function rulesWith(tables: Tables, { peerId, version }: Host): number {
  if (tables.rules === RULES) return RULES
  const others = tables.presentHosts.filter(host => host.peerId !== peerId)
  return Math.max(tables.rules, Math.min(...[version, ...others.map(host => host.version)].map(rulesOfVersion)))
}

/** Why a host of this version must not register any more; null if it may. */
export function whyTooOld({ rules }: Tables, { version }: Host): Refusal | null {
  if (rulesOfVersion(version) >= rules) return null
  const what = `${version} does not know what this cluster uses; upgrade vxmesh on this host to ${versionOfRules(rules)}`
  return refuse('ERR_UNSUPPORTED', `version: ${what}`, 'version')
}
