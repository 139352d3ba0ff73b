// The whole state as a plain value and back, for snapshots. The form is canonical: equal states have equal values,
// regardless of their history. It holds the owners instead of bit vectors. Restoring takes the same steps as applying
// commands, so an inconsistent state cannot be restored.

import type { Endpoint } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import { VACANT_VTEP, type Host } from '#model/host.ts'
import type { LogIndex, PeerId, Vni } from '#model/ids.ts'
import { ipv4Of, isHostAddress } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { macOf } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { NETWORK_SETTINGS, settingsOf } from '#model/settings.ts'
import { digestOf } from './digest.ts'
import { firstDigestOf } from './first-digest.ts'
import {
  SNAPSHOT_FORMAT,
  type PlainEndpoint,
  type PlainHost,
  type PlainNetwork,
  type PlainSession,
  type PlainState
} from './plain-state.ts'
import { parseEndpointRow, parseHostRow, parseNamespaceRow, parseNetworkRow, parseOutcome } from './parse-row.ts'
import { Sessions } from './sessions.ts'
import { ClusterState } from './state-machine.ts'
import { Tables, type NetworkTable } from './tables.ts'

/** Stands in for the VTEP of a vacant host while the rest of its row is validated. */
const ANY_VTEP = 0x01000001

/** By the formats that this version reads. */
const DIGESTS: ReadonlyMap<number, (state: ClusterState) => string> = new Map([
  [1, firstDigestOf],
  [SNAPSHOT_FORMAT, digestOf]
])

/** A state at one index, which stays as it is while the state changes: rows are immutable, so references are enough. */
export type StateImage = Omit<PlainState, 'networks'> & { readonly networks: readonly NetworkImage[] }

export type NetworkImage = {
  readonly facts: Omit<PlainNetwork, 'endpoints'>
  readonly endpoints: readonly Endpoint[]
  /** The plain form of an endpoint. */
  readonly plain: (endpoint: Endpoint) => PlainEndpoint
}

/** Captures the state as it is now. O(state), but only one reference per endpoint. */
export function imageOf(state: ClusterState): StateImage {
  const { tables, sessions, appliedIndex } = state
  const hosts = [...tables.hosts.values()].sort((a, b) => (a.peerId < b.peerId ? -1 : 1))
  const positions = new Map(hosts.map((host, at) => [host.peerId, at]))
  const plain = (endpoint: Endpoint): PlainEndpoint => plainEndpoint(endpoint, positions)
  return {
    format: SNAPSHOT_FORMAT,
    digest: digestOf(state),
    appliedIndex,
    vniCursor: tables.vnis.cursor,
    hosts: hosts.map(plainHost),
    networks: networksByVni(tables).map(table => ({ ...networkImage(table), plain })),
    namespaces: [...tables.namespaces.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    sessions: plainSessions(sessions)
  }
}

/** The plain value; shares immutable values with the state. O(state) */
export function encodeState(state: ClusterState): PlainState {
  const image = imageOf(state)
  const networks = image.networks.map(({ facts, endpoints, plain }) => ({ ...facts, endpoints: endpoints.map(plain) }))
  return { ...image, networks }
}

/**
 * Restores what encodeState returned, also after a trip through JSON or msgpack. The state behaves exactly as the encoded
 * one. @throws ERR_STORAGE when the value has another format, is malformed or inconsistent
 */
export function decodeState(value: unknown): ClusterState {
  try {
    return restore(value as PlainState)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'it is malformed'
    throw new VxmeshError('ERR_STORAGE', `the snapshot cannot be used: ${why}`, { cause })
  }
}

/** The parsers and tables check everything that the cast in decodeState claims. */
function restore(plain: PlainState): ClusterState {
  const digest = DIGESTS.get(plain.format)
  if (digest === undefined) throw new Error(`format ${String(plain.format)} is not known`)
  const tables = new Tables()
  const hosts = plain.hosts.map(restoreHost)
  for (const host of hosts) tables.putHost(host)
  if (tables.hosts.size !== hosts.length) throw new Error('it holds a host twice')
  for (const network of plain.networks) restoreNetwork(tables, network, hosts)
  for (const namespace of plain.namespaces) tables.putNamespace(parseNamespaceRow(namespace))
  if (tables.namespaces.size !== plain.namespaces.length) throw new Error('it holds a namespace twice')
  tables.restoreVniCursor(plain.vniCursor)
  const sessions = new Sessions()
  for (const [id, lastUsed, settledBelow, answers] of plain.sessions) {
    const parsed = answers.map(([seq, outcome]) => [whole(seq), parseOutcome(outcome)] as const)
    if (typeof id !== 'string') throw new Error('a session without an id')
    if (lastUsed > plain.appliedIndex) throw new Error(`session ${id} was used after the last entry`)
    sessions.restore({ id, lastUsed: index(lastUsed), settledBelow: whole(settledBelow), answers: parsed })
  }
  const state = new ClusterState({ tables, sessions, appliedIndex: index(plain.appliedIndex) })
  // A consistent state may still not be the one that was written.
  if (digest(state) !== plain.digest) throw new Error('its digest does not match its contents')
  return state
}

function restoreHost([name, peerId, vtep, role, bootId, version]: PlainHost): Host {
  if (vtep !== VACANT_VTEP) return parseHostRow({ name, peerId, vtep, role, bootId, version })
  return { ...parseHostRow({ name, peerId, vtep: ANY_VTEP, role, bootId, version }), vtep: VACANT_VTEP }
}

function restoreNetwork(tables: Tables, plain: PlainNetwork, hosts: readonly Host[]): void {
  const [base, prefixLength] = plain.subnet
  const network = parseNetworkRow({ ...plain, subnet: { base, prefixLength } })
  if (!isHostAddress(network.subnet, network.gateway)) throw new Error(`the gateway of ${network.name} is outside`)
  const table = tables.addNetwork(network, 'explicit')
  for (const row of plain.endpoints) {
    const [address, mac, containerId, ifname, name, at, ingressRate, egressRate, delayUs, requestId] = row
    const host = hosts[at]?.peerId
    const facts = { containerId, ifname, name, host, address, ingressRate, egressRate, delayUs, requestId }
    const chosen = mac ?? macOf(network.vni, address as Ipv4)
    const endpoint = parseEndpointRow({ ...facts, network: network.name, vni: network.vni, mac: chosen })
    tables.addEndpoint(endpoint, 'explicit')
  }
  tables.restoreCursor(table, plain.cursor)
}

function whole(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${String(value)} is not a whole number`)
  return value
}

function index(value: number): LogIndex {
  return whole(value) as LogIndex
}

/** In the pool's order, which is ascending: nothing has to be sorted. */
function networksByVni({ vnis, networkByVni }: Tables): NetworkTable[] {
  return [...vnis.values()].flatMap(vni => networkByVni.get(vni as Vni) ?? [])
}

function plainHost({ name, peerId, vtep, role, bootId, version }: Host): PlainHost {
  return [name, peerId, ipv4Of(vtep), role, bootId, version]
}

function networkImage({ network, pool, byAddress }: NetworkTable): Omit<NetworkImage, 'plain'> {
  const endpoints: Endpoint[] = []
  for (const address of pool.values()) {
    const endpoint = byAddress.get(address as Ipv4)
    if (endpoint !== undefined) endpoints.push(endpoint)
  }
  return { facts: { ...plainFacts(network), cursor: pool.cursor }, endpoints }
}

function plainFacts(network: Network): Omit<PlainNetwork, 'cursor' | 'endpoints'> {
  const { name, vni, subnet, gateway, requestId = null } = network
  const range = [ipv4Of(subnet.base), subnet.prefixLength] as const
  return { name, vni, subnet: range, gateway: ipv4Of(gateway), ...settingsOf(NETWORK_SETTINGS, network), requestId }
}

function plainEndpoint(endpoint: Endpoint, positions: ReadonlyMap<PeerId, number>): PlainEndpoint {
  const { vni, containerId, ifname, name, address, ingressRate, egressRate, delayUs, requestId = null } = endpoint
  const host = positions.get(endpoint.host)
  if (host === undefined) throw new Error(`endpoint ${containerId}/${ifname} is on a host that does not exist`)
  const mac = endpoint.mac === macOf(vni, address) ? null : endpoint.mac
  return [ipv4Of(address), mac, containerId, ifname, name, host, ingressRate, egressRate, delayUs, requestId]
}

function plainSessions(sessions: Sessions): PlainSession[] {
  return [...sessions.entries()].map(([id, { lastUsed, settledBelow, answers }]) => {
    const plain = [...answers].map(([seq, { outcome }]) => [seq, outcome] as const)
    return [id, lastUsed, settledBelow, plain.sort(([a], [b]) => a - b)]
  })
}
