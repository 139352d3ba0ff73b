// Translates the agent's views into the paper's structs. Numbers that exceed a 32-bit field saturate; the detail holds the
// exact values. Pure.

import { networkAddress, parseIpv4 } from '#model/ipv4.ts'
import type { EndpointFacts, NetworkFacts, ServiceFacts } from '#model/event.ts'
import { formatPort } from '#model/service.ts'
import type { EndpointView, NetworkView, ServiceView } from '#model/views.ts'
import type { Detail } from './detail.ts'
import type { Connection, TenantNetwork, TenantService } from './message.ts'

/** Index of an interface of this host by name; 0 if there is none. */
export type InterfaceIndex = (name: string) => number

const KBIT = 1_000
const MS_US = 1_000

/** @param connection the request, for the fields that only the caller knows */
export function connectionOf(p: {
  readonly connection: Pick<Connection, 'id' | 'pid'>
  readonly detail: Pick<Detail, 'netns' | 'requestId'>
  readonly endpoint: EndpointView
  readonly network: Pick<NetworkView, 'subnet' | 'subnets'>
  readonly interfaceIndex: InterfaceIndex
}): Connection {
  const { endpoint, network, detail } = p
  const { containerId, name, address, ingressRate, egressRate, delayUs } = endpoint
  return {
    id: containerId,
    name,
    pid: p.connection.pid,
    ...ipv4FieldsOf(address, network.subnet),
    ovsPortId: p.interfaceIndex(endpoint.hostInterface),
    bandwidth: lower(ingressRate, egressRate) / KBIT,
    delay: Math.round(delayUs / MS_US),
    rxTotal: endpoint.rxBytes ?? 0,
    txTotal: endpoint.txBytes ?? 0,
    rxRate: (endpoint.rxRate ?? 0) / KBIT,
    txRate: (endpoint.txRate ?? 0) / KBIT,
    connDetail: JSON.stringify({
      ...endpoint,
      subnets: network.subnets,
      ...(detail.requestId === undefined ? {} : { requestId: detail.requestId }),
      ...(detail.netns === undefined ? {} : { netns: detail.netns })
    })
  }
}

/** The struct for a change made through another interface, from its event. */
export function connectionOfEvent(endpoint: EndpointFacts, index: number): Connection {
  const { address } = endpoint
  const unknown = { ovsPortId: 0, bandwidth: 0, delay: 0, rxTotal: 0, txTotal: 0, rxRate: 0, txRate: 0 }
  return {
    ...unknown,
    id: endpoint.containerId,
    name: endpoint.name,
    pid: '',
    ...ipv4FieldsOf(address, address),
    connDetail: JSON.stringify({ event: true, index, ...endpoint })
  }
}

export function tenantNetworkOf({ name, subnet, gateway, vni, egressRate }: NetworkFacts | NetworkView): TenantNetwork {
  return { name, subnet, gateway, vni, egressBandwidth: Math.round(egressRate / KBIT) }
}

export function tenantServiceOf(service: ServiceFacts | ServiceView): TenantService {
  return serviceWith(service, service)
}

/** The struct for a change made through another interface, from its event. */
export function serviceOfEvent(service: ServiceFacts, index: number): TenantService {
  return serviceWith(service, { event: true, index, ...service })
}

function serviceWith(service: ServiceFacts, detail: object): TenantService {
  const { name, network, ports, addresses, affinitySeconds } = service
  const four = addresses.find(address => !address.includes(':'))
  return {
    name,
    network,
    ports: ports.map(formatPort).join(','),
    requestIp: four === undefined ? 0 : parseIpv4(four),
    affinity: affinitySeconds,
    serviceDetail: JSON.stringify(detail)
  }
}

/** The lower of two limits; 0 is unlimited. */
function lower(a: number, b: number): number {
  return a === 0 || b === 0 ? Math.max(a, b) : Math.min(a, b)
}

/**
 * The paper's numbers for an endpoint's first address, which is the IPv4 one if it has one; otherwise both are 0.
 * @param within the subnet, or an address with its prefix length
 */
function ipv4FieldsOf(address: string, within: string): Pick<Connection, 'requestIp' | 'network'> {
  const [text = ''] = address.split('/')
  const [base = '', prefixLength = ''] = within.split('/')
  if (text.includes(':')) return { requestIp: 0, network: 0 }
  return { requestIp: parseIpv4(text), network: networkAddress(parseIpv4(base), Number(prefixLength)) }
}
