// Rows as the plain values of a snapshot and back. Pure.

import { RULES, UNGATED_RULES, type Outcome } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { text } from '#model/fields.ts'
import { VACANT_VTEP, type Host } from '#model/host.ts'
import { parseContainerId, parseIfName, type LogIndex, type PeerId } from '#model/ids.ts'
import { isHostAddress, type Ip, type Subnet } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { parseIpv6, type Ipv6 } from '#model/ipv6.ts'
import { parseLabels } from '#model/labels.ts'
import { macOf, parseMac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { ENDPOINT_DEFAULTS, ENDPOINT_SETTINGS, NETWORK_SETTINGS, parseSettings, settingsOf } from '#model/settings.ts'
import { parseHostRow, parseNetworkRow, parseOutcome } from './parse-row.ts'
import type { PlainEndpoint, PlainHost, PlainIp, PlainSession } from './plain-state.ts'
import type { Session, Sessions } from './sessions.ts'
import type { NetworkFacts } from './state-sections.ts'

/** Stands in for the VTEP of a vacant host while the rest of its row is validated. */
const ANY_VTEP = 0x01000001

export function plainHost({ name, peerId, vtep, role, bootId, version }: Host): PlainHost {
  return [name, peerId, vtep, role, bootId, version]
}

/** @throws ERR_INVALID naming the field */
export function restoreHost([name, peerId, vtep, role, bootId, version]: PlainHost): Host {
  if (vtep !== VACANT_VTEP) return parseHostRow({ name, peerId, vtep, role, bootId, version })
  return { ...parseHostRow({ name, peerId, vtep: ANY_VTEP, role, bootId, version }), vtep: VACANT_VTEP }
}

export function plainNetwork(network: Network, cursor: number): NetworkFacts {
  const { name, vni, subnet, subnet6, gateway, wasIpv6, requestId = null } = network
  const range = ({ base, prefixLength }: Subnet): readonly [Ip, number] => [base, prefixLength]
  const subnets = subnet6 === undefined ? { subnet: range(subnet) } : { subnet: range(subnet), subnet6: range(subnet6) }
  const settings = settingsOf(NETWORK_SETTINGS, network)
  const before = wasIpv6 === undefined ? {} : { wasIpv6 }
  return { name, vni, ...subnets, gateway, ...before, ...settings, requestId, cursor }
}

/** @throws ERR_INVALID naming the field; Error when its gateway is impossible */
export function restoreNetwork(plain: NetworkFacts): Network {
  const range = ([base, prefixLength]: readonly [PlainIp, number]): object => ({ base, prefixLength })
  const { subnet, subnet6 } = plain
  const second = subnet6 === undefined ? {} : { subnet6: range(subnet6) }
  const network = parseNetworkRow({ ...plain, subnet: range(subnet), ...second })
  if (!isHostAddress(network.subnet, network.gateway)) throw new Error(`the gateway of ${network.name} is outside`)
  return network
}

/** @param positions of the hosts in the snapshot */
export function plainEndpoint(endpoint: Endpoint, positions: ReadonlyMap<PeerId, number>): PlainEndpoint {
  const { vni, containerId, ifname, name, address, address6, ingressRate, egressRate, delayUs } = endpoint
  const { requestId = null, labels } = endpoint
  const host = positions.get(endpoint.host)
  if (host === undefined) throw new Error(`endpoint ${containerId}/${ifname} is on a host that does not exist`)
  const mac = endpoint.mac === macOf(vni, address) ? null : endpoint.mac
  const row = [address, mac, containerId, ifname, name, host, ingressRate, egressRate, delayUs, requestId] as const
  if (labels !== undefined) return [...row, address6 ?? null, labels]
  return address6 === undefined ? row : [...row, address6]
}

/**
 * By the same parsers as a command, without its objects in between: there may be a million.
 * @throws ERR_INVALID naming the field; Error when it is on no host of the snapshot
 */
export function restoreEndpoint(plain: PlainEndpoint, of: Network, hosts: readonly Host[]): Endpoint {
  const [at, mac, containerId, ifname, display, position, ingressRate, egressRate, delayUs, key, at6, labels] = plain
  const host = hosts[position]?.peerId
  if (host === undefined) throw new Error(`endpoint ${containerId}/${ifname} is on a host that does not exist`)
  const { name: network, vni } = of
  // An IPv4 network's pool accepts no address outside its subnet.
  const address = typeof at === 'string' ? addressIn(of.subnet, at) : (whole(at) as Ipv4)
  const isFree = ingressRate === 0 && egressRate === 0 && delayUs === 0
  const rates = isFree ? ENDPOINT_DEFAULTS : parseSettings(ENDPOINT_SETTINGS, { ingressRate, egressRate, delayUs })
  const row = {
    network,
    vni,
    containerId: parseContainerId(containerId),
    ifname: parseIfName(ifname),
    name: text({ name: display }, 'name'),
    host,
    address,
    mac: mac === null ? macOf(vni, address) : parseMac(text({ mac }, 'mac')),
    ingressRate: rates.ingressRate,
    egressRate: rates.egressRate,
    delayUs: rates.delayUs
  }
  // In the order of endpointRow (rows.ts): the answer to a later update has the same form on every host.
  const both = at6 === undefined || at6 === null ? row : { ...row, address6: addressIn(of.subnet6, at6) }
  const keyed = key === null ? both : { ...both, requestId: text({ requestId: key }, 'requestId') }
  return labels === undefined ? keyed : { ...keyed, labels: parseLabels(labels) }
}

/** @throws ERR_INVALID when it is malformed; Error when it is not of the subnet */
function addressIn(subnet: Subnet | undefined, text: string): Ipv6 {
  const address = parseIpv6(text)
  if (subnet === undefined || !isHostAddress(subnet, address)) throw new Error(`${address} is outside its subnet`)
  return address
}

/** A session as it is now: answers never change, so references are enough. In no particular order. */
export function capturedSession(id: string, { lastUsed, settledBelow, answers }: Readonly<Session>): PlainSession {
  return [id, lastUsed, settledBelow, [...answers].map(([seq, { outcome }]) => [seq, outcome] as const)]
}

/** The remembered answers of a session in the order of their requests. */
export function plainSession([id, lastUsed, settledBelow, answers]: PlainSession): PlainSession {
  return [id, lastUsed, settledBelow, answers.toSorted(([a], [b]) => a - b)]
}

/** @throws ERR_INVALID naming the field; Error on an impossible session */
export function restoreSession(sessions: Sessions, plain: PlainSession, appliedIndex: number): void {
  const [id, lastUsed, settledBelow, answers] = plain
  const parsed = answers.map(([seq, outcome]): [number, Outcome] => [whole(seq), parseOutcome(outcome)])
  if (typeof id !== 'string') throw new Error('a session without an id')
  if (lastUsed > appliedIndex) throw new Error(`session ${id} was used after the last entry`)
  sessions.restore({ id, lastUsed: indexOf(lastUsed), settledBelow: whole(settledBelow), answers: parsed })
}

/** Those of the cluster; undefined before they were raised. @throws Error when this version does not know them */
export function restoreRules(rules: number | undefined): number {
  if (rules === undefined) return UNGATED_RULES
  if (Number.isInteger(rules) && rules > UNGATED_RULES && rules <= RULES) return rules
  throw new Error(`the rules ${String(rules)} of its cluster are not known; upgrade this host`)
}

export function whole(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${String(value)} is not a whole number`)
  return value
}

export function indexOf(value: number): LogIndex {
  return whole(value) as LogIndex
}
