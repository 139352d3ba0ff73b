// Commands about hosts. A host's identity is its peer id; a name and a VTEP belong to one host at a time.

import type { CommandOf, OutcomeOf, Refusal } from '#model/command.ts'
import { isVacant, type Host } from '#model/host.ts'
import { formatIp } from '#model/ip.ts'
import { MAX_HOSTS, whyFull } from './quotas.ts'
import { refuse } from './refuse.ts'
import type { Tables } from './tables.ts'

/** Creates or replaces the record of a peer id. Its endpoints stay: the containers did not move. */
export function registerHost(
  tables: Tables,
  command: CommandOf<'host-register'>,
  rules: number
): OutcomeOf<'host-register'> {
  const { name, peerId, vtep, role, bootId, version } = command.host
  const named = tables.hostByName.get(name)
  if (named !== undefined && named.peerId !== peerId) {
    const what = `${name} belongs to the host with peer id ${named.peerId}`
    return refuse('ERR_HOST_EXISTS', `name: ${what}; if that host is gone: vxmesh host remove ${name}`, 'name')
  }
  const taken = whyVtepTaken(tables, command.host)
  if (taken !== null) return taken
  const full = tables.hosts.has(peerId)
    ? null
    : whyFull(rules, { count: tables.hosts.size, max: MAX_HOSTS, what: 'hosts', field: 'peerId' })
  if (full !== null) return full
  const host: Host = { name, peerId, vtep, role, bootId, version }
  tables.putHost(host)
  return { ok: true, result: { kind: 'host', host } }
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
  return { ok: true, result: { kind: 'host-removed', host, released } }
}
