// A policy: which traffic the endpoints that it selects may receive and send (docs/adr/0067). Pure.
//
// Of the rules that hold for a packet, the one with the highest priority decides, and of equal ones a deny. Where none holds, the
// packet is denied if a policy closes that direction for the endpoint, and otherwise allowed.

import { invalid } from './errors.ts'
import { asFields, optional, type Fields } from './fields.ts'
import { quote, type NetworkName, type PolicyName } from './ids.ts'
import { formatSubnet, parsePrefix, subnetContains, type Ip, type Subnet } from './ip.ts'
import { parseRequirements, type Requirements } from './requirement.ts'

export const DIRECTIONS = ['ingress', 'egress'] as const
export type Direction = (typeof DIRECTIONS)[number]

export const ACTIONS = ['allow', 'deny'] as const
export type Action = (typeof ACTIONS)[number]

export const POLICY_PROTOCOLS = ['tcp', 'udp', 'sctp', 'icmp'] as const
/** `icmp` is ICMP in IPv4 and ICMPv6 in IPv6. */
export type PolicyProtocol = (typeof POLICY_PROTOCOLS)[number]

export type Policy = PolicySpec & {
  readonly network: NetworkName
  /** Unique in its network. */
  readonly name: PolicyName
  /** The caller’s idempotency key, if it gave one. */
  readonly requestId?: string
}

export type PolicySpec = {
  /** The endpoints of the network that it is for. */
  readonly select: Requirements
  /** In these directions they have only what a rule allows. */
  readonly closes: readonly Direction[]
  readonly rules: readonly PolicyRule[]
}

export type PolicyRule = {
  readonly direction: Direction
  readonly action: Action
  /** 0 to MAX_PRIORITY. A higher one is decided first. */
  readonly priority: number
  /** Where a packet comes from, or goes to; none: anywhere. */
  readonly peers: readonly Peer[]
  /** Of the packet's destination; none: every protocol, also those that have no ports. */
  readonly ports: readonly PortRange[]
}

export type Peer = LabelPeer | CidrPeer
/** Endpoints of the same network. */
export type LabelPeer = { readonly select: Requirements }
/** Addresses, whether endpoints have them or not. */
export type CidrPeer = { readonly cidr: Subnet; readonly except: readonly Subnet[] }

/** Both ends included: ports, or of `icmp` types. */
export type PortRange = { readonly protocol: PolicyProtocol; readonly first: number; readonly last: number }

export const MAX_PRIORITY = 1_000
export const MAX_RULES = 64
/** Of one rule. */
export const MAX_PEERS = 64
/** Of one CIDR. */
export const MAX_EXCEPTIONS = 32
/** Of one rule. */
export const MAX_PORT_RANGES = 32
/** Of a policy as JSON, without its names. The rest of an entry in the log has about 500. */
export const MAX_POLICY_BYTES = 16_384

/** The last port, or type, that there is. */
export const LAST_PORT: Readonly<Record<PolicyProtocol, number>> = { tcp: 65_535, udp: 65_535, sctp: 65_535, icmp: 255 }

export function isLabelPeer(peer: Peer): peer is LabelPeer {
  return 'select' in peer
}

/** A policy's own fields, as commands have them. @throws ERR_INVALID naming the field */
export function parsePolicySpec(f: Fields): PolicySpec {
  const rules = parseRules(f['rules'], 'rules')
  const closes = f['closes'] === undefined ? closedBy(rules) : parseCloses(f['closes'], 'closes')
  const spec = { select: parseRequirements(f['select'], 'select'), closes, rules }
  const large = whyTooLarge(spec)
  if (large !== null) throw invalid('rules', large)
  return spec
}

/** What an update gives. It may be too large with what stays. @throws ERR_INVALID naming the field */
export function parsePolicyChanges(f: Fields): Partial<PolicySpec> {
  return {
    ...optional(f, 'select', (fields, key) => parseRequirements(fields[key], key)),
    ...optional(f, 'closes', (fields, key) => parseCloses(fields[key], key)),
    ...optional(f, 'rules', (fields, key) => parseRules(fields[key], key))
  }
}

/** Why a policy cannot be as large as this one, each field of which is valid; null if it can. */
export function whyTooLarge({ select, closes, rules }: PolicySpec): string | null {
  const bytes = JSON.stringify({ select, closes, rules }).length
  return bytes <= MAX_POLICY_BYTES ? null : `the policy has ${bytes} bytes, and ${MAX_POLICY_BYTES} are the most`
}

/** What a policy closes if it does not say so: the directions in which it allows something; ingress if it has no rule at all. */
export function closedBy(rules: readonly PolicyRule[]): readonly Direction[] {
  if (rules.length === 0) return ['ingress']
  return DIRECTIONS.filter(each => rules.some(({ direction, action }) => direction === each && action === 'allow'))
}

/** @throws ERR_INVALID naming the field */
export function checkPriority(value: unknown, field: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_PRIORITY) return value
  throw invalid(field, `must be a whole number from 0 to ${MAX_PRIORITY}, got ${quote(value)}`)
}

/** @throws ERR_INVALID naming the field */
export function checkPortRange({ protocol, first, last }: PortRange, field: string): PortRange {
  const most = LAST_PORT[protocol]
  if (![first, last].every(each => Number.isInteger(each) && each >= 0 && each <= most))
    throw invalid(field, `${protocol === 'icmp' ? 'a type of icmp' : 'a port'} must be from 0 to ${most}`)
  if (first > last) throw invalid(field, `${first}-${last} has its ends the wrong way round`)
  return { protocol, first, last }
}

/** @throws ERR_INVALID naming the field */
export function checkCidr({ cidr, except }: CidrPeer, field: string): CidrPeer {
  if (except.length > MAX_EXCEPTIONS) throw invalid(field, `a CIDR may have at most ${MAX_EXCEPTIONS} exceptions`)
  const outside = except.find(
    ({ base, prefixLength }) => prefixLength <= cidr.prefixLength || !subnetContains(cidr, base)
  )
  if (outside === undefined) return { cidr, except }
  throw invalid(field, `${formatSubnet(outside)} is no part of ${formatSubnet(cidr)}`)
}

function parseCloses(value: unknown, field: string): readonly Direction[] {
  const given = list(value, { field, max: DIRECTIONS.length }, (each, place) => oneOf(each, DIRECTIONS, place))
  return DIRECTIONS.filter(each => given.includes(each))
}

function parseRules(value: unknown, field: string): readonly PolicyRule[] {
  return list(value, { field, max: MAX_RULES }, parseRule)
}

function parseRule(value: unknown, field: string): PolicyRule {
  const f = asFields(value, field)
  return {
    direction: oneOf(f['direction'], DIRECTIONS, `${field}.direction`),
    action: oneOf(f['action'], ACTIONS, `${field}.action`),
    priority: checkPriority(f['priority'], `${field}.priority`),
    peers: list(f['peers'], { field: `${field}.peers`, max: MAX_PEERS }, parsePeer),
    ports: list(f['ports'], { field: `${field}.ports`, max: MAX_PORT_RANGES }, parsePortRange)
  }
}

function parsePeer(value: unknown, field: string): Peer {
  const f = asFields(value, field)
  if (f['select'] !== undefined) return { select: parseRequirements(f['select'], `${field}.select`) }
  const cidr = parseCidr(f['cidr'], `${field}.cidr`)
  const exceptions = { field: `${field}.except`, max: MAX_EXCEPTIONS }
  return checkCidr({ cidr, except: list(f['except'], exceptions, parseCidr) }, exceptions.field)
}

function parseCidr(value: unknown, field: string): Subnet {
  const { base, prefixLength } = asFields(value, field)
  const isBase = typeof base === 'string' || (Number.isInteger(base) && Number(base) >= 0 && Number(base) <= 0xffffffff)
  if (!isBase || typeof prefixLength !== 'number') throw invalid(field, 'must have a base and a prefixLength')
  // By way of the text form, whose parser holds the rules for prefixes.
  return parsePrefix(formatSubnet({ base: base as Ip, prefixLength }), field)
}

function parsePortRange(value: unknown, field: string): PortRange {
  const { protocol, first, last } = asFields(value, field)
  const range = { protocol: oneOf(protocol, POLICY_PROTOCOLS, field), first: Number(first), last: Number(last) }
  if (typeof first !== 'number' || typeof last !== 'number') throw invalid(field, 'must have a first and a last number')
  return checkPortRange(range, field)
}

/** Each element has its place in its field. */
function list<T>(
  value: unknown,
  { field, max }: { readonly field: string; readonly max: number },
  parse: (value: unknown, field: string) => T
): readonly T[] {
  if (!Array.isArray(value) || value.length > max) throw invalid(field, `must be a list of at most ${max}`)
  return value.map((each: unknown, at) => parse(each, `${field}[${at}]`))
}

function oneOf<T extends string>(value: unknown, known: readonly T[], field: string): T {
  const found = known.find(each => each === value)
  if (found === undefined) throw invalid(field, `must be ${known.join(' or ')}, got ${quote(value)}`)
  return found
}
