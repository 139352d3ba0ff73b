// Which network a pod of a namespace is in: the one that its namespace is mapped to, one that it may choose, or, where the
// configuration says so, one of the namespace's own that is made on demand.

import { VxmeshError } from '#model/errors.ts'
import type { NamespaceName, NetworkName } from '#model/ids.ts'
import { parseSubnet } from '#model/ipv4.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Agent } from '../agent.ts'

/**
 * @param chosen what the pod itself asks for; a pod's owner may not go where the namespace may not
 * @throws ERR_NAMESPACE_NOT_FOUND, ERR_NOT_GRANTED, and what making a network throws
 */
export async function networkOfNamespace(
  agent: Agent,
  name: NamespaceName,
  chosen: NetworkName | undefined
): Promise<NetworkName> {
  const { network, grants } = agent.state.namespace(name) ?? (await open(agent, name))
  if (chosen === undefined || chosen === network) return network
  if (grants.includes(chosen)) return chosen
  const what = `network ${chosen} is not granted to namespace ${name}`
  throw new VxmeshError('ERR_NOT_GRANTED', `${what}: vxmesh namespace map ${name} ${network} --grant ${chosen}`)
}

async function open(agent: Agent, name: NamespaceName): Promise<Pick<Namespace, 'network' | 'grants'>> {
  const { unmapped, range: text, prefixLength } = agent.config.namespaces
  if (unmapped === 'refuse') {
    const what = `namespace ${name} is mapped to no network`
    throw new VxmeshError('ERR_NAMESPACE_NOT_FOUND', `${what}: vxmesh namespace map ${name} NETWORK`)
  }
  const range = parseSubnet(text)
  const result = await agent.propose({ kind: 'namespace-open', namespace: name, range, prefixLength })
  return agent.state.namespace(name) ?? { network: result.network.name, grants: [] }
}
