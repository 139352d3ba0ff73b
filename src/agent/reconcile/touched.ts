// What a command or a change of a member may affect on any host, so that a reconcile pass is limited to it. Too much costs
// time; what is missing is updated only by the next full pass. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Command, CommandOf } from '#model/command.ts'
import type { MemberChange } from '#membership/view/view.ts'
import { labelsOf, type Endpoint } from '#model/endpoint.ts'
import { hasLeft, isVacant } from '#model/host.ts'
import type { NetworkName, PeerId, Vni } from '#model/ids.ts'
import { changedLabels, matches } from '#model/labels.ts'
import { changesShaping } from '#model/settings.ts'
import { affectsOverlay, affectsPeers } from './member-changes.ts'

export type Touched = {
  readonly networks: readonly Vni[]
  /** Also what belongs to no network: the filters' sets of the addresses of hosts and local containers. */
  readonly hostWide: boolean
}

const NOTHING: Touched = { networks: [], hostWide: false }

/** Must be called before the command is applied: a removal leaves no trace in the state. O(endpoints of a host) */
export function touchedBy(state: ClusterState, command: Command): Touched {
  switch (command.kind) {
    case 'session-open':
    case 'network-create':
    case 'namespace-map':
    case 'namespace-unmap':
    case 'namespace-open':
      return NOTHING
    case 'network-update':
      // Its containers get addresses, from which no filter lets them send yet.
      return { ...networkNamed(state, command.name), hostWide: command.addSubnet !== undefined }
    case 'network-delete':
      return networkNamed(state, command.name)
    case 'endpoint-attach':
      return networkNamed(state, command.network)
    case 'endpoint-update':
      // Labels are in the kernel only by the services that they choose the backends of.
      return changesShaping(command) || changesBackends(state, command) ? ofEndpoint(state, command) : NOTHING
    case 'service-create':
    case 'service-update':
    case 'service-delete':
      return networkNamed(state, command.network)
    case 'policy-create':
    case 'policy-update':
    case 'policy-delete':
      // No part of the kernel follows from policies yet.
      return NOTHING
    case 'endpoint-detach':
      return ofEndpoint(state, command)
    case 'host-register': {
      const { peerId, vtep } = command.host
      const before = state.host(peerId)
      const isNew = before === undefined || isVacant(before) || hasLeft(before) !== hasLeft(command.host)
      return isNew || before.vtep !== vtep ? { networks: networksOn(state, peerId), hostWide: true } : NOTHING
    }
    case 'host-remove': {
      const named = [...state.hosts()].filter(({ name }) => name === command.name)
      return { networks: named.flatMap(({ peerId }) => networksOn(state, peerId)), hostWide: true }
    }
  }
}

/**
 * What a change of a member affects: the entries that point to it, in networks that both hosts are in; and the sets of
 * addresses unless it only became or ceased to be reachable.
 */
export function touchedByMember(p: {
  readonly state: ClusterState
  readonly self: PeerId
  readonly change: MemberChange
}): Touched {
  const { state, self, change } = p
  if (!affectsOverlay(change)) return NOTHING
  const { peerId } = change.kind === 'vanished' ? change.before : change.after
  return { networks: sharedNetworks(state, self, peerId), hostWide: affectsPeers(change) }
}

/** O(endpoints of both hosts) */
export function sharedNetworks(state: ClusterState, self: PeerId, peer: PeerId): readonly Vni[] {
  const here = new Set(networksOn(state, self))
  return networksOn(state, peer).filter(vni => here.has(vni))
}

function networksOn(state: ClusterState, peer: PeerId): readonly Vni[] {
  return state.networksOnHost(peer).map(({ vni }) => vni)
}

function ofEndpoint(state: ClusterState, { containerId, ifname }: Pick<Endpoint, 'containerId' | 'ifname'>): Touched {
  const endpoint = state.endpointOf(containerId, ifname)
  return endpoint === undefined ? NOTHING : { networks: [endpoint.vni], hostWide: false }
}

/** Does a change of labels add the endpoint to the backends of a service, or remove it? O(services of its network) */
function changesBackends(state: ClusterState, { containerId, ifname, labels }: CommandOf<'endpoint-update'>): boolean {
  const endpoint = state.endpointOf(containerId, ifname)
  if (endpoint === undefined || labels === undefined) return false
  const before = labelsOf(endpoint)
  const after = changedLabels(before, labels)
  const selectors = state.servicesOf(endpoint.network).flatMap(({ select }) => (select === undefined ? [] : [select]))
  return selectors.some(select => matches(select, before) !== matches(select, after))
}

function networkNamed(state: ClusterState, name: NetworkName): Touched {
  const network = state.network(name)
  return network === undefined ? NOTHING : { networks: [network.vni], hostWide: false }
}
