// Hashes of rows in two 32-bit lanes (multiply and rotate, after FNV-1a; murmur3's finalizer), and their sum over a set.
// The sum does not depend on order, so a change costs one row. It detects replicas that diverge by a bug; it is no
// defence against a malicious one.

import { ipv4Of } from '#model/ip.ts'
import type { Outcome, Result } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import { ENDPOINT_SETTING_NAMES, NETWORK_SETTING_NAMES } from '#model/settings.ts'

export type Hash = { readonly a: number; readonly b: number }

export class Hasher {
  #a = 0x811c9dc5
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
    for (let at = 0; at < value.length; at++) this.#mix(value.charCodeAt(at))
    return this
  }

  optionalText(value: string | undefined): this {
    this.#mix(value === undefined ? 0 : 1)
    return value === undefined ? this : this.text(value)
  }

  /** Numbers one by one, then all flags as the bits of one number. */
  settings<Name extends string>(names: readonly Name[], row: Readonly<Record<Name, number | boolean>>): this {
    let flags = 0
    let bit = 1
    for (const name of names) {
      const value = row[name]
      if (typeof value === 'number') {
        this.number(value)
        continue
      }
      if (value) flags += bit
      bit *= 2
    }
    return bit === 1 ? this : this.number(flags)
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

/** The sum of the hashes of a set's rows, modulo 2^32 per lane. */
export class SetHash {
  #a = 0
  #b = 0

  add({ a, b }: Hash): void {
    this.#a = (this.#a + a) >>> 0
    this.#b = (this.#b + b) >>> 0
  }

  remove({ a, b }: Hash): void {
    this.#a = (this.#a - a) >>> 0
    this.#b = (this.#b - b) >>> 0
  }

  get value(): Hash {
    return { a: this.#a, b: this.#b }
  }
}

export function hashNetwork(network: Network): Hash {
  return networkInto(new Hasher().text('network'), network).finish()
}

export function hashEndpoint(endpoint: Endpoint): Hash {
  return endpointInto(new Hasher().text('endpoint'), endpoint).finish()
}

export function hashHost(host: Host): Hash {
  return hostInto(new Hasher().text('host'), host).finish()
}

export function hashNamespace(namespace: Namespace): Hash {
  return namespaceInto(new Hasher().text('namespace'), namespace).finish()
}

/** An answer that a session remembers. */
export function hashAnswer(seq: number, outcome: Outcome): Hash {
  const hasher = new Hasher().text('answer').number(seq)
  if (outcome.ok) return resultInto(hasher, outcome.result).finish()
  const { code, message, field } = outcome.error
  return hasher.text(code).text(message).optionalText(field).finish()
}

function resultInto(hasher: Hasher, result: Result): Hasher {
  hasher.text(result.kind)
  switch (result.kind) {
    case 'session':
      return hasher
    case 'network':
      return networkInto(hasher, result.network)
    case 'endpoint':
      return endpointInto(hasher.number(result.created ? 1 : 0), result.endpoint)
    case 'endpoint-released':
      return endpointInto(hasher, result.endpoint)
    case 'host':
      return hostInto(hasher, result.host)
    case 'host-removed':
      return hostInto(hasher.number(result.released), result.host)
    case 'namespace':
      return namespaceInto(hasher, result.namespace)
  }
}

function networkInto(hasher: Hasher, network: Network): Hasher {
  return hasher
    .text(network.name)
    .number(network.vni)
    .number(ipv4Of(network.subnet.base))
    .number(network.subnet.prefixLength)
    .number(ipv4Of(network.gateway))
    .settings(NETWORK_SETTING_NAMES, network)
    .optionalText(network.requestId)
}

function endpointInto(hasher: Hasher, endpoint: Endpoint): Hasher {
  return hasher
    .text(endpoint.network)
    .number(endpoint.vni)
    .text(endpoint.containerId)
    .text(endpoint.ifname)
    .text(endpoint.name)
    .text(endpoint.host)
    .number(ipv4Of(endpoint.address))
    .text(endpoint.mac)
    .settings(ENDPOINT_SETTING_NAMES, endpoint)
    .optionalText(endpoint.requestId)
}

function hostInto(hasher: Hasher, host: Host): Hasher {
  return hasher
    .text(host.name)
    .text(host.peerId)
    .number(ipv4Of(host.vtep))
    .text(host.role)
    .text(host.bootId)
    .text(host.version)
}

function namespaceInto(hasher: Hasher, { name, network, grants }: Namespace): Hasher {
  hasher.text(name).text(network).number(grants.length)
  for (const grant of grants) hasher.text(grant)
  return hasher
}

/** murmur3's finalizer: every input bit affects every output bit. */
function spread(word: number): number {
  let h = word
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
