// Commands about hosts. A host's identity is its peer id; a name and a VTEP belong to one host at a time.

import { BOTH_FAMILIES, type CommandOf, type OutcomeOf, type Refusal } from '#model/command.ts'
import { isVacant, type Host } from '#model/host.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, isIpv4 } from '#model/ip.ts'
import { MAX_HOSTS, whyFull } from './quotas.ts'
import { raiseRules, rulesWith, whyTooOld } from './cluster-rules.ts'
import { refuse, refuseOldRules } from './refuse.ts'
import type { Tables } from './tables.ts'

/** Creates or replaces the record of a peer id. Its endpoints stay: the containers did not move. */
export function registerHost(
  tables: Tables,
  command: CommandOf<'host-register'>,
  rules: number
): OutcomeOf<'host-register'> {
  const { name, peerId, vtep, role, bootId, version } = command.host
  const old = whyTooOld(tables, command.host)
  if (old !== null) return old
  const named = tables.hostByName.get(name)
  if (named !== undefined && named.peerId !== peerId) {
    const what = `${name} belongs to the host with peer id ${named.peerId}`
    return refuse('ERR_HOST_EXISTS', `name: ${what}; if that host is gone: vxmesh host remove ${name}`, 'name')
  }
  const unfit = whyOtherFamily(tables, command.host) ?? whyVtepTaken(tables, command.host)
  if (unfit !== null) return unfit
  const full = tables.hosts.has(peerId)
    ? null
    : whyFull(rules, { count: tables.hosts.size, max: MAX_HOSTS, what: 'hosts', field: 'peerId' })
  if (full !== null) return full
  const host: Host = { name, peerId, vtep, role, bootId, version }
  tables.putHost(host)
  raiseRules(tables)
  return { ok: true, result: { kind: 'host', host } }
}

/**
 * A cluster has one underlay family: that of the hosts that are registered. An IPv6 VTEP is in no row before all of them can
 * read it; the first host decides alone.
 */
export function whyOtherFamily(tables: Tables, host: Host): Refusal | null {
  const { vtep, peerId } = host
  if (!isIpv4(vtep) && rulesWith(tables, host) < BOTH_FAMILIES) return refuseOldRules(tables, 'vtep')
  const other = firstOther(tables.hostByVtep.values(), peerId)
  if (other === undefined || isIpv4(other.vtep) === isIpv4(vtep)) return null
  const [mine, theirs] = isIpv4(vtep) ? ['IPv4', 'IPv6'] : ['IPv6', 'IPv4']
  const what = `${formatIp(vtep)} is an ${mine} address, and the tunnel addresses of this cluster are ${theirs}`
  return refuse('ERR_INVALID', `vtep: ${what}; set bind and overlay.vtep of this host to ${theirs} ones`, 'vtep')
}

/** Of a cluster that has hosts, the second at the latest. */
function firstOther(hosts: Iterable<Host>, peerId: PeerId): Host | undefined {
  for (const host of hosts) if (host.peerId !== peerId) return host
  return undefined
}

/** Another host has this VTEP. */
export function whyVtepTaken(tables: Tables, { vtep, peerId }: Host): Refusal | null {
  const holder = tables.hostByVtep.get(vtep)
  if (holder === undefined || holder.peerId === peerId) return null
  return refuse('ERR_ADDRESS_IN_USE', `vtep: ${formatIp(vtep)} belongs to host ${holder.name}`, 'vtep')
}

/**
 * Removes the host and releases its endpoints; it may register again. Vacant hosts of that name are removed first: then
 * the present host of the name stays until the command is repeated.
 */
export function removeHost(tables: Tables, { name }: CommandOf<'host-remove'>): OutcomeOf<'host-remove'> {
  // There may be several after several restores. All are removed; the one in the result must be the same on every replica.
  const vacant = [...tables.hosts.values()].filter(host => host.name === name && isVacant(host))
  const [host = tables.hostByName.get(name)] = vacant.sort((a, b) => (a.peerId < b.peerId ? -1 : 1))
  if (host === undefined) return refuse('ERR_HOST_NOT_FOUND', `there is no host ${name}`, 'name')
  const leaving = vacant.length === 0 ? [host] : vacant
  const released = leaving.reduce((sum, one) => sum + tables.removeHost(one), 0)
  raiseRules(tables)
  return { ok: true, result: { kind: 'host-removed', host, released } }
}
