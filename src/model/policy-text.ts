// The text form of a policy's rules, for the command line and for answers to people (docs/adr/0067):
//
//   from=tier=app,port=5432/tcp          to=cidr:10.0.0.0/8,except=10.1.0.0/16,port=53/udp,port=53/tcp
//   from=tier=app+!canary,from=*         port=8000-8999/tcp,priority=10          any
//
// Pure.

import { invalid } from './errors.ts'
import { quote } from './ids.ts'
import { formatSubnet, parsePrefix } from './ip.ts'
import {
  checkCidr,
  checkPortRange,
  checkPriority,
  isLabelPeer,
  LAST_PORT,
  MAX_PEERS,
  MAX_PORT_RANGES,
  POLICY_PROTOCOLS,
  type Action,
  type Direction,
  type Peer,
  type PolicyProtocol,
  type PolicyRule,
  type PortRange
} from './policy.ts'
import { formatRequirements, parseRequirementsText } from './requirement.ts'

/** A rule without peers, ports and priority. */
const ANY = 'any'
/** No key of a label has a colon. */
const CIDR = 'cidr:'
/** Echo requests in ICMP (RFC 792) and in ICMPv6 (RFC 4443). Their replies need no rule. */
const ECHO_TYPES = [8, 128]
const ECHO = 'echo/icmp'

const PEER_KEY: Readonly<Record<Direction, string>> = { ingress: 'from', egress: 'to' }

/** @throws ERR_INVALID naming the field */
export function parseRuleText(
  text: string,
  { direction, action, field }: { readonly direction: Direction; readonly action: Action; readonly field: string }
): PolicyRule {
  const peers: Peer[] = []
  const ports: PortRange[] = []
  let priority: number | null = null
  for (const part of text === ANY ? [] : text.split(',')) {
    const [key, value] = keyAndValue(part, field)
    if (key === PEER_KEY[direction]) peers.push(parsePeerText(value, field))
    else if (key === 'except') peers.push(withException(peers.pop(), value, field))
    else if (key === 'port') ports.push(...parsePortText(value, field))
    else if (key === 'priority' && priority === null) priority = parsePriorityText(value, field)
    else throw invalid(field, `${quote(part)} is no part of it: ${partsOf(direction)}`)
  }
  if (peers.length > MAX_PEERS) throw invalid(field, `a rule may have at most ${MAX_PEERS} peers`)
  if (ports.length > MAX_PORT_RANGES) throw invalid(field, `a rule may have at most ${MAX_PORT_RANGES} ports`)
  return { direction, action, priority: priority ?? 0, peers, ports }
}

/** The text that `parseRuleText` reads. */
export function formatRule({ direction, priority, peers, ports }: PolicyRule): string {
  const parts = [
    ...peers.map(peer => `${PEER_KEY[direction]}=${formatPeer(peer)}`),
    ...ports.map(range => `port=${formatPortRange(range)}`),
    ...(priority === 0 ? [] : [`priority=${priority}`])
  ]
  return parts.length === 0 ? ANY : parts.join(',')
}

/** Equal peers have equal texts. */
export function formatPeer(peer: Peer): string {
  if (isLabelPeer(peer)) return formatRequirements(peer.select)
  return [`${CIDR}${formatSubnet(peer.cidr)}`, ...peer.except.map(each => `except=${formatSubnet(each)}`)].join(',')
}

/** `5432/tcp`, `8000-8999/tcp`, `tcp`, `8/icmp`; `echo/icmp` is the type of either family. @throws ERR_INVALID naming the field */
export function parsePortText(text: string, field: string): readonly PortRange[] {
  if (text === ECHO) return ECHO_TYPES.map(type => ({ protocol: 'icmp', first: type, last: type }))
  const [, numbers, one, other, name] = /^(?:(([0-9]{1,5})(?:-([0-9]{1,5}))?)\/)?([a-z]+)$/.exec(text) ?? []
  const protocol = POLICY_PROTOCOLS.find(each => each === name)
  if (protocol === undefined)
    throw invalid(
      field,
      `a port must be like 5432/tcp, 8000-8999/udp or sctp, or a type like echo/icmp; names of ports are not known; got ${quote(text)}`
    )
  if (numbers === undefined) return [{ protocol, first: 0, last: LAST_PORT[protocol] }]
  return [checkPortRange({ protocol, first: Number(one), last: Number(other ?? one) }, field)]
}

export function formatPortRange({ protocol, first, last }: PortRange): string {
  if (first === last) return `${first}/${protocol}`
  return isWhole({ protocol, first, last }) ? protocol : `${first}-${last}/${protocol}`
}

function isWhole({ protocol, first, last }: { protocol: PolicyProtocol; first: number; last: number }): boolean {
  return first === 0 && last === LAST_PORT[protocol]
}

function parsePeerText(text: string, field: string): Peer {
  if (!text.startsWith(CIDR)) return { select: parseRequirementsText(text, field) }
  return { cidr: parsePrefix(text.slice(CIDR.length), field), except: [] }
}

function withException(peer: Peer | undefined, text: string, field: string): Peer {
  if (peer === undefined || isLabelPeer(peer))
    throw invalid(field, `except=${text} must follow the ${CIDR} that it is an exception to`)
  return checkCidr({ cidr: peer.cidr, except: [...peer.except, parsePrefix(text, field)] }, field)
}

function parsePriorityText(text: string, field: string): number {
  return checkPriority(/^[0-9]{1,4}$/.test(text) ? Number(text) : text, field)
}

function keyAndValue(part: string, field: string): readonly [key: string, value: string] {
  const at = part.indexOf('=')
  if (at === -1)
    throw invalid(field, `must be ${ANY}, or parts like port=80/tcp with commas between; got ${quote(part)}`)
  return [part.slice(0, at), part.slice(at + 1)]
}

function partsOf(direction: Direction): string {
  const peer = PEER_KEY[direction]
  return `a rule of ${direction} has ${peer}=LABELS, ${peer}=${CIDR}PREFIX, except=PREFIX, port=PORT/PROTOCOL and one priority=NUMBER`
}
