// Builds rows from commands. Fields are written out, in the order in which rows are shown: a row built by spreading takes
// 24 bytes more, and there may be a million.

import type { CommandOf } from '#model/command.ts'
import { labelsOf, type Endpoint } from '#model/endpoint.ts'
import type { NetworkName, PeerId, Vni } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Ipv6 } from '#model/ipv6.ts'
import { changedLabels, isEmpty } from '#model/labels.ts'
import type { Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import type { Policy } from '#model/policy.ts'
import type { Service } from '#model/service.ts'
import { changesOf, ENDPOINT_SETTINGS, NETWORK_SETTINGS, type EndpointSettings } from '#model/settings.ts'

/** @param chosen values that the state machine allocated */
export function networkRow(
  command: CommandOf<'network-create'>,
  chosen: { readonly vni: Vni; readonly gateway: Ip }
): Network {
  const { name, subnet, subnet6, egressRate, mtu, egress, hostAccess, egressV6, requestId } = command
  const { vni, gateway } = chosen
  const one = { name, vni, subnet, gateway, egressRate, mtu, egress, hostAccess }
  const two = subnet6 === undefined ? one : { ...one, subnet6 }
  const row = egressV6 === 'routed' ? { ...two, egressV6 } : two
  return requestId === undefined ? row : { ...row, requestId }
}

/**
 * The row after an update. A setting that is sparse is absent when it has its default: equal rows have equal hashes. Fields that
 * may be absent have the order in which a snapshot restores them, for the answer that a session remembers.
 */
export function updatedRow(network: Network, command: CommandOf<'network-update'>): Network {
  const { subnet6, egressV6, requestId, wasIpv6, ...row } = { ...network, ...changesOf(NETWORK_SETTINGS, command) }
  return {
    ...row,
    ...(subnet6 === undefined ? {} : { subnet6 }),
    ...(egressV6 === 'routed' ? { egressV6 } : {}),
    ...(requestId === undefined ? {} : { requestId }),
    ...(wasIpv6 === true ? { wasIpv6 } : {})
  }
}

/**
 * @param facts what the state machine stores as it is, of a command or of another row
 * @param chosen values that the state machine allocated, and the names of network and host as their rows have them: a row that kept the
 * command's own copies would take 150 bytes more
 */
export function endpointRow(
  facts: Pick<Endpoint, 'containerId' | 'ifname' | 'name' | 'requestId' | 'labels' | keyof EndpointSettings>,
  chosen: {
    readonly network: NetworkName
    readonly vni: Vni
    readonly host: PeerId
    readonly address: Ip
    readonly address6?: Ipv6
    readonly mac: Mac
  }
): Endpoint {
  const { containerId, ifname, name, ingressRate, egressRate, delayUs, requestId, labels } = facts
  const { network, vni, host, address, address6, mac } = chosen
  const one = { network, vni, containerId, ifname, name, host, address, mac, ingressRate, egressRate, delayUs }
  const two = address6 === undefined ? one : { ...one, address6 }
  const row = requestId === undefined ? two : { ...two, requestId }
  return labels === undefined || isEmpty(labels) ? row : { ...row, labels }
}

/** The row after an update; without labels it has no field for them: equal rows have equal hashes. They may be too many. */
export function updatedEndpoint(endpoint: Endpoint, command: CommandOf<'endpoint-update'>): Endpoint {
  const changed = { ...endpoint, ...changesOf(ENDPOINT_SETTINGS, command) }
  if (command.labels === undefined) return changed
  const { labels: _, ...row } = changed
  const labels = changedLabels(labelsOf(endpoint), command.labels)
  return isEmpty(labels) ? row : { ...row, labels }
}

/** @param chosen the network's name as its row has it, and the addresses that the state machine allocated */
export function serviceRow(
  facts: Omit<CommandOf<'service-create'>, 'kind' | 'headless' | 'network' | 'addresses'>,
  chosen: { readonly network: NetworkName; readonly addresses: readonly Ip[] }
): Service {
  const { name, ports, affinitySeconds, select, backends, requestId } = facts
  const { network, addresses } = chosen
  return {
    network,
    name,
    addresses,
    ports,
    affinitySeconds,
    ...(select === undefined ? {} : { select }),
    ...(backends === undefined ? {} : { backends }),
    ...(requestId === undefined ? {} : { requestId })
  }
}

/** In the order in which snapshots have its fields. */
export function policyRow({ network, name, select, closes, rules, requestId }: Policy): Policy {
  return { network, name, select, closes, rules, ...(requestId === undefined ? {} : { requestId }) }
}

/** The row after an update. */
export function updatedService(service: Service, command: CommandOf<'service-update'>): Service {
  const { ports = service.ports, affinitySeconds = service.affinitySeconds } = command
  const isNew = command.select !== undefined || command.backends !== undefined
  const { select, backends } = isNew ? command : service
  const { select: _, backends: __, ...rest } = service
  return serviceRow(
    {
      ...rest,
      ports,
      affinitySeconds,
      ...(select === undefined ? {} : { select }),
      ...(backends === undefined ? {} : { backends })
    },
    service
  )
}
