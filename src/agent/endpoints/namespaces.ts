// Which network a pod goes to: the network that its namespace is mapped to, a granted network that the pod names, or, if
// the configuration says so, a network created for the namespace on demand.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import { VxmeshError } from '#model/errors.ts'
import type { NamespaceName, NetworkName } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Propose } from './propose.ts'

export type NamespacePort = {
  readonly state: Pick<ClusterState, 'namespace'>
  readonly config: () => Pick<Config, 'namespaces'>
  readonly propose: Propose
}

/**
 * @param chosen the network that the pod names; it must be granted to the namespace
 * @throws ERR_NAMESPACE_NOT_FOUND, ERR_NOT_GRANTED, and the refusals of a network's creation
 */
export async function networkOfNamespace(
  port: NamespacePort,
  name: NamespaceName,
  chosen: NetworkName | undefined
): Promise<NetworkName> {
  const { network, grants } = port.state.namespace(name) ?? (await open(port, name))
  if (chosen === undefined || chosen === network) return network
  if (grants.includes(chosen)) return chosen
  const what = `network ${chosen} is not granted to namespace ${name}`
  throw new VxmeshError('ERR_NOT_GRANTED', `${what}: vxmesh namespace map ${name} ${network} --grant ${chosen}`)
}

async function open(port: NamespacePort, name: NamespaceName): Promise<Pick<Namespace, 'network' | 'grants'>> {
  const { unmapped, range, prefixLength } = port.config().namespaces
  if (unmapped === 'refuse') {
    const what = `namespace ${name} is mapped to no network`
    throw new VxmeshError('ERR_NAMESPACE_NOT_FOUND', `${what}: vxmesh namespace map ${name} NETWORK`)
  }
  const pool = { range: parseSubnet(range), prefixLength }
  const { network } = await port.propose({ kind: 'namespace-open', namespace: name, ...pool })
  return port.state.namespace(name) ?? { network: network.name, grants: [] }
}
