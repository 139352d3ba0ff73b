// Which networks a command may affect on any host, so that a reconcile pass is limited to them. A network too many
// costs time; one that is missing is updated only by the next full pass. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import type { NetworkName, Vni } from '#model/ids.ts'

/**
 * Must be called before the command is applied: a removal leaves no trace in the state. A host that is registered or removed
 * affects every network, and the filters, which belong to no network.
 */
export function networksOfCommand(state: ClusterState, command: Command): readonly Vni[] | 'all' {
  switch (command.kind) {
    case 'session-open':
    case 'network-create':
    case 'namespace-map':
    case 'namespace-unmap':
    case 'namespace-open':
      return []
    case 'network-update':
    case 'network-delete':
      return networkNamed(state, command.name)
    case 'endpoint-attach':
      return networkNamed(state, command.network)
    case 'endpoint-update':
    case 'endpoint-detach': {
      const endpoint = state.endpointOf(command.containerId, command.ifname)
      return endpoint === undefined ? [] : [endpoint.vni]
    }
    case 'host-register':
    case 'host-remove':
      return 'all'
  }
}

function networkNamed(state: ClusterState, name: NetworkName): readonly Vni[] {
  const network = state.network(name)
  return network === undefined ? [] : [network.vni]
}
