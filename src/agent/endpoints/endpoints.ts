// Attach and detach on the container's own host: first the committed allocation, then the kernel; the other way round
// when it goes. A kernel failure releases what was allocated for it.

import type { EndpointAttachRequest } from '#model/agent-port.ts'
import { endpointKey, type Endpoint, type EndpointKey, type Shaping } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import type { EndpointChanges } from '#model/settings.ts'
import { detachRequest, shapeRequest } from '#overlay/driver.ts'
import { checkNetns } from '#platform/netns.ts'
import type { Agent } from '../agent.ts'
import type { Collector } from './collector.ts'

/** Resolves when the container has its interface. @throws ERR_NETNS, ERR_UNSUPPORTED, ERR_DELAY_UNSUPPORTED, the state machine's refusals, ERR_KERNEL */
export async function attachEndpoint(
  agent: Agent,
  collector: Collector,
  request: EndpointAttachRequest
): Promise<Endpoint> {
  checkNetns(request.netns)
  await refuseShaping(agent, request)
  const { netns, exclusive = false, portNumber, ...facts } = request
  const key = endpointKey(facts.containerId, facts.ifname)
  if (exclusive) await evictStaleEndpoint(agent, collector, key)
  return agent.localEndpoints.handle(key, async () => {
    const result = await agent.propose({ kind: 'endpoint-attach', ...facts, host: agent.self })
    const { endpoint, created } = result
    if (exclusive && !created) throw attachedAlready(endpoint)
    try {
      await agent.reconciler.withNetwork(endpoint.vni, () =>
        agent.localEndpoints.attach(endpoint, { netns, portNumber })
      )
      return endpoint
    } catch (err) {
      if (created) await release(agent, endpoint)
      throw err
    } finally {
      agent.reconciler.wake([endpoint.vni])
    }
  })
}

/** What is left of a container that is gone stands in nobody's way. @throws ERR_ENDPOINT_EXISTS */
async function evictStaleEndpoint(agent: Agent, collector: Collector, key: EndpointKey): Promise<void> {
  const existing = agent.state.endpoint(key)
  if (existing === undefined) return
  if (existing.host !== agent.self || !(await collector.waitUntilGone(existing))) throw attachedAlready(existing)
  // The collector may have released it meanwhile.
  if (agent.state.endpoint(key) !== undefined) await detachEndpoint(agent, existing)
}

function attachedAlready({ containerId, ifname, network }: Endpoint): VxmeshError {
  const what = `container ${containerId} has an endpoint ${ifname} in network ${network} already`
  return new VxmeshError('ERR_ENDPOINT_EXISTS', what, { field: 'containerId' })
}

/**
 * Changes rates and delay. On the endpoint's own host it resolves when the kernel has them; elsewhere when the change is
 * committed, and that host follows. @throws ERR_UNSUPPORTED, ERR_DELAY_UNSUPPORTED, the state machine's refusals, ERR_KERNEL
 */
export async function updateEndpoint(agent: Agent, before: Endpoint, change: EndpointChanges): Promise<Endpoint> {
  const { containerId, ifname, host } = before
  if (host === agent.self) {
    await refuseShaping(agent, change)
  } else if ((change.delayUs ?? 0) > 0) {
    const name = agent.state.host(host)?.name ?? host
    throw new VxmeshError(
      'ERR_DELAY_UNSUPPORTED',
      `delay: only the endpoint's own host, ${name}, knows whether its kernel can delay: ask its agent`,
      { field: 'delayUs' }
    )
  }
  const result = await agent.propose({ kind: 'endpoint-update', containerId, ifname, ...change })
  const { endpoint } = result
  const network = agent.state.network(endpoint.network)
  if (endpoint.host === agent.self && network !== undefined) {
    const request = shapeRequest({ endpoint, network, overlayMtu: agent.overlayMtu })
    await agent.reconciler.exclusively(() => agent.driver.devices.shape(request))
  }
  return endpoint
}

/** Takes the interface away and releases the allocation. Works when the namespace, or the host, is gone. */
export async function detachEndpoint(agent: Agent, endpoint: Endpoint): Promise<void> {
  const { containerId, ifname } = endpoint
  await agent.localEndpoints.handle(endpointKey(containerId, ifname), async () => {
    if (endpoint.host === agent.self) {
      await agent.reconciler.together(() => agent.driver.devices.detach(detachRequest(endpoint)))
    }
    // From here on the endpoint has neither interface nor record: nobody has it, should this not come to its end.
    agent.localEndpoints.forget(endpoint)
    await agent.propose({ kind: 'endpoint-detach', containerId, ifname })
  })
}

/** Best effort: when no leader can be reached the endpoint stays allocated and a later detach releases it. */
async function release(agent: Agent, endpoint: Endpoint): Promise<void> {
  try {
    agent.localEndpoints.forget(endpoint)
    await agent.propose({ kind: 'endpoint-detach', containerId: endpoint.containerId, ifname: endpoint.ifname })
  } catch (err) {
    agent.logger.warn({ err, containerId: endpoint.containerId }, 'a failed attach could not be released')
  }
}

/** To accept what this kernel cannot do would be a promise broken; nothing has been changed yet. */
async function refuseShaping(agent: Agent, asked: Partial<Shaping>): Promise<void> {
  const field = (['ingressRate', 'egressRate', 'delayUs'] as const).find(name => (asked[name] ?? 0) > 0)
  if (field === undefined) return
  const support = await agent.driver.devices.shapingSupport()
  if (!support.rate) {
    const what =
      'this host cannot shape traffic (it needs sch_tbf, sch_ingress, cls_u32, act_mirred, ifb and a datapath in the kernel)'
    throw new VxmeshError('ERR_UNSUPPORTED', `${field}: ${what}`, { field })
  }
  if (!support.delay && (asked.delayUs ?? 0) > 0) {
    throw new VxmeshError(
      'ERR_DELAY_UNSUPPORTED',
      'delayUs: this kernel has no netem (sch_netem), which delays packets',
      {
        field: 'delayUs'
      }
    )
  }
}
