// A service: an address of its own in a network, whose connections are spread over endpoints of that network, which labels
// choose or a list names (docs/adr/0064). Pure.

import { compareIp, familyOf, formatIp, isIpv4, parseIp, type Ip } from './ip.ts'
import { invalid } from './errors.ts'
import { quote, type NetworkName, type ServiceName } from './ids.ts'
import { checkKey, checkValue, type Selector, type SelectorTerm } from './labels.ts'

export const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const
export type Protocol = (typeof PROTOCOLS)[number]

export type ServicePort = {
  readonly protocol: Protocol
  readonly port: number
  /** Of the backends. */
  readonly targetPort: number
}

export type Backend = {
  /** In one of the network's subnets. Nothing is sent to it while no endpoint has it. */
  readonly address: Ip
  /** Instead of the target port of a service with one port. */
  readonly port?: number
}

/** It has either `select` or `backends`. */
export type Service = {
  readonly network: NetworkName
  /** Unique in its network. */
  readonly name: ServiceName
  /** One of each family at most, the IPv4 one first; none: a headless service, which is known by its name alone. */
  readonly addresses: readonly Ip[]
  /** By protocol and port, ascending. */
  readonly ports: readonly ServicePort[]
  /** How long a client keeps its backend, in seconds; 0: as long as a connection lasts. */
  readonly affinitySeconds: number
  /** By key, ascending. */
  readonly select?: Selector
  /** By address and port, ascending. */
  readonly backends?: readonly Backend[]
  /** The caller’s idempotency key, if it gave one. */
  readonly requestId?: string
}

/** Most ports of one service. */
export const MAX_SERVICE_PORTS = 16
/** Most backends of one service: fixed ones, and of those that a selector chooses, which get no connections beyond it. */
export const MAX_BACKENDS = 250
/** Most terms of its selector. */
export const MAX_SELECT_TERMS = 16
/** A day. */
export const MAX_AFFINITY_SECONDS = 86_400
const MAX_PORT = 65_535

/** Ports in canonical form: equal ones have equal forms in every snapshot and hash. @throws ERR_INVALID naming the field */
export function asPorts(ports: readonly ServicePort[], field = 'ports'): readonly ServicePort[] {
  if (ports.length > MAX_SERVICE_PORTS) throw invalid(field, `${ports.length}, and ${MAX_SERVICE_PORTS} are the most`)
  const sorted = ports.toSorted((a, b) => compareText(a.protocol, b.protocol) || a.port - b.port)
  const twice = sorted.find((one, at) => sorted[at + 1]?.port === one.port && sorted[at + 1]?.protocol === one.protocol)
  if (twice !== undefined) throw invalid(field, `${twice.port}/${twice.protocol} is given twice`)
  return sorted
}

/** Backends in canonical form, each once. @throws ERR_INVALID naming the field */
export function asBackends(backends: readonly Backend[], field = 'backends'): readonly Backend[] {
  const sorted = backends.toSorted((a, b) => compareIp(a.address, b.address) || (a.port ?? 0) - (b.port ?? 0))
  const isSame = (a: Backend, b: Backend | undefined): boolean => a.address === b?.address && a.port === b.port
  const all = sorted.filter((one, at) => !isSame(one, sorted[at - 1]))
  if (all.length > MAX_BACKENDS) throw invalid(field, `${all.length} backends, and ${MAX_BACKENDS} are the most`)
  return all
}

/** A selector in canonical form. One that chooses every endpoint is refused. @throws ERR_INVALID naming the field */
export function asSelect(terms: Selector, field = 'select'): Selector {
  if (terms.length === 0) throw invalid(field, 'must have a term: KEY=VALUE, or KEY')
  if (terms.length > MAX_SELECT_TERMS)
    throw invalid(field, `${terms.length} terms, and ${MAX_SELECT_TERMS} are the most`)
  const sorted = terms.toSorted((a, b) => compareText(a.key, b.key))
  const twice = sorted.find(({ key }, at) => sorted[at + 1]?.key === key)
  if (twice !== undefined) throw invalid(field, `${quote(twice.key)} is given twice`)
  return sorted
}

/** Addresses in canonical form. @throws ERR_INVALID naming the field unless they are one, or one of each family */
export function asServiceAddresses(given: readonly Ip[], field = 'addresses'): readonly Ip[] {
  const sorted = given.toSorted(compareIp)
  const families = new Set(sorted.map(familyOf))
  if (sorted.length === 0 || families.size < sorted.length) throw invalid(field, 'must be one, or one of each family')
  return sorted
}

/** @throws ERR_INVALID naming the field */
export function checkPort(value: unknown, field: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_PORT) return value
  throw invalid(field, `a port must be a whole number from 1 to ${MAX_PORT}, got ${quote(value)}`)
}

/** @throws ERR_INVALID naming the field */
export function checkProtocol(value: unknown, field: string): Protocol {
  const known = PROTOCOLS.find(protocol => protocol === value)
  if (known === undefined) throw invalid(field, `the protocol must be ${PROTOCOLS.join(', ')}, got ${quote(value)}`)
  return known
}

/** @throws ERR_INVALID naming the field */
export function checkAffinity(seconds: number, field = 'affinitySeconds'): number {
  if (Number.isInteger(seconds) && seconds >= 0 && seconds <= MAX_AFFINITY_SECONDS) return seconds
  throw invalid(field, `must be 0 to ${MAX_AFFINITY_SECONDS} seconds, got ${quote(seconds)}`)
}

/** @throws ERR_INVALID naming the field */
export function checkTerm(
  { key, value }: { readonly key: string; readonly value?: unknown },
  field: string
): SelectorTerm {
  const known = checkKey(key, field)
  return value === undefined ? { key: known } : { key: known, value: checkValue(value, field) }
}

const PORT_TEXT = /^([0-9]{1,5})(?::([0-9]{1,5}))?(?:\/([a-z]{1,8}))?$/

/** `80`, `80:8080`, `53/udp`, `80:8080/tcp`: the same target port and TCP where it says nothing. @throws ERR_INVALID naming the field */
export function parsePortText(text: string, field = 'ports'): ServicePort {
  const [, port, targetPort = port, protocol = 'tcp'] = PORT_TEXT.exec(text) ?? []
  if (port === undefined) throw invalid(field, `must be PORT[:TARGET][/PROTOCOL], got ${quote(text)}`)
  return {
    protocol: checkProtocol(protocol, field),
    port: checkPort(Number(port), field),
    targetPort: checkPort(Number(targetPort), field)
  }
}

/** As `parsePortText` reads it, in full. */
export function formatPort({ protocol, port, targetPort }: ServicePort): string {
  return `${port}:${targetPort}/${protocol}`
}

/** `10.1.0.5`, `10.1.0.5:80`, `fd00::5`, `[fd00::5]:80`. @throws ERR_INVALID naming the field */
export function parseBackendText(text: string, field = 'backends'): Backend {
  const [, six, sixPort] = /^\[([^\]]*)\](?::([0-9]{1,5}))?$/.exec(text) ?? []
  if (six !== undefined) return backend(parseIp(six, field), sixPort, field)
  const [, four, fourPort] = /^([0-9.]+):([0-9]{1,5})$/.exec(text) ?? []
  return backend(parseIp(four ?? text, field), fourPort, field)
}

/** As `parseBackendText` reads it. */
export function formatBackend({ address, port }: Backend): string {
  if (port === undefined) return formatIp(address)
  return isIpv4(address) ? `${formatIp(address)}:${port}` : `[${address}]:${port}`
}

function backend(address: Ip, port: string | undefined, field: string): Backend {
  return port === undefined ? { address } : { address, port: checkPort(Number(port), field) }
}

export function isHeadless({ addresses }: Pick<Service, 'addresses'>): boolean {
  return addresses.length === 0
}

/** Why a service cannot be as this row says, each field of which is valid; null if it can. */
export function whyUnfit({
  addresses,
  ports,
  backends = []
}: Pick<Service, 'addresses' | 'ports' | 'backends'>): { readonly field: string; readonly why: string } | null {
  if (ports.length === 0 && addresses.length > 0)
    return { field: 'ports', why: 'must have a port, unless it is headless' }
  if (ports.length !== 1 && backends.some(({ port }) => port !== undefined))
    return { field: 'backends', why: 'may have ports of their own where the service has one port' }
  const sctp = ports.filter(({ protocol }) => protocol === 'sctp')
  if (sctp.some(({ port, targetPort }) => port !== targetPort))
    return { field: 'ports', why: 'of SCTP cannot be changed on the way: the target port must be the same' }
  if (sctp.some(one => backends.some(({ port = one.port }) => port !== one.port)))
    return { field: 'backends', why: 'of a service over SCTP have its port' }
  return null
}

function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1
}
