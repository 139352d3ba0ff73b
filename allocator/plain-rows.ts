// Rows as the plain values of a snapshot and back. Pure.

import type { Outcome } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { text } from '#model/fields.ts'
import { VACANT_VTEP, type Host } from '#model/host.ts'
import { parseContainerId, parseIfName, type LogIndex, type PeerId } from '#model/ids.ts'
import { ipv4Of, isHostAddress } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { macOf, parseMac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { ENDPOINT_DEFAULTS, ENDPOINT_SETTINGS, NETWORK_SETTINGS, parseSettings, settingsOf } from '#model/settings.ts'
import { parseHostRow, parseNetworkRow, parseOutcome } from './parse-row.ts'
import type { PlainEndpoint, PlainHost, PlainSession } from './plain-state.ts'
import type { Session, Sessions } from './sessions.ts'
import type { NetworkFacts } from './state-sections.ts'

/** Stands in for the VTEP of a vacant host while the rest of its row is validated. */
const ANY_VTEP = 0x01000001

export function plainHost({ name, peerId, vtep, role, bootId, version }: Host): PlainHost {
  return [name, peerId, ipv4Of(vtep), role, bootId, version]
}

/** @throws ERR_INVALID naming the field */
export function restoreHost([name, peerId, vtep, role, bootId, version]: PlainHost): Host {
  if (vtep !== VACANT_VTEP) return parseHostRow({ name, peerId, vtep, role, bootId, version })
  return { ...parseHostRow({ name, peerId, vtep: ANY_VTEP, role, bootId, version }), vtep: VACANT_VTEP }
}

export function plainNetwork(network: Network, cursor: number): NetworkFacts {
  const { name, vni, subnet, gateway, requestId = null } = network
  const range = [ipv4Of(subnet.base), subnet.prefixLength] as const
  const settings = settingsOf(NETWORK_SETTINGS, network)
  return { name, vni, subnet: range, gateway: ipv4Of(gateway), ...settings, requestId, cursor }
}

/** @throws ERR_INVALID naming the field; Error when its gateway is impossible */
export function restoreNetwork(plain: NetworkFacts): Network {
  const [base, prefixLength] = plain.subnet
  const network = parseNetworkRow({ ...plain, subnet: { base, prefixLength } })
  if (!isHostAddress(network.subnet, network.gateway)) throw new Error(`the gateway of ${network.name} is outside`)
  return network
}

/** @param positions of the hosts in the snapshot */
export function plainEndpoint(endpoint: Endpoint, positions: ReadonlyMap<PeerId, number>): PlainEndpoint {
  const { vni, containerId, ifname, name, address, ingressRate, egressRate, delayUs, requestId = null } = endpoint
  const host = positions.get(endpoint.host)
  if (host === undefined) throw new Error(`endpoint ${containerId}/${ifname} is on a host that does not exist`)
  const mac = endpoint.mac === macOf(vni, address) ? null : endpoint.mac
  return [ipv4Of(address), mac, containerId, ifname, name, host, ingressRate, egressRate, delayUs, requestId]
}

/**
 * By the same parsers as a command, without its objects in between: there may be a million.
 * @throws ERR_INVALID naming the field; Error when it is on no host of the snapshot
 */
export function restoreEndpoint(plain: PlainEndpoint, of: Network, hosts: readonly Host[]): Endpoint {
  const [at, mac, containerId, ifname, display, position, ingressRate, egressRate, delayUs, key] = plain
  const host = hosts[position]?.peerId
  if (host === undefined) throw new Error(`endpoint ${containerId}/${ifname} is on a host that does not exist`)
  const { name: network, vni } = of
  // The network's pool accepts no address outside its subnet.
  const address = whole(at) as Ipv4
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
  return key === null ? row : { ...row, requestId: text({ requestId: key }, 'requestId') }
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

export function whole(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${String(value)} is not a whole number`)
  return value
}

export function indexOf(value: number): LogIndex {
  return whole(value) as LogIndex
}
