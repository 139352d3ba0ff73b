// The desired routers of two networks on host 1.

import type { Vni } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { desiredGateways, type DesiredGateways, type DesiredRouter } from '#overlay/plan/gateway/desired-gateway.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../fixtures.ts'

export const open = makeNetwork('open', 1, { hostAccess: true })
export const plain = makeNetwork('plain', 2)

/** Both networks with a container here; those of `open` have these addresses. */
export function gatewaysOf(addresses: readonly string[], networks = [open, plain]): DesiredGateways {
  const endpoints = networks.flatMap(network =>
    (network.name === open.name ? addresses : ['10.1.0.2']).map((address, n) =>
      makeEndpoint(network, { container: `${network.name}${n}`, host: 1, address })
    )
  )
  return desiredGateways({
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks,
    endpoints: byNetwork(endpoints),
    hosts: [makeHost(1)],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789,
    transit: { base: parseIpv4('240.0.0.0'), prefixLength: 8 },
    bind: makeHost(1).vtep,
    memberAddresses: []
  })
}

export function routerOf(gateways: DesiredGateways, vni: Vni): DesiredRouter {
  const router = gateways.routers.get(vni)
  if (router === undefined) throw new Error('no router')
  return router
}
