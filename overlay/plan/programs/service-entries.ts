// The services of a network as the programs have them: a table of slots for each of their ports, and its backends. Pure.

import { formatIp, isIpv4, subnetContains, type Ip, type Subnet } from '#model/ip.ts'
import type { Vni } from '#model/ids.ts'
import { bytesOfIpv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import { writeMac } from './entries.ts'
import { BACKENDS_MAX, maglev } from '../services/maglev.ts'
import type { Protocol } from '#model/service.ts'
import type { DesiredBackend, DesiredService } from '../services/service.ts'
import { textOf, type Key, type Value } from './tables.ts'

/** What services' addresses resolve to: see programs/services.h. */
export const SERVICE_MAC = '0e:76:78:00:00:01' as Mac

/** The numbers that IP has for them. */
export const PROTOCOLS: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 }

/** Of the keys of services and backends, of a service's value and of a backend's. */
export const SERVICE_KEY_BYTES = 24
export const SERVICE_BYTES = 1_028
export const BACKEND_BYTES = 24
const CHOICES_OF_PART = 1_024
const [SLOTS_AT, BY_CLIENT_AT, CHOICES_AT] = [0, 2, 4]

/** What a port of a network with such services has to know: see programs/maps.h. */
export type ServiceUse = 'none' | 'inside' | 'beyond'

/** What includes both. */
export function widerUse(one: ServiceUse, other: ServiceUse): ServiceUse {
  const uses = [one, other]
  return uses.includes('beyond') ? 'beyond' : uses.includes('inside') ? 'inside' : 'none'
}

export type ServiceEntries = {
  /** By the bytes of their keys, as text; values likewise. */
  readonly services: ReadonlyMap<Key, Value>
  readonly backends: ReadonlyMap<Key, Value>
  /** Those that containers ask for as neighbours. */
  readonly addresses: readonly Ip[]
  readonly use: ServiceUse
}

export type ServicesInput = {
  readonly vni: Vni
  readonly services: readonly DesiredService[]
  readonly subnets: readonly Subnet[]
  /** The MAC that an address is reached by, the router's if it is outside; undefined: not at all. */
  readonly macOf: (address: Ip) => Mac | undefined
}

const NONE: ServiceEntries = { services: new Map(), backends: new Map(), addresses: [], use: 'none' }

/** O(slots of all ports) when backends have changed. */
export function serviceEntries({ vni, services: wanted, subnets, macOf }: ServicesInput): ServiceEntries {
  if (wanted.length === 0) return NONE
  const [services, backends] = [new Map<Key, Value>(), new Map<Key, Value>()]
  for (const { address, ports, affinitySeconds } of wanted) {
    for (const { protocol, port, backends: all } of ports) {
      const key = new ServiceKey({ vni, address, port, protocol })
      const reached = all
        // The programs cannot sum SCTP's checksum, so its port cannot change.
        .filter(
          backend => isIpv4(backend.address) === isIpv4(address) && (protocol !== 'sctp' || backend.port === port)
        )
        .flatMap(backend => {
          const mac = macOf(backend.address)
          return mac === undefined ? [] : [{ identity: `${formatIp(backend.address)} ${backend.port}`, backend, mac }]
        })
        .sort((a, b) => (a.identity < b.identity ? -1 : 1))
        .filter(({ identity }, i, sorted) => identity !== sorted[i - 1]?.identity)
        .slice(0, BACKENDS_MAX)
      for (const [place, { backend, mac }] of reached.entries())
        backends.set(key.part(place), backendValue(backend, mac))
      const parts = partsOf(
        reached.map(({ identity }) => identity),
        affinitySeconds > 0
      )
      // The first part, which says how many slots there are, is written last.
      for (const [i, value] of [...parts.entries()].reverse()) services.set(key.part(i), value)
    }
  }
  const isInside = (address: Ip): boolean => subnets.some(subnet => subnetContains(subnet, address))
  const all = wanted.map(({ address }) => address)
  const addresses = all.filter(isInside)
  return { services, backends, addresses, use: addresses.length === all.length ? 'inside' : 'beyond' }
}

/** The key of a port of a service, with the part of its table or the place of its backend. */
class ServiceKey {
  readonly #bytes = new Uint8Array(SERVICE_KEY_BYTES)

  constructor(p: { vni: Vni; address: Ip; port: number; protocol: Protocol }) {
    const view = new DataView(this.#bytes.buffer)
    view.setUint32(0, p.vni, true)
    writeMapped(this.#bytes, 4, p.address)
    view.setUint16(20, p.port)
    view.setUint8(22, PROTOCOLS[p.protocol])
  }

  part(part: number): string {
    this.#bytes[SERVICE_KEY_BYTES - 1] = part
    return textOf(this.#bytes)
  }
}

/** IPv4 as ::ffff:a.b.c.d. */
export function writeMapped(into: Uint8Array, at: number, address: Ip): void {
  if (!isIpv4(address)) {
    into.set(bytesOfIpv6(address), at)
    return
  }
  into.set([0xff, 0xff], at + 10)
  new DataView(into.buffer, into.byteOffset).setUint32(at + 12, address)
}

function backendValue({ address, port }: DesiredBackend, mac: Mac): string {
  const bytes = new Uint8Array(BACKEND_BYTES)
  const view = new DataView(bytes.buffer)
  writeMapped(bytes, 0, address)
  view.setUint16(16, port)
  writeMac(view, 18, mac)
  return textOf(bytes)
}

/** Tables that were computed, by what they follow from: passes ask for the same ones again and again. */
const computed = new Map<string, readonly string[]>()
const COMPUTED_MAX = 4_096

/** The values of the parts of a table. */
function partsOf(backends: readonly string[], byClient: boolean): readonly string[] {
  const name = `${byClient} ${backends.join()}`
  const known = computed.get(name)
  if (known !== undefined) return known
  const slots = maglev(backends)
  const parts = Array.from({ length: Math.max(1, Math.ceil(slots.length / CHOICES_OF_PART)) }, (_, i) => {
    const bytes = new Uint8Array(SERVICE_BYTES)
    const view = new DataView(bytes.buffer)
    view.setUint16(SLOTS_AT, slots.length, true)
    view.setUint16(BY_CLIENT_AT, Number(byClient), true)
    bytes.set(slots.subarray(i * CHOICES_OF_PART, (i + 1) * CHOICES_OF_PART), CHOICES_AT)
    return textOf(bytes)
  })
  if (computed.size >= COMPUTED_MAX) computed.clear()
  computed.set(name, parts)
  return parts
}
