// Derives events: from an applied command and its result, and from a member's change. What the state may forget is looked up at
// once; the rest is described on demand. Pure.

import type { MemberChange } from '#membership/view/view.ts'
import { gatewaysOf, subnetsOf } from '#model/addresses.ts'
import type { Command, Outcome } from '#model/command.ts'
import { labelsOf, type Endpoint } from '#model/endpoint.ts'
import type { EndpointFacts, HostFacts, NetworkFacts, UntimedEvent } from '#model/event.ts'
import type { Host } from '#model/host.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { formatIp, formatSubnet, singleAddress } from '#model/ip.ts'
import { egressV6Of, type Network } from '#model/network.ts'
import { ENDPOINT_SETTINGS, NETWORK_SETTINGS, settingsOf } from '#model/settings.ts'
import type { Description } from './event-bus.ts'
import { addressTexts, memberView, namespaceView, policyView, serviceFacts } from './views.ts'

/** Describes the event of an applied command; null if it was refused or changed nothing worth an event. */
export function changeEvent(p: {
  readonly index: LogIndex
  readonly command: Command
  readonly outcome: Outcome
  readonly network: (name: Network['name']) => Network | undefined
  readonly hostName: (peer: PeerId) => string
}): Description | null {
  const { index, command, outcome } = p
  if (!outcome.ok) return null
  const { result } = outcome
  switch (result.kind) {
    case 'session':
      return null
    case 'network':
      return () => ({ kind: networkKind(command.kind), index, network: networkFacts(result.network) })
    case 'endpoint':
      if (command.kind === 'endpoint-update') return endpointEvent('endpoint-updated', result.endpoint, p)
      return result.created ? endpointEvent('endpoint-attached', result.endpoint, p) : null
    case 'endpoint-released':
      return endpointEvent('endpoint-detached', result.endpoint, p)
    case 'host':
      return () => ({ kind: 'host-registered', index, host: hostFacts(result.host) })
    case 'host-removed':
      return () => ({ kind: 'host-removed', index, host: hostFacts(result.host) })
    case 'namespace':
      return () => ({ kind: namespaceKind(command.kind), index, namespace: namespaceView(result.namespace) })
    case 'service': {
      const kind = serviceKind(command.kind, result.created)
      return kind === null ? null : () => ({ kind, index, service: serviceFacts(result.service) })
    }
    case 'policy': {
      const kind = policyKind(command.kind, result.created)
      return kind === null ? null : () => ({ kind, index, policy: policyView(result.policy) })
    }
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

/** Null for the repetition of a creation. */
function serviceKind(
  command: Command['kind'],
  created: boolean
): 'service-created' | 'service-updated' | 'service-deleted' | null {
  if (command === 'service-delete') return 'service-deleted'
  if (command === 'service-update') return 'service-updated'
  return created ? 'service-created' : null
}

/** Null for the repetition of a creation. */
function policyKind(
  command: Command['kind'],
  created: boolean
): 'policy-created' | 'policy-updated' | 'policy-deleted' | null {
  if (command === 'policy-delete') return 'policy-deleted'
  if (command === 'policy-update') return 'policy-updated'
  return created ? 'policy-created' : null
}

function networkFacts(network: Network): NetworkFacts {
  const { name, vni } = network
  const { mtu: _, ...settings } = settingsOf(NETWORK_SETTINGS, network)
  const [subnets, gateways] = [subnetsOf(network).map(formatSubnet), gatewaysOf(network).map(formatIp)]
  const addresses = { subnet: formatSubnet(network.subnet), subnets, gateway: formatIp(network.gateway), gateways }
  return { name, vni, ...addresses, ...settings, egressV6: egressV6Of(network) }
}

/** Looks the network and the host up at once: later they may be gone. */
function endpointEvent(
  kind: 'endpoint-attached' | 'endpoint-updated' | 'endpoint-detached',
  endpoint: Endpoint,
  p: {
    readonly index: LogIndex
    readonly network: (name: Network['name']) => Network | undefined
    readonly hostName: (peer: PeerId) => string
  }
): Description {
  const { index } = p
  const host = p.hostName(endpoint.host)
  const network = p.network(endpoint.network)
  return () => ({ kind, index, endpoint: endpointFacts(endpoint, { host, network }) })
}

function endpointFacts(
  endpoint: Endpoint,
  p: { readonly host: string; readonly network: Network | undefined }
): EndpointFacts {
  const { network, containerId, ifname, name, mac, vni } = endpoint
  // A network that is gone is not missed: only its own prefix length would be.
  const addresses = addressTexts(p.network ?? { subnet: singleAddress(endpoint.address) }, endpoint)
  const [address = ''] = addresses
  const settings = settingsOf(ENDPOINT_SETTINGS, endpoint)
  const labels = labelsOf(endpoint)
  return { network, containerId, ifname, name, host: p.host, address, addresses, mac, vni, ...settings, labels }
}

function hostFacts({ name, peerId, vtep, role, version }: Host): HostFacts {
  return { name, peerId, vtep: formatIp(vtep), role, version }
}
