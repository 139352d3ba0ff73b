// Validates a request before it enters the log. Every replica applies the entry, so a malformed request must be rejected
// here. The result is a new object with the known fields only.

import { FIRST_RULES, RULES, type Command, type Request } from './command.ts'
import { invalid } from './errors.ts'
import { asFields, flag, optional, text, wholeNumber, type Fields } from './fields.ts'
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
import { formatIp, formatSubnet, isUnicast, parseSubnet, type Ip, type Subnet } from './ip.ts'
import type { Ipv4 } from './ipv4.ts'
import { parseMac } from './mac.ts'
import { checkRange, GRANTS_MAX, grantsOf } from './namespace.ts'
import { ENDPOINT_SETTINGS, NETWORK_SETTINGS, parseChanges, parseSettings } from './settings.ts'

/** @throws ERR_INVALID naming the field */
export function parseRequest(value: unknown): Request {
  const fields = asFields(value, 'request')
  return {
    session: text(fields, 'session'),
    seq: wholeNumber(fields, 'seq'),
    settledBelow: wholeNumber(fields, 'settledBelow'),
    ...optional(fields, 'rules', rules),
    command: parseCommand(fields['command']),
    ...optional(fields, 'by', (f, key) => parsePeerId(text(f, key), key))
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
        ...parseSettings(NETWORK_SETTINGS, f),
        ...optional(f, 'requestId', text)
      }
    case 'network-update':
      return { kind, name: parseNetworkName(text(f, 'name')), ...parseChanges(NETWORK_SETTINGS, f) }
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
        ...parseSettings(ENDPOINT_SETTINGS, f),
        ...optional(f, 'requestId', text)
      }
    case 'endpoint-update':
      return {
        kind,
        containerId: parseContainerId(text(f, 'containerId')),
        ifname: parseIfName(text(f, 'ifname')),
        ...parseChanges(ENDPOINT_SETTINGS, f)
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
      throw invalid('kind', 'is not a command that this version knows')
  }
}

function rules(fields: Fields, key: string): number {
  const number = wholeNumber(fields, key)
  if (number < FIRST_RULES || number > RULES) {
    throw invalid(key, `${number}: this version knows ${FIRST_RULES} to ${RULES}; upgrade this host`)
  }
  return number
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

/** In canonical form, so that equal rows have equal hashes. */
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
  // By way of the text form, whose parser holds the rules for subnets.
  return parseSubnet(formatSubnet({ base: ipv4(f, 'base'), prefixLength: wholeNumber(f, 'prefixLength') }))
}

function ipv4(f: Fields, key: string): Ip {
  const n = wholeNumber(f, key)
  if (n > 0xffffffff) throw invalid(key, 'must be an IPv4 address, a 32-bit number')
  return n as Ipv4
}

function vtep(f: Fields): Ip {
  const address = ipv4(f, 'vtep')
  if (!isUnicast(address)) throw invalid('vtep', `must be a unicast address, got ${formatIp(address)}`)
  return address
}
