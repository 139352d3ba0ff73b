// The paper's key-value view of the state: network/<name>, vlanStore, ipStore/<name>, host/<name>,
// endpoint/<network>/<containerId>/<ifname>; namespace/<name>, policy/<network>/<name> and service/<network>/<name>. Read-only; values are JSON with addresses as text.

import type { Endpoint } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { ContainerId, HostName, IfName, NamespaceName, NetworkName, PolicyName, ServiceName } from '#model/ids.ts'
import { mirrorOf } from '#model/addresses.ts'
import { compareIp, formatIp, formatSubnet } from '#model/ip.ts'
import { formatTerm } from '#model/labels.ts'
import type { Network } from '#model/network.ts'
import type { Policy } from '#model/policy.ts'
import { formatRule } from '#model/policy-text.ts'
import { formatRequirements } from '#model/requirement.ts'
import { formatBackend, formatPort, type Service } from '#model/service.ts'
import { addressOfValue } from './address-pool.ts'
import type { NetworkTable } from './network-table.ts'
import type { Pool } from './pool.ts'
import type { ClusterState } from './state-machine.ts'

export type KvValue = Readonly<Record<string, unknown>>
export type KvEntry = { readonly key: string; readonly value: KvValue }

/** Keys that start with `prefix` and sort after `after`; at most `limit` of them. */
export type KvRange = { readonly prefix?: string; readonly after?: string; readonly limit?: number }

/**
 * A bit vector. `set` holds the lowest runs of [first, last], reserved values included; `more` says whether there are
 * others. VNIs are numbers, addresses are text.
 */
export type KvBitVector = {
  readonly base: number | string
  readonly size: number
  readonly used: number
  readonly reserved: number
  readonly cursor: number | string
  readonly set: readonly (readonly [first: number | string, last: number | string])[]
  readonly more: boolean
}

/** Most runs in the value of one key; the rest follows from listing the owners. */
const MAX_RUNS = 4_096
/** Most runs of each bit vector in a list. */
const MAX_RUNS_LISTED = 16

/** The entries of a range, keys ascending by UTF-16 code unit. O(n log n) in the keys of the groups that the range meets. */
export function listKv(state: ClusterState, { prefix = '', after = '', limit = Infinity }: KvRange = {}): KvEntry[] {
  const found: KvEntry[] = []
  for (const { start, keys } of groups(state)) {
    if (found.length >= limit) break
    // When `after` sorts past the group's start and does not begin with it, it sorts past all of the group.
    if (!(start.startsWith(prefix) || prefix.startsWith(start)) || (after > start && !after.startsWith(start))) continue
    const wanted: Candidate[] = []
    for (const candidate of keys()) {
      if (candidate.key.startsWith(prefix) && candidate.key > after) wanted.push(candidate)
    }
    wanted.sort((a, b) => (a.key < b.key ? -1 : 1))
    for (const { key, read } of wanted.slice(0, limit - found.length)) found.push({ key, value: read() })
  }
  return found
}

/** The value of one key, or undefined when there is none. */
export function getKv(state: ClusterState, key: string): KvValue | undefined {
  const parts = key.split('/')
  const [kind, name, id, ifname] = parts
  const table = state.tables.networks.get(name as NetworkName)
  if (kind === 'vlanStore' && parts.length === 1) return vniBits(state, MAX_RUNS)
  if (kind === 'network' && parts.length === 2) return table && networkValue(table.network)
  if (kind === 'ipStore' && parts.length === 2) return table && addressBits(table, MAX_RUNS)
  if (kind === 'host' && parts.length === 2) {
    const host = state.hostByName(name as HostName)
    return host && hostValue(host)
  }
  if (kind === 'namespace' && parts.length === 2) return state.namespace(name as NamespaceName)
  if (kind === 'policy' && parts.length === 3) {
    const policy = state.policy(name as NetworkName, id as PolicyName)
    return policy && policyValue(policy)
  }
  if (kind === 'service' && parts.length === 3) {
    const service = table?.services?.byName.get(id as ServiceName)
    return service && serviceValue(service)
  }
  if (kind !== 'endpoint' || parts.length !== 4) return undefined
  const endpoint = state.tables.containers.get(id as ContainerId, ifname as IfName)
  return endpoint !== undefined && endpoint.network === name ? endpointValue(state, endpoint) : undefined
}

type Candidate = { readonly key: string; readonly read: () => KvValue }
type Group = { readonly start: string; readonly keys: () => Iterable<Candidate> }

/** Keys by common prefix, ascending. No group's prefix is a prefix of another's, so keys ascend across groups too. */
function* groups(state: ClusterState): Generator<Group> {
  const { networks } = state.tables
  const starts = [...networks.values()].map(table => ({ table, start: `endpoint/${table.network.name}/` }))
  for (const { table, start } of starts.sort((a, b) => (a.start < b.start ? -1 : 1))) {
    const { byAddress } = table
    yield { start, keys: () => each(byAddress.values(), endpointKvKey, endpoint => endpointValue(state, endpoint)) }
  }
  yield { start: 'host/', keys: () => each(named(state), ({ name }) => `host/${name}`, hostValue) }
  const ofPool = ({ network }: NetworkTable): string => `ipStore/${network.name}`
  yield {
    start: 'ipStore/',
    keys: () => each(networks.values(), ofPool, table => addressBits(table, MAX_RUNS_LISTED))
  }
  yield {
    start: 'namespace/',
    keys: () =>
      each(
        state.namespaces(),
        ({ name }) => `namespace/${name}`,
        row => row
      )
  }
  yield { start: 'network/', keys: () => each(state.networks(), ({ name }) => `network/${name}`, networkValue) }
  for (const network of state.tables.policies.networks().toSorted()) {
    const rows = state.policiesOf(network)
    yield {
      start: `policy/${network}/`,
      keys: () => each(rows, ({ name }) => `policy/${network}/${name}`, policyValue)
    }
  }
  const ofServices = [...networks.values()].filter(({ services }) => services !== null)
  const serviceStarts = ofServices.map(table => ({ table, start: `service/${table.network.name}/` }))
  for (const { table, start } of serviceStarts.sort((a, b) => (a.start < b.start ? -1 : 1))) {
    const rows = table.services?.byName.values() ?? []
    yield { start, keys: () => each(rows, ({ network, name }) => `service/${network}/${name}`, serviceValue) }
  }
  yield {
    start: 'vlanStore',
    keys: () =>
      each(
        ['vlanStore'],
        key => key,
        () => vniBits(state, MAX_RUNS_LISTED)
      )
  }
}

/** The hosts that their name's key refers to: a vacant host whose name another host has is not listed. */
function named(state: ClusterState): Host[] {
  return [...state.hosts()].filter(host => state.hostByName(host.name) === host)
}

function* each<Row>(
  rows: Iterable<Row>,
  key: (row: Row) => string,
  value: (row: Row) => KvValue
): Generator<Candidate> {
  for (const row of rows) yield { key: key(row), read: () => value(row) }
}

function endpointKvKey({ network, containerId, ifname }: Endpoint): string {
  return `endpoint/${network}/${containerId}/${ifname}`
}

function vniBits(state: ClusterState, runs: number): KvBitVector {
  return bitVector(state.tables.vnis, { runs, format: value => value })
}

/** Endpoints beyond the pool, and second addresses that mirror none, are listed by themselves. */
type KvAddresses = KvBitVector & {
  readonly beyond?: readonly string[]
  /** The base and the chosen addresses of the second subnet, whose other addresses mirror the bits. */
  readonly second?: { readonly base: string; readonly chosen: readonly string[] }
}

function addressBits({ pool, network, beyond, byChosen6 }: NetworkTable, runs: number): KvAddresses {
  const { subnet, subnet6 } = network
  const bits = bitVector(pool, { runs, format: value => formatIp(addressOfValue(subnet, value)) })
  const outside = [...beyond].map(({ address }) => address).sort(compareIp)
  const listed = outside.length === 0 ? bits : { ...bits, beyond: outside.slice(0, runs).map(formatIp) }
  if (subnet6 === undefined) return listed
  const chosen = [...byChosen6.keys()].sort(compareIp)
  return { ...listed, second: { base: formatIp(subnet6.base), chosen: chosen.slice(0, runs) } }
}

function bitVector(
  pool: Pool,
  { runs, format }: { readonly runs: number; readonly format: (value: number) => number | string }
): KvBitVector {
  const { base, size, used, reserved, cursor } = pool.use()
  const set: (readonly [first: number | string, last: number | string])[] = []
  let more = false
  for (const [first, last] of pool.runs()) {
    more = set.length === runs
    if (more) break
    set.push([format(first), format(last)])
  }
  return { base: format(base), size, used, reserved, cursor: format(cursor), set, more }
}

function networkValue(network: Network): KvValue {
  const { subnet6, ...row } = network
  const value = { ...row, subnet: formatSubnet(network.subnet), gateway: formatIp(network.gateway) }
  return subnet6 === undefined ? value : { ...value, subnet6: formatSubnet(subnet6) }
}

function endpointValue(state: ClusterState, endpoint: Endpoint): KvValue {
  const host = state.host(endpoint.host)?.name ?? endpoint.host
  const value = { ...endpoint, host, peerId: endpoint.host, address: formatIp(endpoint.address) }
  const network = state.networkByVni(endpoint.vni)
  const second = endpoint.address6 ?? (network === undefined ? null : mirrorOf(network, endpoint.address))
  return second === null ? value : { ...value, address6: second }
}

function serviceValue(service: Service): KvValue {
  const { select, backends, ...row } = service
  return {
    ...row,
    addresses: row.addresses.map(formatIp),
    ports: row.ports.map(formatPort),
    ...(select === undefined ? {} : { select: select.map(formatTerm) }),
    ...(backends === undefined ? {} : { backends: backends.map(formatBackend) })
  }
}

function policyValue({ select, rules, ...row }: Policy): KvValue {
  const texts = rules.map(rule => ({ direction: rule.direction, action: rule.action, rule: formatRule(rule) }))
  return { ...row, select: formatRequirements(select), rules: texts }
}

function hostValue(host: Host): KvValue {
  return { ...host, vtep: formatIp(host.vtep) }
}
