// Validates a request before it enters the log. Every replica applies the entry, so a malformed request must be rejected
// here. The result is a new object with the known fields only.

import { BOTH_FAMILIES, FIRST_RULES, LABELS, RULES, type Command, type Request } from './command.ts'
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
import { whyNoPair } from './addresses.ts'
import { formatIp, formatSubnet, isIpv4, isTunnelAddress, parseSubnet, type Ip, type Subnet } from './ip.ts'
import { ip, ipv6 } from './ip-fields.ts'
import { isEmpty, parseLabelChanges, parseLabels, type LabelChanges } from './labels.ts'
import { parseMac } from './mac.ts'
import { checkRange, GRANTS_MAX, grantsOf } from './namespace.ts'
import { parsePolicyCommand } from './parse-policy.ts'
import { parseServiceCommand } from './parse-service.ts'
import { ENDPOINT_SETTINGS, NETWORK_SETTINGS, parseChanges, parseSettings } from './settings.ts'

/** @throws ERR_INVALID naming the field */
export function parseRequest(value: unknown): Request {
  const fields = asFields(value, 'request')
  const known = optional(fields, 'rules', rules)
  return {
    session: text(fields, 'session'),
    seq: wholeNumber(fields, 'seq'),
    settledBelow: wholeNumber(fields, 'settledBelow'),
    ...known,
    command: ofItsTime(parseCommand(fields['command']), known.rules ?? FIRST_RULES),
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
        ...subnets(f),
        ...optional(f, 'gateway', ip),
        ...optional(f, 'vni', (fields, key) => parseVni(wholeNumber(fields, key))),
        ...parseSettings(NETWORK_SETTINGS, f),
        ...optional(f, 'requestId', text)
      }
    case 'network-update':
      return {
        kind,
        name: parseNetworkName(text(f, 'name')),
        ...optional(f, 'addSubnet', (fields, key) => subnet(fields[key])),
        ...parseChanges(NETWORK_SETTINGS, f)
      }
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
        ...optional(f, 'address', ip),
        ...optional(f, 'address6', ipv6),
        ...optional(f, 'mac', (fields, key) => parseMac(text(fields, key))),
        ...parseSettings(ENDPOINT_SETTINGS, f),
        ...optional(f, 'requestId', text),
        ...labelled(f, parseLabels)
      }
    case 'endpoint-update':
      return {
        kind,
        containerId: parseContainerId(text(f, 'containerId')),
        ifname: parseIfName(text(f, 'ifname')),
        ...parseChanges(ENDPOINT_SETTINGS, f),
        ...labelled(f, parseLabelChanges)
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
      const range = { range: subnet(f['range'], 'range'), prefixLength: wholeNumber(f, 'prefixLength') }
      checkRange(range)
      return { kind, namespace: parseNamespaceName(text(f, 'namespace')), ...range }
    }
    case 'service-create':
    case 'service-update':
    case 'service-delete':
      return parseServiceCommand(kind, f)
    case 'policy-create':
    case 'policy-update':
    case 'policy-delete':
      return parsePolicyCommand(kind, f)
    default:
      throw invalid('kind', 'is not a command that this version knows')
  }
}

/**
 * Without the fields that versions ignore which know these rules and no newer ones: such versions may be in the cluster, and every
 * host must get the same state. A proposer refuses to send them (allocator/admission.ts).
 */
function ofItsTime(command: Command, rules: number): Command {
  const known = rules >= LABELS ? command : withoutLabels(command)
  return rules >= BOTH_FAMILIES ? known : withoutIpv6(known)
}

function withoutLabels(command: Command): Command {
  if (command.kind !== 'endpoint-attach' && command.kind !== 'endpoint-update') return command
  const { labels: _, ...rest } = command
  return rest
}

function withoutIpv6(command: Command): Command {
  if (command.kind === 'endpoint-attach' && command.address6 !== undefined) {
    const { address6: _, ...rest } = command
    return rest
  }
  if (command.kind === 'network-create') {
    const { subnet6: _, egressV6: __, ...rest } = command
    return rest
  }
  if (command.kind === 'network-update') {
    const { addSubnet: _, egressV6: __, ...rest } = command
    return rest
  }
  return command
}

/** No key at all without labels: such a command needs no newer rules. */
function labelled<L extends LabelChanges>(
  f: Fields,
  parse: (value: unknown, field: string) => L
): { readonly labels?: L } {
  const { labels } = optional(f, 'labels', (fields, key) => parse(fields[key], key))
  return labels === undefined || isEmpty(labels) ? {} : { labels }
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

function subnets(f: Fields): { readonly subnet: Subnet; readonly subnet6?: Subnet } {
  const first = subnet(f['subnet'])
  const { subnet6: second } = optional(f, 'subnet6', subnet6)
  const unfit = second === undefined ? null : whyNoPair(first, second)
  if (unfit !== null) throw invalid('subnet', unfit)
  return second === undefined ? { subnet: first } : { subnet: first, subnet6: second }
}

function subnet(value: unknown, field = 'subnet'): Subnet {
  const f = asFields(value, field)
  // By way of the text form, whose parser holds the rules for subnets.
  return parseSubnet(formatSubnet({ base: ip(f, 'base'), prefixLength: wholeNumber(f, 'prefixLength') }))
}

function subnet6(f: Fields, key: string): Subnet {
  const parsed = subnet(f[key])
  if (isIpv4(parsed.base)) throw invalid('subnet', `${formatSubnet(parsed)} is not an IPv6 subnet`)
  return parsed
}

function vtep(f: Fields): Ip {
  const address = ip(f, 'vtep')
  if (!isTunnelAddress(address)) throw invalid('vtep', `must be a unicast address, got ${formatIp(address)}`)
  return address
}
