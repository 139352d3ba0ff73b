// Attach and detach on the container's own host: first the committed allocation, then the kernel; the other way round
// when it goes. A kernel failure releases what was allocated for it.

import type { EndpointAttachRequest } from '#api/agent-port.ts'
import { endpointKey, type Endpoint } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import { detachRequest } from '#overlay/driver.ts'
import { checkNetns } from '#platform/netns.ts'
import type { Agent } from './agent.ts'

/** Resolves when the container has its interface. @throws ERR_NETNS, ERR_UNSUPPORTED, the state machine's refusals, ERR_KERNEL */
export async function attachEndpoint(agent: Agent, request: EndpointAttachRequest): Promise<Endpoint> {
  refuseShaping(request)
  checkNetns(request.netns)
  const { netns, ...facts } = request
  return agent.localEndpoints.handle(endpointKey(facts.containerId, facts.ifname), async () => {
    const result = await agent.propose({ kind: 'endpoint-attach', ...facts, host: agent.self })
    if (result.kind !== 'endpoint') throw new Error(`attach answered with ${result.kind}`)
    const { endpoint, created } = result
    try {
      await agent.reconciler.withNetwork(endpoint.vni, () => agent.localEndpoints.attach(endpoint, netns))
      return endpoint
    } catch (err) {
      if (created) await release(agent, endpoint)
      throw err
    } finally {
      agent.reconciler.wake([endpoint.vni])
    }
  })
}

/** Takes the interface away and releases the allocation. Works when the namespace, or the host, is gone. */
export async function detachEndpoint(agent: Agent, endpoint: Endpoint): Promise<void> {
  const { containerId, ifname } = endpoint
  await agent.localEndpoints.handle(endpointKey(containerId, ifname), async () => {
    if (endpoint.host === agent.self) {
      await agent.reconciler.exclusively(() => agent.driver.detach(detachRequest(endpoint)))
      await agent.localEndpoints.forget(endpoint)
    }
    await agent.propose({ kind: 'endpoint-detach', containerId, ifname })
  })
}

/** Best effort: when no leader can be reached the endpoint stays allocated and a later detach releases it. */
async function release(agent: Agent, endpoint: Endpoint): Promise<void> {
  try {
    await agent.localEndpoints.forget(endpoint)
    await agent.propose({ kind: 'endpoint-detach', containerId: endpoint.containerId, ifname: endpoint.ifname })
  } catch (err) {
    agent.logger.warn({ err, containerId: endpoint.containerId }, 'a failed attach could not be released')
  }
}

/** Rates and delays are not enforced by this version: to accept them silently would be a promise broken. */
function refuseShaping(request: EndpointAttachRequest): void {
  for (const field of ['ingressRate', 'egressRate', 'delayUs'] as const) {
    if (request[field] !== 0) {
      throw new VxmeshError('ERR_UNSUPPORTED', `${field}: this version does not shape traffic yet`, { field })
    }
  }
}
