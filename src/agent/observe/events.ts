// Derives events: from an applied command and its result, and from a member's change. Pure.

import type { MemberChange } from '#membership/view/view.ts'
import type { Command, Outcome } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { EndpointFacts, HostFacts, NetworkFacts, UntimedEvent } from '#model/event.ts'
import type { Host } from '#model/host.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { formatIp, formatSubnet } from '#model/ip.ts'
import type { Network } from '#model/network.ts'
import { ENDPOINT_SETTINGS, NETWORK_SETTINGS, settingsOf } from '#model/settings.ts'
import { memberView, namespaceView } from './views.ts'

/** The event of an applied command; null if it was refused or changed nothing worth an event. */
export function changeEvent(p: {
  readonly index: LogIndex
  readonly command: Command
  readonly outcome: Outcome
  readonly network: (name: Network['name']) => Network | undefined
  readonly hostName: (peer: PeerId) => string
}): UntimedEvent | null {
  const { index, command, outcome } = p
  if (!outcome.ok) return null
  const { result } = outcome
  switch (result.kind) {
    case 'session':
      return null
    case 'network':
      return { kind: networkKind(command.kind), index, network: networkFacts(result.network) }
    case 'endpoint':
      if (command.kind === 'endpoint-update') {
        return { kind: 'endpoint-updated', index, endpoint: endpointFacts(result.endpoint, p) }
      }
      if (!result.created) return null
      return { kind: 'endpoint-attached', index, endpoint: endpointFacts(result.endpoint, p) }
    case 'endpoint-released':
      return { kind: 'endpoint-detached', index, endpoint: endpointFacts(result.endpoint, p) }
    case 'host':
      return { kind: 'host-registered', index, host: hostFacts(result.host) }
    case 'host-removed':
      return { kind: 'host-removed', index, host: hostFacts(result.host) }
    case 'namespace':
      return { kind: namespaceKind(command.kind), index, namespace: namespaceView(result.namespace) }
  }
}

/** The event of one changed member. */
export function memberEvent(change: MemberChange): UntimedEvent {
  if (change.kind !== 'vanished') return { kind: 'member', member: memberView(change.after) }
  const { name, peerId } = change.before
  return { kind: 'member-vanished', name, peerId }
}

function networkKind(command: Command['kind']): 'network-created' | 'network-updated' | 'network-deleted' {
  if (command === 'network-delete') return 'network-deleted'
  return command === 'network-update' ? 'network-updated' : 'network-created'
}

function namespaceKind(command: Command['kind']): 'namespace-mapped' | 'namespace-unmapped' {
  return command === 'namespace-unmap' ? 'namespace-unmapped' : 'namespace-mapped'
}

function networkFacts(network: Network): NetworkFacts {
  const { name, vni } = network
  const { mtu: _, ...settings } = settingsOf(NETWORK_SETTINGS, network)
  const addresses = { subnet: formatSubnet(network.subnet), gateway: formatIp(network.gateway) }
  return { name, vni, ...addresses, ...settings }
}

function endpointFacts(
  endpoint: Endpoint,
  p: { readonly network: (name: Network['name']) => Network | undefined; readonly hostName: (peer: PeerId) => string }
): EndpointFacts {
  const { network, containerId, ifname, name, mac, vni } = endpoint
  const settings = settingsOf(ENDPOINT_SETTINGS, endpoint)
  const prefix = p.network(network)?.subnet.prefixLength ?? 32
  const host = p.hostName(endpoint.host)
  const address = `${formatIp(endpoint.address)}/${prefix}`
  return { network, containerId, ifname, name, host, address, mac, vni, ...settings }
}

function hostFacts({ name, peerId, vtep, role, version }: Host): HostFacts {
  return { name, peerId, vtep: formatIp(vtep), role, version }
}
