// Checks a request that came from another host before it may enter the log: an entry is applied by every replica, so
// what is malformed must be stopped here. Returns a fresh object with the known fields only.

import type { Command, Request } from './command.ts'
import { invalid } from './errors.ts'
import type { Host, Role } from './host.ts'
import {
  parseContainerId,
  parseHostName,
  parseIfName,
  parseNamespaceName,
  parseNetworkName,
  parsePeerId,
  parseVni,
  type NetworkName
} from './ids.ts'
import { formatIpv4, formatSubnet, isUnicast, parseSubnet, type Ipv4, type Subnet } from './ipv4.ts'
import { parseMac } from './mac.ts'
import { checkRange, GRANTS_MAX, grantsOf } from './namespace.ts'
import { MTU_MAX, MTU_MIN } from './network.ts'
import { checkDelay, checkRate } from './quantity.ts'

type Fields = Readonly<Record<string, unknown>>

/** Longest free text in a command: a container's display name, a version, a boot id, an idempotency key. */
export const MAX_TEXT = 256

/** @throws ERR_INVALID naming the field */
export function parseRequest(value: unknown): Request {
  const fields = asFields(value, 'request')
  return {
    session: text(fields, 'session'),
    seq: wholeNumber(fields, 'seq'),
    settledBelow: wholeNumber(fields, 'settledBelow'),
    command: parseCommand(fields['command'])
  }
}

/** @throws ERR_INVALID naming the field */
export function parseCommand(value: unknown): Command {
  const f = asFields(value, 'command')
  const kind = f['kind'] as Command['kind']
  switch (kind) {
    case 'session-open':
      return { kind }
    case 'network-create':
      return {
        kind,
        name: parseNetworkName(text(f, 'name')),
        subnet: subnet(f['subnet']),
        ...optional(f, 'gateway', ipv4),
        ...optional(f, 'vni', (fields, key) => parseVni(wholeNumber(fields, key))),
        egressRate: rate(f, 'egressRate'),
        mtu: mtu(f),
        egress: flag(f, 'egress'),
        hostAccess: flag(f, 'hostAccess'),
        ...optional(f, 'requestId', text)
      }
    case 'network-update':
      return { kind, name: parseNetworkName(text(f, 'name')), ...optional(f, 'egressRate', rate) }
    case 'network-delete':
      return { kind, name: parseNetworkName(text(f, 'name')), force: flag(f, 'force') }
    case 'endpoint-attach':
      return {
        kind,
        network: parseNetworkName(text(f, 'network'), 'network'),
        containerId: parseContainerId(text(f, 'containerId')),
        ifname: parseIfName(text(f, 'ifname')),
        name: text(f, 'name'),
        host: parsePeerId(text(f, 'host'), 'host'),
        ...optional(f, 'address', ipv4),
        ...optional(f, 'mac', (fields, key) => parseMac(text(fields, key))),
        ingressRate: rate(f, 'ingressRate'),
        egressRate: rate(f, 'egressRate'),
        delayUs: delay(f, 'delayUs'),
        ...optional(f, 'requestId', text)
      }
    case 'endpoint-update':
      return {
        kind,
        containerId: parseContainerId(text(f, 'containerId')),
        ifname: parseIfName(text(f, 'ifname')),
        ...optional(f, 'ingressRate', rate),
        ...optional(f, 'egressRate', rate),
        ...optional(f, 'delayUs', delay)
      }
    case 'endpoint-detach':
      return { kind, containerId: parseContainerId(text(f, 'containerId')), ifname: parseIfName(text(f, 'ifname')) }
    case 'host-register':
      return { kind, host: host(f['host']) }
    case 'host-remove':
      return { kind, name: parseHostName(text(f, 'name')) }
    case 'namespace-map': {
      const network = parseNetworkName(text(f, 'network'), 'network')
      return { kind, namespace: parseNamespaceName(text(f, 'namespace')), network, grants: grants(f, network) }
    }
    case 'namespace-unmap':
      return { kind, namespace: parseNamespaceName(text(f, 'namespace')) }
    case 'namespace-open': {
      const range = { range: subnet(f['range']), prefixLength: wholeNumber(f, 'prefixLength') }
      checkRange(range)
      return { kind, namespace: parseNamespaceName(text(f, 'namespace')), ...range }
    }
    default:
      throw invalid('kind', 'is no command that this version knows')
  }
}

function host(value: unknown): Host {
  const f = asFields(value, 'host')
  const role = f['role']
  if (role !== 'server' && role !== 'client') throw invalid('role', 'must be server or client')
  return {
    name: parseHostName(text(f, 'name')),
    peerId: parsePeerId(text(f, 'peerId')),
    vtep: vtep(f),
    role: role satisfies Role,
    bootId: text(f, 'bootId'),
    version: text(f, 'version')
  }
}

/** As they are kept, so that equal rows hash alike. */
function grants(f: Fields, network: NetworkName): readonly NetworkName[] {
  const list = f['grants']
  if (!Array.isArray(list) || list.length > GRANTS_MAX)
    throw invalid('grants', `must be at most ${GRANTS_MAX} networks`)
  return grantsOf(
    network,
    list.map((name: unknown) => parseNetworkName(name as string, 'grants'))
  )
}

function subnet(value: unknown): Subnet {
  const f = asFields(value, 'subnet')
  // Through the text form, so that the rules for subnets stand in one place.
  return parseSubnet(formatSubnet({ base: ipv4(f, 'base'), prefixLength: wholeNumber(f, 'prefixLength') }))
}

function ipv4(f: Fields, key: string): Ipv4 {
  const n = wholeNumber(f, key)
  if (n > 0xffffffff) throw invalid(key, 'must be an IPv4 address, a 32-bit number')
  return n as Ipv4
}

function vtep(f: Fields): Ipv4 {
  const address = ipv4(f, 'vtep')
  if (!isUnicast(address)) throw invalid('vtep', `must be the address of one host, got ${formatIpv4(address)}`)
  return address
}

function mtu(f: Fields): number {
  const n = wholeNumber(f, 'mtu')
  if (n !== 0 && (n < MTU_MIN || n > MTU_MAX)) throw invalid('mtu', `must be 0 (auto) or ${MTU_MIN} to ${MTU_MAX}`)
  return n
}

function rate(f: Fields, key: string): number {
  return checkRate(wholeNumber(f, key), key)
}

function delay(f: Fields, key: string): number {
  return checkDelay(wholeNumber(f, key), key)
}

function optional<K extends string, T>(
  f: Fields,
  key: K,
  parse: (fields: Fields, key: string) => T
): Readonly<Partial<Record<K, T>>> {
  return (f[key] === undefined || f[key] === null ? {} : { [key]: parse(f, key) }) as Readonly<Partial<Record<K, T>>>
}

function wholeNumber(f: Fields, key: string): number {
  const n = f[key]
  if (typeof n !== 'number' || !Number.isSafeInteger(n) || n < 0) throw invalid(key, 'must be a whole number')
  return n
}

function text(f: Fields, key: string): string {
  const value = f[key]
  if (typeof value !== 'string' || value.length > MAX_TEXT) {
    throw invalid(key, `must be text of at most ${MAX_TEXT} characters`)
  }
  return value
}

function flag(f: Fields, key: string): boolean {
  const value = f[key]
  if (typeof value !== 'boolean') throw invalid(key, 'must be true or false')
  return value
}

function asFields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(what, 'must be an object')
  return value as Fields
}
