// Commands about hosts. A host's identity is its peer id; its name and VTEP belong to one host at a time.

import type { Command, Outcome } from '#model/command.ts'
import { formatIpv4 } from '#model/ipv4.ts'
import { refuse } from './refuse.ts'
import type { Tables } from './tables.ts'

type Of<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

/** Makes or replaces the record of a peer id. */
export function registerHost(tables: Tables, { host }: Of<'host-register'>): Outcome {
  const named = tables.hostByName.get(host.name)
  if (named !== undefined && named !== host.peerId) {
    const hint = `remove it first: vxmesh host remove ${host.name}`
    return refuse('ERR_HOST_EXISTS', `name: ${host.name} belongs to the host with peer id ${named}; ${hint}`, 'name')
  }
  const holder = tables.hostWithVtep(host.vtep)
  if (holder !== undefined && holder.peerId !== host.peerId) {
    return refuse('ERR_ADDRESS_IN_USE', `vtep: ${formatIpv4(host.vtep)} belongs to host ${holder.name}`, 'vtep')
  }
  tables.putHost(host)
  return { ok: true, result: { kind: 'host', host } }
}

export function removeHost(tables: Tables, { name }: Of<'host-remove'>): Outcome {
  const peer = tables.hostByName.get(name)
  const host = peer === undefined ? undefined : tables.hosts.get(peer)
  if (host === undefined) return refuse('ERR_HOST_NOT_FOUND', `there is no host ${name}`, 'name')
  return { ok: true, result: { kind: 'host-removed', host, released: tables.removeHost(host) } }
}
