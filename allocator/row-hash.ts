// Hashes of rows in two 32-bit lanes (multiply and rotate, after FNV-1a; murmur3's finalizer), and their sum over a set.
// The sum does not depend on order, so a change costs one row. It detects replicas that diverge by a bug; it is no
// defence against a malicious one.

import { isIpv4, type Ip, type Subnet } from '#model/ip.ts'
import type { Outcome, Result } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import { formatRule } from '#model/policy-text.ts'
import type { Policy } from '#model/policy.ts'
import { formatRequirements } from '#model/requirement.ts'
import type { Service } from '#model/service.ts'
import { ENDPOINT_SETTING_NAMES, NETWORK_SETTING_NAMES, type Setting } from '#model/settings.ts'

/** Two words of 32 bits, signed: an unsigned one would not fit into V8's small integers, and take an object of its own. */
export type Hash = { readonly a: number; readonly b: number }

export class Hasher {
  #a = 0x811c9dc5 | 0
  #b = 0x3c6ef372

  /** @param value a whole number from 0 to 2^53 - 1 */
  number(value: number): this {
    this.#mix(value | 0)
    this.#mix(Math.floor(value / 0x1_0000_0000))
    return this
  }

  text(value: string): this {
    // The length first: otherwise ('ab', 'c') and ('a', 'bc') would have the same hash.
    this.#mix(value.length)
    // As #mix, with the lanes in registers: most of the time of an applied entry is spent in this loop.
    let [a, b] = [this.#a, this.#b]
    for (let at = 0; at < value.length; at++) {
      const word = value.charCodeAt(at)
      a = Math.imul(a ^ word, 0x01000193)
      a ^= a >>> 15
      b = Math.imul(((b << 13) | (b >>> 19)) ^ word, 0x9e3779b1)
    }
    this.#a = a
    this.#b = b
    return this
  }

  /** IPv4 as a number, as it always was. */
  ip(value: Ip): this {
    return isIpv4(value) ? this.number(value) : this.text(value)
  }

  subnet({ base, prefixLength }: Subnet): this {
    return this.ip(base).number(prefixLength)
  }

  optionalText(value: string | undefined): this {
    this.#mix(value === undefined ? 0 : 1)
    return value === undefined ? this : this.text(value)
  }

  /** Numbers one by one, then all others as the bits of one number: whether they differ from what is false, or absent. */
  settings<Name extends string>(
    names: readonly Name[],
    row: Readonly<Partial<Record<Name, Setting['fallback']>>>
  ): this {
    let flags = 0
    let bit = 1
    for (const name of names) {
      const value = row[name]
      if (typeof value === 'number') {
        this.number(value)
        continue
      }
      if (value !== undefined && value !== false) flags += bit
      bit *= 2
    }
    return bit === 1 ? this : this.number(flags)
  }

  hash({ a, b }: Hash): this {
    this.#mix(a)
    this.#mix(b)
    return this
  }

  finish(): Hash {
    return { a: spread(this.#a ^ this.#b), b: spread(this.#b + Math.imul(this.#a, 5)) }
  }

  #mix(word: number): void {
    this.#a = Math.imul(this.#a ^ word, 0x01000193)
    this.#a ^= this.#a >>> 15
    this.#b = Math.imul(((this.#b << 13) | (this.#b >>> 19)) ^ word, 0x9e3779b1)
  }
}

/** The sum of the hashes of a set's rows, modulo 2^32 in each lane. */
export class SetHash {
  #a = 0
  #b = 0

  add({ a, b }: Hash): void {
    this.#a = (this.#a + a) | 0
    this.#b = (this.#b + b) | 0
  }

  remove({ a, b }: Hash): void {
    this.#a = (this.#a - a) | 0
    this.#b = (this.#b - b) | 0
  }

  get value(): Hash {
    return { a: this.#a, b: this.#b }
  }
}

export const hashNetwork = rowHash('network', networkInto)
export const hashEndpoint = rowHash('endpoint', endpointInto)
export const hashHost = rowHash('host', hostInto)
export const hashNamespace = rowHash('namespace', namespaceInto)
export const hashService = rowHash('service', serviceInto)
export const hashPolicy = rowHash('policy', policyInto)

export function hashText(text: string): Hash {
  return new Hasher().text(text).finish()
}

/** Where the next search of a pool starts. @param pool tells the pools apart: a network's VNI, or VNIS (tables.ts) */
export function hashCursor(pool: number, cursor: number): Hash {
  return new Hasher().number(pool).number(cursor).finish()
}

/** An answer that a session remembers. */
export function hashAnswer(seq: number, outcome: Outcome): Hash {
  const hasher = new Hasher().number(seq)
  if (outcome.ok) return resultInto(hasher, outcome.result).finish()
  const { code, message, field } = outcome.error
  return hasher.text(code).text(message).optionalText(field).finish()
}

/** @param p.answersHash the sum over its answers */
export function hashSession(p: {
  readonly idHash: Hash
  readonly lastUsed: number
  readonly settledBelow: number
  readonly answersHash: { readonly value: Hash }
}): Hash {
  const { idHash, lastUsed, settledBelow, answersHash } = p
  return new Hasher().hash(idHash).number(lastUsed).number(settledBelow).hash(answersHash.value).finish()
}

/**
 * The hash of a kind of row. The last one is kept: what a command puts into the tables is hashed once more in its answer,
 * and rows never change.
 */
function rowHash<Row extends object>(kind: string, into: (hasher: Hasher, row: Row) => Hasher): (row: Row) => Hash {
  let last: { readonly row: Row; readonly hash: Hash } | null = null
  return row => {
    if (last?.row === row) return last.hash
    last = { row, hash: into(new Hasher().text(kind), row).finish() }
    return last.hash
  }
}

/** By the hash of its row. */
function resultInto(hasher: Hasher, result: Result): Hasher {
  hasher.text(result.kind)
  switch (result.kind) {
    case 'session':
      return hasher
    case 'network':
      return hasher.hash(hashNetwork(result.network))
    case 'endpoint':
      return hasher.number(result.created ? 1 : 0).hash(hashEndpoint(result.endpoint))
    case 'endpoint-released':
      return hasher.hash(hashEndpoint(result.endpoint))
    case 'host':
      return hasher.hash(hashHost(result.host))
    case 'host-removed':
      return hasher.number(result.released).hash(hashHost(result.host))
    case 'namespace':
      return hasher.hash(hashNamespace(result.namespace))
    case 'service':
      return hasher.number(result.created ? 1 : 0).hash(hashService(result.service))
    case 'policy':
      return hasher.number(result.created ? 1 : 0).hash(hashPolicy(result.policy))
  }
}

export function networkInto(hasher: Hasher, network: Network): Hasher {
  hasher
    .text(network.name)
    .number(network.vni)
    .subnet(network.subnet)
    .ip(network.gateway)
    .settings(NETWORK_SETTING_NAMES, network)
    .optionalText(network.requestId)
  if (network.subnet6 !== undefined) hasher.subnet(network.subnet6)
  return network.wasIpv6 === true ? hasher.number(1) : hasher
}

export function endpointInto(hasher: Hasher, endpoint: Endpoint): Hasher {
  hasher
    .text(endpoint.network)
    .number(endpoint.vni)
    .text(endpoint.containerId)
    .text(endpoint.ifname)
    .text(endpoint.name)
    .text(endpoint.host)
    .ip(endpoint.address)
    .text(endpoint.mac)
    .settings(ENDPOINT_SETTING_NAMES, endpoint)
    .optionalText(endpoint.requestId)
  if (endpoint.address6 !== undefined) hasher.ip(endpoint.address6)
  if (endpoint.labels === undefined) return hasher
  hasher.text('labels')
  for (const [key, value] of Object.entries(endpoint.labels)) hasher.text(key).text(value)
  return hasher
}

export function hostInto(hasher: Hasher, host: Host): Hasher {
  return hasher.text(host.name).text(host.peerId).ip(host.vtep).text(host.role).text(host.bootId).text(host.version)
}

export function namespaceInto(hasher: Hasher, { name, network, grants }: Namespace): Hasher {
  hasher.text(name).text(network).number(grants.length)
  for (const grant of grants) hasher.text(grant)
  return hasher
}

export function serviceInto(hasher: Hasher, service: Service): Hasher {
  const { network, name, addresses, ports, affinitySeconds, select, backends, requestId } = service
  hasher.text(network).text(name).number(affinitySeconds).optionalText(requestId).number(addresses.length)
  for (const address of addresses) hasher.ip(address)
  hasher.number(ports.length)
  for (const { protocol, port, targetPort } of ports) hasher.text(protocol).number(port).number(targetPort)
  if (select !== undefined) hasher.text('select')
  for (const { key, value } of select ?? []) hasher.text(key).optionalText(value)
  if (backends !== undefined) hasher.text('backends')
  for (const { address, port = 0 } of backends ?? []) hasher.ip(address).number(port)
  return hasher
}

/** By its texts: different rules of one direction and action have different ones. */
export function policyInto(hasher: Hasher, { network, name, select, closes, rules, requestId }: Policy): Hasher {
  hasher.text(network).text(name).optionalText(requestId).text(formatRequirements(select)).text(closes.join())
  for (const rule of rules) hasher.text(rule.direction).text(rule.action).text(formatRule(rule))
  return hasher.number(rules.length)
}

/** murmur3's finalizer: every input bit affects every output bit. */
function spread(word: number): number {
  let h = word
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}
