// Commands: proposed changes to the cluster state, as the log holds them, and the results of applying them. A command
// holds validated values only. Applying one reads no clock and no randomness: every replica must get the same result.

import type { Endpoint } from './endpoint.ts'
import type { ErrorBody } from './errors.ts'
import type { Host } from './host.ts'
import type { ContainerId, HostName, IfName, NamespaceName, NetworkName, PeerId, ServiceName, Vni } from './ids.ts'
import { isIpv4, type Ip, type Subnet } from './ip.ts'
import type { Ipv6 } from './ipv6.ts'
import { isEmpty, type LabelChanges, type Labels } from './labels.ts'
import type { Mac } from './mac.ts'
import type { Namespace, NamespaceRange } from './namespace.ts'
import type { Network } from './network.ts'
import type { Policy, PolicySpec } from './policy.ts'
import type { Service } from './service.ts'
import type { EndpointChanges, EndpointSettings, NetworkChanges, NetworkSettings } from './settings.ts'

/** The state machine chooses `vni`, `gateway` and `address` where they are absent. */
export type Command =
  | { readonly kind: 'session-open' }
  | ({
      readonly kind: 'network-create'
      readonly name: NetworkName
      readonly subnet: Subnet
      /** Of IPv6, beside an IPv4 subnet. */
      readonly subnet6?: Subnet
      readonly gateway?: Ip
      readonly vni?: Vni
      readonly requestId?: string
    } & NetworkSettings)
  | ({
      readonly kind: 'network-update'
      readonly name: NetworkName
      /** Of the family that its subnet is not of. */
      readonly addSubnet?: Subnet
    } & NetworkChanges)
  /** Without `force`, a network that has endpoints is refused; with it, they are released too. */
  | { readonly kind: 'network-delete'; readonly name: NetworkName; readonly force: boolean }
  | ({
      readonly kind: 'endpoint-attach'
      readonly network: NetworkName
      readonly containerId: ContainerId
      readonly ifname: IfName
      readonly name: string
      readonly host: PeerId
      readonly address?: Ip
      /** In the network's second subnet; without it, the mirror of `address` (addresses.ts). */
      readonly address6?: Ipv6
      readonly mac?: Mac
      readonly requestId?: string
      readonly labels?: Labels
    } & EndpointSettings)
  | ({
      readonly kind: 'endpoint-update'
      readonly containerId: ContainerId
      readonly ifname: IfName
      readonly labels?: LabelChanges
    } & EndpointChanges)
  | { readonly kind: 'endpoint-detach'; readonly containerId: ContainerId; readonly ifname: IfName }
  | { readonly kind: 'host-register'; readonly host: Host }
  /** Releases the host's endpoints. */
  | { readonly kind: 'host-remove'; readonly name: HostName }
  /** Replaces the namespace's mapping and grants. */
  | {
      readonly kind: 'namespace-map'
      readonly namespace: NamespaceName
      readonly network: NetworkName
      readonly grants: readonly NetworkName[]
    }
  | { readonly kind: 'namespace-unmap'; readonly namespace: NamespaceName }
  /** Creates a network with the first free subnet of the range, and maps the namespace to it, unless it is mapped. */
  | ({ readonly kind: 'namespace-open'; readonly namespace: NamespaceName } & NamespaceRange)
  | ({
      readonly kind: 'service-create'
      /** Without any address. */
      readonly headless: boolean
      /** Those and no others; absent: one of each subnet, which the state machine chooses. */
      readonly addresses?: readonly Ip[]
      readonly requestId?: string
    } & ServiceKey &
      Pick<Service, 'ports' | 'affinitySeconds' | 'select' | 'backends'>)
  /** A selector replaces backends, and the other way round. */
  | ({ readonly kind: 'service-update' } & ServiceKey & ServiceChanges)
  | ({ readonly kind: 'service-delete' } & ServiceKey)
  | ({ readonly kind: 'policy-create'; readonly requestId?: string } & PolicyKey & PolicySpec)
  /** Rules are replaced as a whole. */
  | ({ readonly kind: 'policy-update' } & PolicyKey & Partial<PolicySpec>)
  | ({ readonly kind: 'policy-delete' } & PolicyKey)

export type ServiceKey = { readonly network: NetworkName; readonly name: ServiceName }
export type ServiceChanges = Partial<Pick<Service, 'ports' | 'affinitySeconds' | 'select' | 'backends'>>

export type PolicyKey = Pick<Policy, 'network' | 'name'>

export type CommandKind = Command['kind']
export type CommandOf<K extends CommandKind> = Extract<Command, { readonly kind: K }>

/**
 * The rules by which a request is applied (docs/adr/0037). They may change from version to version, but the log still holds
 * requests of the versions before: applied by the rules of their time, they give the same state on every replay.
 */
export const FIRST_RULES = 1
/** Networks with hostAccess may not overlap, nor share an address on one host. */
export const DISJOINT_HOST_ACCESS = 2
/** A client host changes its own record and endpoints only (`Request.by`), and quotas bound the state (docs/adr/0035). */
export const OWN_BUSINESS = 3
/** The most sessions follow the number of hosts (docs/adr/0047). */
export const SESSIONS_BY_HOSTS = 4
/** With the same rules: what a refusal names does not depend on the order in which namespaces were mapped. */
export const ORDERED_NAMESPACES = 4
/** Networks and endpoints have IPv6 subnets and addresses. */
export const BOTH_FAMILIES = 5
/** Endpoints have labels. */
export const LABELS = 6
/** Networks have services. */
export const SERVICES = 7
/** Networks have policies. */
export const POLICIES = 8
/** The latest. */
export const RULES = POLICIES
/** From these on, a request is applied by new rules only once the cluster has raised its own to them (docs/adr/0054). */
export const UNGATED_RULES = SESSIONS_BY_HOSTS

/** Does a command say anything of IPv6? Then it needs BOTH_FAMILIES. That of a host’s VTEP depends on the other hosts (allocator/apply-host.ts). */
export function needsBothFamilies(command: Command): boolean {
  switch (command.kind) {
    case 'network-create': {
      const { subnet, subnet6, gateway, egressV6 } = command
      return (
        subnet6 !== undefined ||
        egressV6 !== undefined ||
        [subnet.base, gateway].some(ip => ip !== undefined && !isIpv4(ip))
      )
    }
    case 'network-update':
      return command.addSubnet !== undefined || command.egressV6 !== undefined
    case 'endpoint-attach':
      return command.address6 !== undefined || (command.address !== undefined && !isIpv4(command.address))
    default:
      return false
  }
}

/** Does a command say anything of labels? Then it needs LABELS. */
export function needsLabels(command: Command): boolean {
  if (command.kind !== 'endpoint-attach' && command.kind !== 'endpoint-update') return false
  return command.labels !== undefined && !isEmpty(command.labels)
}

/** Is a command about services? Then it needs SERVICES. */
export function needsServices(command: Command): command is CommandOf<ServiceCommandKind> {
  return SERVICE_COMMANDS.some(kind => kind === command.kind)
}

const SERVICE_COMMANDS = ['service-create', 'service-update', 'service-delete'] as const
type ServiceCommandKind = (typeof SERVICE_COMMANDS)[number]

/** Is a command about policies? Then it needs POLICIES. */
export function needsPolicies(command: Command): command is CommandOf<PolicyCommandKind> {
  return POLICY_COMMANDS.some(kind => kind === command.kind)
}

const POLICY_COMMANDS = ['policy-create', 'policy-update', 'policy-delete'] as const
type PolicyCommandKind = (typeof POLICY_COMMANDS)[number]

/** The oldest rules of a cluster in which this command may enter the log; UNGATED_RULES where any will do. */
export function rulesNeeded(command: Command): number {
  if (needsPolicies(command)) return POLICIES
  if (needsServices(command)) return SERVICES
  if (needsLabels(command)) return LABELS
  return needsBothFamilies(command) ? BOTH_FAMILIES : UNGATED_RULES
}

/** The first version that knows each of the rules above UNGATED_RULES, ascending. */
const VERSIONS: readonly (readonly [rules: number, major: number, minor: number])[] = [
  [BOTH_FAMILIES, 0, 2],
  [LABELS, 0, 3],
  [SERVICES, 0, 4],
  [POLICIES, 0, 4]
]

/** The newest rules that a version knows; of a text that is no version, the ungated ones. */
export function rulesOfVersion(version: string): number {
  const [major = NaN, minor = NaN] = version.split('.').map(Number)
  const known = VERSIONS.filter(([, one, two]) => major > one || (major === one && minor >= two))
  return Math.max(UNGATED_RULES, ...known.map(([rules]) => rules))
}

/** The first version that knows these rules, for people. */
export function versionOfRules(rules: number): string {
  const [, major = 0, minor = 0] = VERSIONS.find(([known]) => known >= rules) ?? []
  return `${major}.${minor}`
}

/**
 * A command with an identity that makes retries idempotent (Raft thesis 6.3). The first request of a session is a
 * `session-open` with seq 0; each later request increments seq. The caller has received all answers with
 * seq < settledBelow, so the state machine may forget them. `rules` are those of the server that
 * proposed it, or of the leader where a client host did.
 */
export type Request = {
  /** Absent: FIRST_RULES. Not above the rules of the cluster. */
  readonly rules?: number
  readonly session: string
  readonly seq: number
  readonly settledBelow: number
  readonly command: Command
  /** The client host that requests it, as the leader authenticated it; absent: a server, which may request anything. */
  readonly by?: PeerId
}

/** What a command changed or found. */
export type Result =
  | { readonly kind: 'session' }
  | { readonly kind: 'network'; readonly network: Network }
  /** `created` is false when the endpoint already existed: a repeated attach, or an update. */
  | { readonly kind: 'endpoint'; readonly endpoint: Endpoint; readonly created: boolean }
  | { readonly kind: 'endpoint-released'; readonly endpoint: Endpoint }
  | { readonly kind: 'host'; readonly host: Host }
  | { readonly kind: 'host-removed'; readonly host: Host; readonly released: number }
  | { readonly kind: 'namespace'; readonly namespace: Namespace }
  /** `created` is false for an update, a deletion, and the repetition of a creation. */
  | { readonly kind: 'service'; readonly service: Service; readonly created: boolean }
  /** The same. */
  | { readonly kind: 'policy'; readonly policy: Policy; readonly created: boolean }

/** Which kind of result each kind of command has. */
const RESULT_KINDS = {
  'session-open': 'session',
  'network-create': 'network',
  'network-update': 'network',
  'network-delete': 'network',
  'endpoint-attach': 'endpoint',
  'endpoint-update': 'endpoint',
  'endpoint-detach': 'endpoint-released',
  'host-register': 'host',
  'host-remove': 'host-removed',
  'namespace-map': 'namespace',
  'namespace-unmap': 'namespace',
  'namespace-open': 'network',
  'service-create': 'service',
  'service-update': 'service',
  'service-delete': 'service',
  'policy-create': 'policy',
  'policy-update': 'policy',
  'policy-delete': 'policy'
} as const satisfies Readonly<Record<CommandKind, Result['kind']>>

/** The result of a command of this kind. */
export type ResultOf<K extends CommandKind> = Extract<Result, { readonly kind: (typeof RESULT_KINDS)[K] }>

export type Refusal = { readonly ok: false; readonly error: ErrorBody }

/** A refusal is an outcome too: sessions remember it, and every replica computes the same one. */
export type OutcomeOf<K extends CommandKind> = { readonly ok: true; readonly result: ResultOf<K> } | Refusal
export type Outcome = OutcomeOf<CommandKind>

/** Whether a result is of the kind that the command has. For answers from other hosts. */
export function isResultOf<K extends CommandKind>(kind: K, result: { readonly kind: unknown }): result is ResultOf<K> {
  return result.kind === RESULT_KINDS[kind]
}
