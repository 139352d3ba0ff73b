// The state as the paper has it, as keys and values: network/<name>, vlanStore, ipStore/<name>,
// endpoint/<network>/<containerId>/<ifname>, host/<name>; and namespace/<name>. Read only; the values are plain JSON in their outside form.

import type { Endpoint } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { ContainerId, HostName, IfName, NamespaceName, NetworkName } from '#model/ids.ts'
import { formatIpv4, formatSubnet, type Ipv4 } from '#model/ipv4.ts'
import type { Network } from '#model/network.ts'
import type { Pool } from './pool.ts'
import type { ClusterState } from './state-machine.ts'

export type KvValue = Readonly<Record<string, unknown>>
export type KvEntry = { readonly key: string; readonly value: KvValue }

/**
 * A bit vector: `set` holds runs of [first, last], reserved values included; a set of a million scattered values is as
 * long as that. VNIs are numbers, addresses are text.
 */
export type KvBitVector = {
  readonly base: number | string
  readonly size: number
  readonly used: number
  readonly reserved: number
  readonly cursor: number | string
  readonly set: readonly (readonly [first: number | string, last: number | string])[]
}

/** All entries whose key starts with the prefix, keys ascending by UTF-16 code unit. O(n log n) of what could match. */
export function listKv(state: ClusterState, prefix = ''): KvEntry[] {
  const found: KvEntry[] = []
  for (const [key, read] of candidates(state, prefix)) if (key.startsWith(prefix)) found.push({ key, value: read() })
  return found.sort((a, b) => (a.key < b.key ? -1 : 1))
}

/** The value of one key, or undefined when there is none. */
export function getKv(state: ClusterState, key: string): KvValue | undefined {
  const parts = key.split('/')
  const [kind, name, containerId, ifname] = parts
  const table = state.tables.networks.get(name as NetworkName)
  if (kind === 'vlanStore' && parts.length === 1) return vniBits(state)
  if (kind === 'network' && parts.length === 2) return table && networkValue(table.network)
  if (kind === 'ipStore' && parts.length === 2) return table && addressBits(table.pool)
  if (kind === 'host' && parts.length === 2) {
    const host = state.hostByName(name as HostName)
    return host && hostValue(host)
  }
  if (kind === 'namespace' && parts.length === 2) return state.namespace(name as NamespaceName)
  if (kind !== 'endpoint' || parts.length !== 4) return undefined
  const endpoint = state.tables.containers.get(containerId as ContainerId, ifname as IfName)
  return endpoint !== undefined && endpoint.network === name ? endpointValue(state, endpoint) : undefined
}

type Candidate = readonly [key: string, read: () => KvValue]

/** Keys that may match, without those of whole kinds and networks that cannot. */
function* candidates(state: ClusterState, prefix: string): Generator<Candidate> {
  const wanted = (start: string): boolean => start.startsWith(prefix) || prefix.startsWith(start)
  yield ['vlanStore', () => vniBits(state)]
  for (const { network, pool, byAddress } of state.tables.networks.values()) {
    yield [`network/${network.name}`, () => networkValue(network)]
    yield [`ipStore/${network.name}`, () => addressBits(pool)]
    if (!wanted(`endpoint/${network.name}/`)) continue
    for (const endpoint of byAddress.values()) yield [endpointKvKey(endpoint), () => endpointValue(state, endpoint)]
  }
  for (const host of state.hosts()) yield [`host/${host.name}`, () => hostValue(host)]
  for (const namespace of state.namespaces()) yield [`namespace/${namespace.name}`, () => namespace]
}

function endpointKvKey({ network, containerId, ifname }: Endpoint): string {
  return `endpoint/${network}/${containerId}/${ifname}`
}

function vniBits(state: ClusterState): KvBitVector {
  return bitVector(state.tables.vnis, value => value)
}

function addressBits(pool: Pool): KvBitVector {
  return bitVector(pool, value => formatIpv4(value as Ipv4))
}

function bitVector(pool: Pool, format: (value: number) => number | string): KvBitVector {
  const { base, size, used, reserved, cursor } = pool.use()
  const set = [...pool.runs()].map(([first, last]) => [format(first), format(last)] as const)
  return { base: format(base), size, used, reserved, cursor: format(cursor), set }
}

function networkValue(network: Network): KvValue {
  return { ...network, subnet: formatSubnet(network.subnet), gateway: formatIpv4(network.gateway) }
}

function endpointValue(state: ClusterState, endpoint: Endpoint): KvValue {
  const host = state.host(endpoint.host)?.name ?? endpoint.host
  return { ...endpoint, host, peerId: endpoint.host, address: formatIpv4(endpoint.address) }
}

function hostValue(host: Host): KvValue {
  return { ...host, vtep: formatIpv4(host.vtep) }
}
