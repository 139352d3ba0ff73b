// Which networks a change may concern on any host, so that a reconcile pass looks at those alone. Too many is slow, too
// few would wait for the periodic pass. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import { endpointKey } from '#model/endpoint.ts'
import type { HostName, NetworkName, PeerId, Vni } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'

/** To be asked before the command is applied: afterwards a removal has left no trace. */
export function networksOfCommand(state: ClusterState, command: Command): readonly Vni[] {
  switch (command.kind) {
    case 'session-open':
    case 'network-create':
      return []
    case 'network-update':
    case 'network-delete':
      return networkNamed(state, command.name)
    case 'endpoint-attach':
      return networkNamed(state, command.network)
    case 'endpoint-detach': {
      const endpoint = state.endpoint(endpointKey(command.containerId, command.ifname))
      return endpoint === undefined ? [] : [endpoint.vni]
    }
    case 'host-register':
      return networksOfHost(state, command.host.peerId)
    case 'host-remove':
      return networksOfHostNamed(state, command.name)
  }
}

/** The networks in which hosts have endpoints whose status is not what it was. */
export function networksOfMembers(
  state: ClusterState,
  p: { before: ReadonlyMap<PeerId, MemberStatus>; after: ReadonlyMap<PeerId, MemberStatus> }
): readonly Vni[] {
  const peers = new Set([...p.before.keys(), ...p.after.keys()])
  return [...peers]
    .filter(peer => p.before.get(peer) !== p.after.get(peer))
    .flatMap(peer => networksOfHost(state, peer))
}

function networkNamed(state: ClusterState, name: NetworkName): readonly Vni[] {
  const network = state.network(name)
  return network === undefined ? [] : [network.vni]
}

function networksOfHostNamed(state: ClusterState, name: HostName): readonly Vni[] {
  const host = state.hostByName(name)
  return host === undefined ? [] : networksOfHost(state, host.peerId)
}

function networksOfHost(state: ClusterState, peer: PeerId): readonly Vni[] {
  return [...new Set(state.endpointsOnHost(peer).map(endpoint => endpoint.vni))]
}
