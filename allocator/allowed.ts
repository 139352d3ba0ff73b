// What a client host may request about hosts and endpoints: its own alone. Networks and namespaces belong to no host, and
// operators change them from any host. Services and policies decide where the traffic of all hosts' containers goes: servers change them.
// Requests of servers name no host (`Request.by`) and may change everything. The rules
// are part of the state machine, so that nothing can change between the check and its effect. Pure.

import type { Command, Refusal } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { isVacant } from '#model/host.ts'
import type { NetworkName, PeerId } from '#model/ids.ts'
import { refuse } from './refuse.ts'
import type { Tables } from './tables.ts'

/** Why a client host may not make this change; null if it may. O(endpoints of the network) at most. */
export function whyNotAllowed(tables: Tables, command: Command, by: PeerId): Refusal | null {
  switch (command.kind) {
    case 'host-register':
      return command.host.peerId === by ? null : notAllowed('registers only itself', 'peerId')
    case 'endpoint-attach':
      return command.host === by ? null : notAllowed('attaches containers only to itself', 'host')
    case 'endpoint-update':
    case 'endpoint-detach': {
      const endpoint = tables.containers.get(command.containerId, command.ifname)
      if (endpoint === undefined || isOwn(tables, endpoint, by)) return null
      return notAllowed(
        `changes only its own endpoints, and this one is on ${nameOf(tables, endpoint.host)}`,
        'containerId'
      )
    }
    case 'network-delete':
      // By force it releases the endpoints in the network, its services and policies. Without force, a network that is used is refused anyway.
      return command.force ? releasesOthers(tables, command.name, by) : null
    // A host that seems to be down may only seem so: a member can make others look failed over Serf for a moment.
    case 'host-remove':
      return nameOf(tables, by) === command.name ? null : notAllowed('removes no other host', 'name')
    case 'service-create':
    case 'service-update':
    case 'service-delete':
      return refuse('ERR_NOT_ALLOWED', 'name: a client host changes no services; run this on a server', 'name')
    case 'policy-create':
    case 'policy-update':
    case 'policy-delete':
      return refuse('ERR_NOT_ALLOWED', 'name: a client host changes no policies; run this on a server', 'name')
    case 'session-open':
    case 'network-create':
    case 'network-update':
    case 'namespace-map':
    case 'namespace-unmap':
    case 'namespace-open':
      return null
  }
}

/** Also the endpoint of a vacant host, which a restored backup knows by the name of this one. */
function isOwn(tables: Tables, { host }: Endpoint, by: PeerId): boolean {
  if (host === by) return true
  const holder = tables.hosts.get(host)
  return holder !== undefined && isVacant(holder) && holder.name === tables.hosts.get(by)?.name
}

function releasesOthers(tables: Tables, name: NetworkName, by: PeerId): Refusal | null {
  const table = tables.networks.get(name)
  if (table?.services?.byName.size) return notAllowed(`does not delete network ${name}, which has services`, 'name')
  if (tables.policies.countOf(name) > 0)
    return notAllowed(`does not delete network ${name}, which has policies`, 'name')
  for (const endpoint of table?.byAddress.values() ?? []) {
    if (isOwn(tables, endpoint, by)) continue
    return notAllowed(
      `does not delete network ${name}, in which ${nameOf(tables, endpoint.host)} has endpoints`,
      'name'
    )
  }
  return null
}

function nameOf(tables: Tables, peer: PeerId): string {
  return tables.hosts.get(peer)?.name ?? peer
}

function notAllowed(what: string, field: string): Refusal {
  return refuse('ERR_NOT_ALLOWED', `${field}: a client host ${what}; run this on that host or on a server`, field)
}
