// The self-check: recomputes bit vectors, indexes and hash from the rows, and compares them with those of the state.

import { idNameOf, ownNameOf } from '#model/dns-name.ts'
import { NameIndex } from './name-index.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { isVacant } from '#model/host.ts'
import { addressesOf, gatewaysOf, hostRoutedSubnets, subnetsOf, whyNoPair } from '#model/addresses.ts'
import { BOTH_FAMILIES, LABELS, rulesOfVersion } from '#model/command.ts'
import { formatIp, formatSubnet, hostBits, isHostAddress, isIpv4, lastAddress } from '#model/ip.ts'
import { changedLabels, isEmpty, labelTexts, whyTooMany } from '#model/labels.ts'
import { macOf } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { VNI_MAX, type Vni } from '#model/ids.ts'
import { addressOfValue, poolValue } from './address-pool.ts'
import { BITS_MAX, BitVector } from './bit-vector.ts'
import { hashCursors, hashRows, hashSessions } from './digest.ts'
import { ownerOf, ownerOfMac, pooled, type NetworkTable } from './network-table.ts'
import type { Pool } from './pool.ts'
import { policyFaults } from './policy-faults.ts'
import { serviceFaults } from './service-faults.ts'
import { MAX_REMEMBERED, MAX_SESSIONS, type Sessions } from './sessions.ts'
import type { ClusterState } from './state-machine.ts'
import type { Hash } from './row-hash.ts'
import type { Tables } from './tables.ts'

/** Every inconsistency of the state, as text; empty when it is sound. O(state). */
export function verify(state: ClusterState): string[] {
  const { tables, sessions } = state
  const faults = [...vniFaults(tables)]
  for (const [name, table] of tables.networks) {
    if (table.network.name !== name) faults.push(`network ${table.network.name} is filed under ${name}`)
    faults.push(...subnetFaults(table.network), ...addressFaults(table), ...endpointFaults(tables, table))
  }
  faults.push(...routeFaults(tables))
  faults.push(...countFaults(tables), ...hostFaults(tables), ...namespaceFaults(tables), ...rulesFaults(tables))
  faults.push(...labelFaults(tables), ...serviceFaults(tables), ...policyFaults(tables))
  faults.push(...sessionFaults(sessions, state.appliedIndex))
  const isSame = (one: Hash, other: Hash): boolean => one.a === other.a && one.b === other.b
  if (!isSame(tables.hash.value, hashRows(tables))) faults.push('the hash does not match the rows')
  if (!isSame(tables.cursors.value, hashCursors(tables))) faults.push('the hash does not match the cursors')
  if (!isSame(sessions.hash, hashSessions(sessions))) faults.push('the hash does not match the sessions')
  return faults
}

function* vniFaults({ vnis, networks, networkByVni }: Tables): Generator<string> {
  const owners = [0, ...[...networks.values()].map(({ network }) => network.vni)]
  yield* poolFaults({ what: 'VNI', pool: vnis, base: 0, size: VNI_MAX + 1, owners, format: String })
  for (const [vni, table] of networkByVni) {
    if (table.network.vni !== vni) yield `VNI ${vni} leads to network ${table.network.name}`
  }
  for (const table of networks.values()) {
    if (networkByVni.get(table.network.vni) !== table) yield `network ${table.network.name} is not found by its VNI`
  }
}

function* subnetFaults({ name, subnet, subnet6, gateway, wasIpv6 }: Network): Generator<string> {
  const unfit = subnet6 === undefined ? null : whyNoPair(subnet, subnet6)
  if (unfit !== null) yield `network ${name}: ${unfit}`
  if (wasIpv6 === true && subnet6 === undefined) yield `network ${name} was of IPv6 alone, and has one subnet`
  if (!isHostAddress(subnet, gateway)) yield `network ${name}: its gateway ${formatIp(gateway)} is outside its subnet`
}

/** The subnets to which hosts have routes, and no others, are in their index. */
function* routeFaults({ hostRouted, networks }: Tables): Generator<string> {
  let subnets = 0
  for (const { network } of networks.values()) {
    for (const subnet of hostRoutedSubnets(network)) {
      subnets += 1
      if (!hostRouted.overlapping(subnet).includes(network.name))
        yield `network ${network.name} is not found by ${formatSubnet(subnet)}, which hosts reach`
    }
  }
  if (hostRouted.size !== subnets) yield `hosts reach ${subnets} subnets, ${hostRouted.size} in the index`
}

function* addressFaults(table: NetworkTable): Generator<string> {
  const { network, pool, byAddress, beyond, services } = table
  const { name, gateway, subnet } = network
  const reserved = [subnet.base, gateway, ...(isIpv4(subnet.base) ? [lastAddress(subnet)] : [])]
  const all = [...reserved, ...[...byAddress.values()].map(({ address }) => address)]
  const ofServices = [...(services?.byAddress.keys() ?? [])].map(address => pooled(table, address))
  const owners = [...all.map(address => poolValue(subnet, address)), ...ofServices].filter(value => value !== null)
  const base = poolValue(subnet, subnet.base) ?? 0
  const size = Math.min(2 ** hostBits(subnet), BITS_MAX)
  const format = (value: number): string => formatIp(addressOfValue(subnet, value))
  yield* poolFaults({ what: `network ${name}: address`, pool, base, size, owners, format })
  const outside = [...byAddress.values()].filter(({ address }) => poolValue(subnet, address) === null)
  if (outside.length !== beyond.size || outside.some(endpoint => !beyond.has(endpoint)))
    yield `network ${name}: ${outside.length} endpoints beyond the pool, ${beyond.size} in the index`
}

function* endpointFaults(tables: Tables, table: NetworkTable): Generator<string> {
  const { network, byAddress, byChosenMac, byChosen6 } = table
  const subnets = subnetsOf(network)
  const gateways = gatewaysOf(network)
  let chosen = 0
  let chosen6 = 0
  for (const [address, endpoint] of byAddress) {
    const what = nameOf(endpoint)
    if (endpoint.address !== address) yield `${what} is filed under ${formatIp(address)}`
    if (endpoint.network !== network.name || endpoint.vni !== network.vni) yield `${what} is filed in ${network.name}`
    if (ownerOfMac(table, endpoint.mac) !== endpoint) yield `${what} is not found by its MAC`
    if (endpoint.mac !== macOf(network.vni, address) || poolValue(network.subnet, address) === null) chosen += 1
    if (endpoint.address6 !== undefined) chosen6 += 1
    for (const each of addressesOf(network, endpoint)) {
      if (ownerOf(table, each) !== endpoint) yield `${what} is not found by ${formatIp(each)}`
      if (!subnets.some(subnet => isHostAddress(subnet, each))) yield `${what} has an address outside its subnet`
      if (gateways.includes(each)) yield `${what} has the address of its gateway`
    }
    const name = ownNameOf(endpoint) ?? idNameOf(endpoint)
    const isNamed = table.names === null || name === null || table.names.find(name).includes(endpoint)
    if (!isNamed) yield `${what} is not found by its name`
    if (tables.byHost.get(endpoint.host)?.has(endpoint) !== true) yield `${what} is not found on its host`
    if (!tables.hosts.has(endpoint.host)) yield `${what} is on a host that does not exist`
    if (tables.containers.get(endpoint.containerId, endpoint.ifname) !== endpoint) {
      yield `${what} is not found by its container`
    }
  }
  if (table.names !== null && table.names.size !== new NameIndex(byAddress.values()).size)
    yield `network ${network.name}: the index by name has ${table.names.size} entries`
  if (byChosen6.size !== chosen6) {
    yield `network ${network.name}: ${chosen6} endpoints with a chosen IPv6 address, ${byChosen6.size} in the index`
  }
  if (byChosenMac.size !== chosen) {
    yield `network ${network.name}: ${chosen} endpoints with a chosen MAC, ${byChosenMac.size} in the index`
  }
}

/** Every row is in every index; equal sizes then mean that no index entry lacks its row. */
function* countFaults({ networks, networkByVni, containers, byHost, networksByHost }: Tables): Generator<string> {
  let rows = 0
  for (const { byAddress } of networks.values()) rows += byAddress.size
  let onHosts = 0
  for (const [host, endpoints] of byHost) {
    onHosts += endpoints.size
    const counts = new Map<number, number>()
    for (const { vni } of endpoints) counts.set(vni, (counts.get(vni) ?? 0) + 1)
    const held = networksByHost.get(host)
    if (held?.size !== counts.size || [...counts].some(([vni, count]) => held.get(vni as Vni) !== count)) {
      yield `host ${host}: the counts of its networks are not those of its endpoints`
    }
  }
  if (networksByHost.size !== byHost.size)
    yield `${byHost.size} hosts with endpoints, ${networksByHost.size} by networks`
  if (containers.size !== rows) yield `${rows} endpoints, ${containers.size} by container`
  if (onHosts !== rows) yield `${rows} endpoints, ${onHosts} by host`
  if (networkByVni.size !== networks.size) yield `${networks.size} networks, ${networkByVni.size} by VNI`
}

function* hostFaults({ hosts, hostByName, hostByVtep, byHost }: Tables): Generator<string> {
  for (const [peer, host] of hosts) {
    if (host.peerId !== peer) yield `host ${host.name} is filed under ${peer}`
    if (!byHost.has(peer)) yield `host ${host.name} has no set of endpoints`
    if (isVacant(host)) {
      if (byHost.get(peer)?.size === 0) yield `host ${host.name} is vacant and holds no endpoint`
      continue
    }
    if (hostByName.get(host.name) !== host) yield `host ${host.name} is not found by its name`
    if (hostByVtep.get(host.vtep) !== host) yield `host ${host.name} is not found by its VTEP`
  }
  const vacant = [...hosts.values()].filter(isVacant).length
  for (const [what, { size }] of Object.entries({ name: hostByName, VTEP: hostByVtep })) {
    if (size !== hosts.size - vacant) yield `${hosts.size - vacant} hosts, ${size} by ${what}`
  }
  if (byHost.size !== hosts.size) yield `${hosts.size} hosts, ${byHost.size} by endpoints`
}

function* namespaceFaults({ namespaces, networks }: Tables): Generator<string> {
  for (const [name, namespace] of namespaces) {
    if (namespace.name !== name) yield `namespace ${namespace.name} is filed under ${name}`
    for (const network of [namespace.network, ...namespace.grants]) {
      if (!networks.has(network)) yield `namespace ${name} is mapped to network ${network}, which does not exist`
    }
  }
}

/** Neither of these can be seen by a host that does not know it (docs/adr/0054). */
function* rulesFaults({ rules, presentHosts, networks }: Tables): Generator<string> {
  for (const { name, version } of presentHosts) {
    if (rulesOfVersion(version) < rules) yield `host ${name} has version ${version}, which does not know rules ${rules}`
  }
  const known = presentHosts.map(({ version }) => rulesOfVersion(version))
  if (known.length > 0 && Math.min(...known) > rules) yield `every host knows newer rules than ${rules}`
  if (rules >= BOTH_FAMILIES) return
  for (const { network } of networks.values()) {
    if (!subnetsOf(network).every(({ base }) => isIpv4(base)))
      yield `network ${network.name} has IPv6 by rules ${rules}`
  }
}

/** Labels are in rows that have some, in one form for equal ones, and only where every host knows them. */
function* labelFaults({ rules, networks }: Tables): Generator<string> {
  for (const { byAddress } of networks.values()) {
    for (const endpoint of byAddress.values()) {
      const { labels } = endpoint
      if (labels === undefined) continue
      const tooMany = whyTooMany(labels)
      if (tooMany !== null) yield `${nameOf(endpoint)}: ${tooMany}`
      if (rules < LABELS) yield `${nameOf(endpoint)} has labels by rules ${rules}`
      if (isEmpty(labels)) yield `${nameOf(endpoint)} has an empty set of labels`
      if (labelTexts(labels).join() !== labelTexts(changedLabels(labels, {})).join())
        yield `${nameOf(endpoint)}: its labels are out of order`
    }
  }
}

function* sessionFaults(sessions: Sessions, appliedIndex: number): Generator<string> {
  if (sessions.size > MAX_SESSIONS) yield `${sessions.size} sessions`
  let before = 0
  for (const [id, { lastUsed, settledBelow, answers }] of sessions.entries()) {
    if (lastUsed <= before || lastUsed > appliedIndex) yield `session ${id}: used at ${lastUsed}, out of order`
    if (answers.size > MAX_REMEMBERED) yield `session ${id}: ${answers.size} answers`
    for (const seq of answers.keys()) if (seq < settledBelow) yield `session ${id}: answer ${seq} is settled`
    before = lastUsed
  }
}

/** Compares a pool's bit vector with one rebuilt from the owners of its values. */
function* poolFaults(p: {
  readonly what: string
  readonly pool: Pool
  readonly base: number
  readonly size: number
  readonly owners: readonly number[]
  readonly format: (value: number) => string
}): Generator<string> {
  const owned = new BitVector(p.size)
  for (const owner of p.owners) {
    const bit = owner - p.base
    if (bit < 0 || bit >= p.size) yield `${p.what} ${p.format(owner)} is out of range`
    else if (owned.has(bit)) yield `${p.what} ${p.format(owner)} has two owners`
    else owned.set(bit)
  }
  let marked = 0
  for (const value of p.pool.values()) {
    marked += 1
    if (!owned.has(value - p.base)) yield `${p.what} ${p.format(value)} is marked but has no owner`
  }
  const { used, reserved } = p.pool.use()
  if (used + reserved !== marked) yield `${p.what}: ${used + reserved} counted, ${marked} marked`
  for (const bit of owned.bits()) {
    const value = p.base + bit
    if (p.pool.isFree(value)) yield `${p.what} ${p.format(value)} has an owner but is not marked`
  }
}

function nameOf(endpoint: Endpoint): string {
  return `endpoint ${endpoint.containerId}/${endpoint.ifname}`
}
