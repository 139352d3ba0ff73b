// Commands about Kubernetes namespaces: mapping one to networks, and creating a network for one that is not mapped.

import { DISJOINT_HOST_ACCESS, type CommandOf, type OutcomeOf, type Refusal } from '#model/command.ts'
import type { NamespaceName, NetworkName } from '#model/ids.ts'
import { formatSubnet, ipv4SubnetOf, isIpv4, subnetSize, type Subnet } from '#model/ip.ts'
import { broadcastAddress, type Ipv4 } from '#model/ipv4.ts'
import type { NamespaceRange } from '#model/namespace.ts'
import { NETWORK_DEFAULTS } from '#model/settings.ts'
import { createNetwork } from './apply-network.ts'
import { BitVector } from './bit-vector.ts'
import { refuseOverlappingGrant } from './host-overlap.ts'
import { MAX_NAMESPACES, whyFull } from './quotas.ts'
import { noNetwork, refuse } from './refuse.ts'
import type { Tables } from './tables.ts'

/** Longest namespace name that fits untruncated into its network's name. */
const WHOLE_NAME = 60
const NAME_MAX = 63

/** Networks that the namespace already has are not checked again. */
export function mapNamespace(
  tables: Tables,
  command: CommandOf<'namespace-map'>,
  rules: number
): OutcomeOf<'namespace-map'> {
  const { namespace: name, network, grants } = command
  const missing = [network, ...grants].find(one => !tables.networks.has(one))
  if (missing !== undefined) return noNetwork(missing, 'network')
  const full = whyNoMore(tables, { name, rules })
  if (full !== null) return full
  const before = tables.namespaces.get(name)
  const added = [network, ...grants].filter(one => one !== before?.network && before?.grants.includes(one) !== true)
  const overlap = rules < DISJOINT_HOST_ACCESS ? null : refuseOverlappingGrant(tables, added)
  if (overlap !== null) return overlap
  const namespace = { name, network, grants }
  tables.putNamespace(namespace)
  return { ok: true, result: { kind: 'namespace', namespace } }
}

export function unmapNamespace(tables: Tables, command: CommandOf<'namespace-unmap'>): OutcomeOf<'namespace-unmap'> {
  const namespace = tables.namespaces.get(command.namespace)
  if (namespace === undefined) {
    return refuse('ERR_NAMESPACE_NOT_FOUND', `namespace ${command.namespace} is mapped to no network`, 'namespace')
  }
  tables.removeNamespace(namespace)
  return { ok: true, result: { kind: 'namespace', namespace } }
}

/**
 * The network of a namespace; creates one when it is not mapped. An existing network of that name is used only if it was
 * created for this namespace. O(networks + networks that the range has room for).
 */
export function openNamespace(
  tables: Tables,
  command: CommandOf<'namespace-open'>,
  rules: number
): OutcomeOf<'namespace-open'> {
  const { namespace, range, prefixLength } = command
  const mapped = tables.networks.get(tables.namespaces.get(namespace)?.network ?? ('' as NetworkName))
  if (mapped !== undefined) return { ok: true, result: { kind: 'network', network: mapped.network } }
  const full = whyNoMore(tables, { name: namespace, rules })
  if (full !== null) return full
  const subnet = freeSubnet(tables, { range, prefixLength })
  if (subnet === null) {
    const what = `${formatSubnet(range)} has no free /${prefixLength} for namespace ${namespace}`
    return refuse('ERR_SUBNET_EXHAUSTED', what, 'namespace')
  }
  const [name, requestId] = [networkNameOf(namespace), `namespace/${namespace}`]
  // Kubelet's probes come from the host.
  const settings = { ...NETWORK_DEFAULTS, hostAccess: true }
  const outcome = createNetwork(tables, { kind: 'network-create', name, subnet, ...settings, requestId }, rules)
  if (outcome.ok) tables.putNamespace({ name: namespace, network: name, grants: [] })
  return outcome
}

/** `ns-<namespace>`; the end of a name that is too long is replaced by eight hex digits of its hash (FNV-1a). */
export function networkNameOf(namespace: NamespaceName): NetworkName {
  if (namespace.length <= WHOLE_NAME) return `ns-${namespace}` as NetworkName
  let hash = 0x811c9dc5
  for (let at = 0; at < namespace.length; at++) hash = Math.imul(hash ^ namespace.charCodeAt(at), 0x01000193) >>> 0
  const end = `-${hash.toString(16).padStart(8, '0')}`
  return `ns-${namespace}`.slice(0, NAME_MAX - end.length).concat(end) as NetworkName
}

function whyNoMore(
  { namespaces }: Tables,
  { name, rules }: { readonly name: NamespaceName; readonly rules: number }
): Refusal | null {
  if (namespaces.has(name)) return null
  return whyFull(rules, { count: namespaces.size, max: MAX_NAMESPACES, what: 'namespaces', field: 'namespace' })
}

/** The first subnet of the range that overlaps no network. */
function freeSubnet(tables: Tables, { range: anyRange, prefixLength }: NamespaceRange): Subnet | null {
  const range = ipv4SubnetOf(anyRange)
  const size = 2 ** (32 - prefixLength)
  const taken = new BitVector(subnetSize(range) / size)
  for (const { network } of tables.networks.values()) {
    if (!isIpv4(network.subnet.base)) continue
    const subnet = ipv4SubnetOf(network.subnet)
    const first = Math.max(subnet.base, range.base)
    const last = Math.min(broadcastAddress(subnet), broadcastAddress(range))
    for (let at = first; at <= last; at += size) {
      const bit = Math.floor((at - range.base) / size)
      if (!taken.has(bit)) taken.set(bit)
    }
  }
  const free = taken.nextFree(0)
  return free === null ? null : { base: (range.base + free * size) as Ipv4, prefixLength }
}
