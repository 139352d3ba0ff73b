// Which networks a change may concern on any host, so that a reconcile pass looks at those alone. Too many is slow, too
// few would wait for the periodic pass. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import { endpointKey } from '#model/endpoint.ts'
import type { NetworkName, Vni } from '#model/ids.ts'

/**
 * To be asked before the command is applied: afterwards a removal has left no trace. A host's coming and going concerns
 * all, also the filters, which are no network's.
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
      const endpoint = state.endpoint(endpointKey(command.containerId, command.ifname))
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
