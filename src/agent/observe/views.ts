// Converts the model's types to the JSON of the API (contract 6.3). Pure.

import { addressesOf, gatewaysOf, subnetsOf } from '#model/addresses.ts'
import { labelsOf, type Endpoint, type Shaping } from '#model/endpoint.ts'
import { isVacant, type Host } from '#model/host.ts'
import { familyOf, formatIp, formatSubnet, singleAddress } from '#model/ip.ts'
import { formatTerm } from '#model/labels.ts'
import type { Member, MemberStatus } from '#model/member.ts'
import type { Namespace } from '#model/namespace.ts'
import { egressV6Of, type Network } from '#model/network.ts'
import { ENDPOINT_SETTINGS, NETWORK_SETTINGS, settingsOf } from '#model/settings.ts'
import type { Policy } from '#model/policy.ts'
import { formatRule } from '#model/policy-text.ts'
import { formatRequirements } from '#model/requirement.ts'
import { formatBackend, type Service } from '#model/service.ts'
import type { ServiceFacts } from '#model/event.ts'
import type {
  DnsView,
  EndpointView,
  HostView,
  MemberView,
  NamespaceView,
  NetworkView,
  PolicyView
} from '#model/views.ts'
import type { Counters } from '#overlay/driver.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import type { Rates } from './counters.ts'

export function networkView(network: Network, p: { overlayMtu: number; endpoints: number }): NetworkView {
  return {
    name: network.name,
    vni: network.vni,
    subnet: formatSubnet(network.subnet),
    subnets: subnetsOf(network).map(formatSubnet),
    gateway: formatIp(network.gateway),
    gateways: gatewaysOf(network).map(formatIp),
    ...settingsOf(NETWORK_SETTINGS, network),
    egressV6: egressV6Of(network),
    mtu: mtuOf(network, p.overlayMtu),
    endpoints: p.endpoints
  }
}

export function endpointView(
  endpoint: Endpoint,
  p: {
    network: Network
    overlayMtu: number
    dns?: DnsView | null
    host: Host | undefined
    counters: Counters | undefined
    rates?: Rates | undefined
    installed?: Shaping | null
  }
): EndpointView {
  const { network, counters } = p
  const addresses = addressTexts(network, endpoint)
  return {
    network: endpoint.network,
    containerId: endpoint.containerId,
    name: endpoint.name,
    ifname: endpoint.ifname,
    host: p.host?.name ?? endpoint.host,
    address: addresses[0] ?? '',
    addresses,
    gateway: formatIp(network.gateway),
    gateways: gatewaysOf(network).map(formatIp),
    mac: endpoint.mac,
    vni: endpoint.vni,
    mtu: mtuOf(network, p.overlayMtu),
    hostInterface: vethName(endpoint.containerId, endpoint.ifname),
    ...settingsOf(ENDPOINT_SETTINGS, endpoint),
    labels: labelsOf(endpoint),
    dns: p.dns ?? null,
    rxBytes: counters?.rxBytes ?? null,
    txBytes: counters?.txBytes ?? null,
    rxPackets: counters?.rxPackets ?? null,
    txPackets: counters?.txPackets ?? null,
    rxRate: p.rates?.rxRate ?? null,
    txRate: p.rates?.txRate ?? null,
    hostIfindex: counters?.ifindex ?? null,
    installed: p.installed ?? null
  }
}

/** With prefix lengths, one for each subnet of the network. */
export function addressTexts(network: Pick<Network, 'subnet' | 'subnet6'>, endpoint: Endpoint): readonly string[] {
  return addressesOf(network, endpoint).map(address => {
    const subnet = subnetsOf(network).find(({ base }) => familyOf(base) === familyOf(address))
    return formatSubnet({ ...(subnet ?? singleAddress(address)), base: address })
  })
}

export function namespaceView({ name, network, grants }: Namespace): NamespaceView {
  return { namespace: name, network, grants }
}

export function serviceFacts(service: Service): ServiceFacts {
  const { network, name, addresses, ports, affinitySeconds, select, backends } = service
  return {
    network,
    name,
    addresses: addresses.map(formatIp),
    ports,
    affinitySeconds,
    select: select?.map(formatTerm) ?? null,
    backends: backends?.map(formatBackend) ?? null
  }
}

export function policyView({ network, name, select, closes, rules }: Policy): PolicyView {
  const texts = rules.map(rule => ({ direction: rule.direction, action: rule.action, rule: formatRule(rule) }))
  return { network, name, select: formatRequirements(select), closes, rules: texts }
}

export function memberView(member: Member): MemberView {
  return {
    name: member.name,
    address: formatIp(member.address),
    status: member.status,
    role: member.role,
    vtep: formatIp(member.vtep),
    peerId: member.peerId
  }
}

export function hostView(host: Host, p: { status: MemberStatus | 'unknown'; endpoints: number }): HostView {
  return {
    name: host.name,
    peerId: host.peerId,
    vtep: isVacant(host) ? '' : formatIp(host.vtep),
    role: host.role,
    status: p.status,
    endpoints: p.endpoints,
    version: host.version
  }
}

function mtuOf(network: Network, overlayMtu: number): number {
  return network.mtu === 0 ? overlayMtu : network.mtu
}
