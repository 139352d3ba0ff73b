// Events: notifications of changes for people and programs that watch. Events may be lost; the committed state is
// authoritative.

import type { EndpointSettings } from './settings.ts'
import type {
  EndpointView,
  HostView,
  MemberView,
  NamespaceView,
  NetworkView,
  PolicyView,
  ServiceView
} from './views.ts'

type Changed =
  | { readonly kind: 'network-created' | 'network-updated' | 'network-deleted'; readonly network: NetworkFacts }
  | {
      readonly kind: 'endpoint-attached' | 'endpoint-updated' | 'endpoint-detached'
      readonly endpoint: EndpointFacts
    }
  | { readonly kind: 'service-created' | 'service-updated' | 'service-deleted'; readonly service: ServiceFacts }
  | { readonly kind: 'policy-created' | 'policy-updated' | 'policy-deleted'; readonly policy: PolicyView }
  | { readonly kind: 'host-registered' | 'host-removed'; readonly host: HostFacts }
  | { readonly kind: 'namespace-mapped' | 'namespace-unmapped'; readonly namespace: NamespaceView }

export type NetworkFacts = Omit<NetworkView, 'endpoints' | 'mtu'>
export type EndpointFacts = Pick<
  EndpointView,
  | 'network'
  | 'containerId'
  | 'ifname'
  | 'name'
  | 'host'
  | 'address'
  | 'addresses'
  | 'mac'
  | 'vni'
  | 'labels'
  | keyof EndpointSettings
>
export type ServiceFacts = Omit<ServiceView, 'endpoints'>
export type HostFacts = Pick<HostView, 'name' | 'peerId' | 'vtep' | 'role' | 'version'>

/** An event without its timestamp. */
export type UntimedEvent = AgentEvent extends infer E ? (E extends unknown ? Omit<E, 'time'> : never) : never

export type AgentEvent = {
  /** When this agent observed it, ISO 8601 in UTC. For display only: clocks of hosts differ. */
  readonly time: string
} & (
  | (Changed & {
      /** The log index of the change: the same on every host. */
      readonly index: number
    })
  | { readonly kind: 'member'; readonly member: MemberView }
  | { readonly kind: 'member-vanished'; readonly name: string; readonly peerId: string }
  | { readonly kind: 'raft'; readonly role: string; readonly term: number; readonly leader: string | null }
  /** The first event of a stream: the applied index at that moment. */
  | { readonly kind: 'watching'; readonly index: number }
)
