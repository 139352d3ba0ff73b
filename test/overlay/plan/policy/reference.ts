// What policies mean, written from docs/adr/0067 alone: no code of the compiler, of its evaluator, or of selectors and CIDRs is used.

import type { Ip, Subnet } from '#model/ip.ts'
import type { Labels } from '#model/labels.ts'
import type { Direction, Peer, Policy, PolicyRule } from '#model/policy.ts'
import type { Requirements } from '#model/requirement.ts'
import type { PolicyEndpoint } from '#overlay/plan/policy/compiled.ts'
import type { Packet } from '#overlay/plan/policy/evaluate.ts'

export type Network = { readonly policies: readonly Policy[]; readonly endpoints: readonly PolicyEndpoint[] }

export function isAllowed(network: Network, packet: Packet): boolean {
  return mayLeave(network, packet) && mayEnter(network, packet)
}

export function mayLeave(network: Network, packet: Packet): boolean {
  return passes(network, packet, 'egress')
}

export function mayEnter(network: Network, packet: Packet): boolean {
  return passes(network, packet, 'ingress')
}

function passes({ policies, endpoints }: Network, packet: Packet, direction: Direction): boolean {
  const [own, peer] = direction === 'egress' ? [packet.from, packet.to] : [packet.to, packet.from]
  const subject = endpoints.find(({ key }) => key === own.key)
  if (subject === undefined) return true
  const selecting = policies.filter(({ select }) => isMet(select, subject.labels))
  const peerEndpoint = endpoints.find(({ addresses }) => addresses.includes(peer.address))
  const holding = selecting
    .flatMap(({ rules }) => rules)
    .filter(rule => rule.direction === direction && isAbout(rule, packet))
    .filter(({ peers }) => peers.length === 0 || peers.some(each => isPeer(each, peer.address, peerEndpoint)))
  if (holding.length === 0) return !selecting.some(({ closes }) => closes.includes(direction))
  const highest = Math.max(...holding.map(({ priority }) => priority))
  return holding.filter(({ priority }) => priority === highest).every(({ action }) => action === 'allow')
}

function isAbout({ ports }: PolicyRule, { protocol, port }: Packet): boolean {
  if (ports.length === 0) return true
  return ports.some(range => range.protocol === protocol && port >= range.first && port <= range.last)
}

function isPeer(peer: Peer, address: Ip, endpoint: PolicyEndpoint | undefined): boolean {
  if ('select' in peer) return endpoint !== undefined && isMet(peer.select, endpoint.labels)
  return isIn(peer.cidr, address) && !peer.except.some(each => isIn(each, address))
}

function isMet(select: Requirements, labels: Labels): boolean {
  for (const { key, value, not } of select) {
    const own = Object.entries(labels).find(([name]) => name === key)?.[1]
    const holds = value === undefined ? own !== undefined : own === value
    if (holds === (not === true)) return false
  }
  return true
}

function isIn({ base, prefixLength }: Subnet, address: Ip): boolean {
  const [one, other] = [binary(base), binary(address)]
  return one.length === other.length && one.slice(0, prefixLength) === other.slice(0, prefixLength)
}

/** 32 or 128 digits. */
function binary(address: Ip): string {
  if (typeof address === 'number') return address.toString(2).padStart(32, '0')
  const [head = '', tail] = address.split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...before, ...new Array<string>(8 - before.length - after.length).fill('0'), ...after]
  return groups.map(group => parseInt(group, 16).toString(2).padStart(16, '0')).join('')
}
