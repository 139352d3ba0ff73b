// Builders of commands, and a caller that applies them in order, for the allocator's tests.

import type { Test } from 'tap'
import {
  FIRST_RULES,
  RULES,
  type Command,
  type Outcome,
  type PolicyKey,
  type Request,
  type Result
} from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import {
  parseContainerId,
  parseHostName,
  parseIfName,
  parseNamespaceName,
  parseNetworkName,
  parsePeerId,
  parsePolicyName,
  parseServiceName,
  parseVni
} from '#model/ids.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { formatIp, parseIp, parseSubnet } from '#model/ip.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { parseSelectorTerm, type LabelChanges, type Labels } from '#model/labels.ts'
import { parseMac } from '#model/mac.ts'
import { grantsOf } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import {
  asBackends,
  asPorts,
  asSelect,
  asServiceAddresses,
  parseBackendText,
  parsePortText,
  type Service
} from '#model/service.ts'
import { closedBy, type Action, type Direction, type PolicyRule } from '#model/policy.ts'
import { parseRuleText } from '#model/policy-text.ts'
import { parseRequirementsText } from '#model/requirement.ts'
import type { EgressV6 } from '#model/settings.ts'
import { verify } from '#allocator/consistency.ts'
import { encodeState } from '#allocator/snapshot.ts'
import { ClusterState } from '#allocator/state-machine.ts'

export type Of<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

const DIGITS = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

/** A well-formed peer id for a number below 2,500. */
export function peer(n: number): PeerId {
  return parsePeerId(`12D3KooW${'x'.repeat(42)}${DIGITS[Math.floor(n / 50)] ?? '1'}${DIGITS[n % 50] ?? '1'}`)
}

export function create(
  name: string,
  p: {
    subnet?: string
    subnet6?: string
    gateway?: string
    vni?: number
    requestId?: string
    egressRate?: number
    hostAccess?: boolean
    egressV6?: EgressV6
  } = {}
): Of<'network-create'> {
  return {
    kind: 'network-create',
    name: parseNetworkName(name),
    subnet: parseSubnet(p.subnet ?? '10.1.0.0/24'),
    ...(p.subnet6 === undefined ? {} : { subnet6: parseSubnet(p.subnet6) }),
    ...(p.gateway === undefined ? {} : { gateway: parseIp(p.gateway) }),
    ...(p.vni === undefined ? {} : { vni: parseVni(p.vni) }),
    egressRate: p.egressRate ?? 0,
    mtu: 0,
    egress: true,
    hostAccess: p.hostAccess ?? false,
    ...(p.egressV6 === undefined ? {} : { egressV6: p.egressV6 }),
    ...(p.requestId === undefined ? {} : { requestId: p.requestId })
  }
}

export function attach(
  network: string,
  containerId: string,
  p: {
    ifname?: string
    host?: number
    address?: string
    address6?: string
    mac?: string
    rate?: number
    requestId?: string
    labels?: Labels
  } = {}
): Of<'endpoint-attach'> {
  return {
    kind: 'endpoint-attach',
    network: parseNetworkName(network),
    containerId: parseContainerId(containerId),
    ifname: parseIfName(p.ifname ?? 'eth0'),
    name: '',
    host: peer(p.host ?? 1),
    ...(p.address === undefined ? {} : { address: parseIp(p.address) }),
    ...(p.address6 === undefined ? {} : { address6: parseIpv6(p.address6) }),
    ...(p.mac === undefined ? {} : { mac: parseMac(p.mac) }),
    ingressRate: p.rate ?? 0,
    egressRate: 0,
    delayUs: 0,
    ...(p.requestId === undefined ? {} : { requestId: p.requestId }),
    ...(p.labels === undefined ? {} : { labels: p.labels })
  }
}

/** Changes an endpoint's labels. */
export function relabel(containerId: string, labels: LabelChanges, ifname = 'eth0'): Of<'endpoint-update'> {
  return { kind: 'endpoint-update', containerId: parseContainerId(containerId), ifname: parseIfName(ifname), labels }
}

export function detach(containerId: string, ifname = 'eth0'): Of<'endpoint-detach'> {
  return { kind: 'endpoint-detach', containerId: parseContainerId(containerId), ifname: parseIfName(ifname) }
}

/** Of one port, 80 to 8080, of the endpoints with the label app=NAME, unless it says otherwise. */
export function serve(
  network: string,
  name: string,
  p: {
    addresses?: readonly string[]
    ports?: readonly string[]
    select?: readonly string[]
    backends?: readonly string[]
    affinity?: number
    headless?: boolean
    requestId?: string
  } = {}
): Of<'service-create'> {
  return {
    kind: 'service-create',
    network: parseNetworkName(network),
    name: parseServiceName(name),
    headless: p.headless ?? false,
    ...(p.addresses === undefined ? {} : { addresses: asServiceAddresses(p.addresses.map(ip => parseIp(ip))) }),
    ports: asPorts((p.ports ?? ['80:8080']).map(port => parsePortText(port))),
    affinitySeconds: p.affinity ?? 0,
    ...target(p.backends === undefined ? { select: [`app=${name}`], ...p } : p),
    ...(p.requestId === undefined ? {} : { requestId: p.requestId })
  }
}

export function reserve(
  network: string,
  name: string,
  p: { ports?: readonly string[]; select?: readonly string[]; backends?: readonly string[]; affinity?: number }
): Of<'service-update'> {
  return {
    kind: 'service-update',
    network: parseNetworkName(network),
    name: parseServiceName(name),
    ...(p.ports === undefined ? {} : { ports: asPorts(p.ports.map(port => parsePortText(port))) }),
    ...(p.affinity === undefined ? {} : { affinitySeconds: p.affinity }),
    ...target(p)
  }
}

export function unserve(network: string, name: string): Of<'service-delete'> {
  return { kind: 'service-delete', network: parseNetworkName(network), name: parseServiceName(name) }
}

function target(p: {
  readonly select?: readonly string[]
  readonly backends?: readonly string[]
}): Pick<Of<'service-create'>, 'select' | 'backends'> {
  if (p.backends !== undefined) return { backends: asBackends(p.backends.map(text => parseBackendText(text))) }
  return p.select === undefined ? {} : { select: asSelect(p.select.map(term => parseSelectorTerm(term, 'select'))) }
}

type PolicyTexts = {
  /** `*`, unless it says otherwise. */
  select?: string
  closes?: readonly Direction[]
  ingress?: readonly string[]
  egress?: readonly string[]
  /** At ingress. */
  deny?: readonly string[]
}

export function police(
  network: string,
  name: string,
  p: PolicyTexts & { requestId?: string } = {}
): Of<'policy-create'> {
  const rules = rulesOf(p)
  return {
    kind: 'policy-create',
    ...policyKey(network, name),
    select: parseRequirementsText(p.select ?? '*', 'select'),
    closes: p.closes ?? closedBy(rules),
    rules,
    ...(p.requestId === undefined ? {} : { requestId: p.requestId })
  }
}

export function repolice(network: string, name: string, p: PolicyTexts): Of<'policy-update'> {
  const rules = rulesOf(p)
  return {
    kind: 'policy-update',
    ...policyKey(network, name),
    ...(p.select === undefined ? {} : { select: parseRequirementsText(p.select, 'select') }),
    ...(p.closes === undefined ? {} : { closes: p.closes }),
    ...(rules.length === 0 ? {} : { rules })
  }
}

export function unpolice(network: string, name: string): Of<'policy-delete'> {
  return { kind: 'policy-delete', ...policyKey(network, name) }
}

function policyKey(network: string, name: string): PolicyKey {
  return { network: parseNetworkName(network), name: parsePolicyName(name) }
}

function rulesOf({ ingress = [], egress = [], deny = [] }: PolicyTexts): readonly PolicyRule[] {
  const of = (all: readonly string[], direction: Direction, action: Action): readonly PolicyRule[] =>
    all.map(text => parseRuleText(text, { direction, action, field: 'rule' }))
  return [...of(ingress, 'ingress', 'allow'), ...of(egress, 'egress', 'allow'), ...of(deny, 'ingress', 'deny')]
}

export function remove(name: string, force = false): Of<'network-delete'> {
  return { kind: 'network-delete', name: parseNetworkName(name), force }
}

export function update(name: string, egressRate?: number): Of<'network-update'> {
  const kind = 'network-update'
  return egressRate === undefined
    ? { kind, name: parseNetworkName(name) }
    : { kind, name: parseNetworkName(name), egressRate }
}

/** Adds a subnet of the other family to a network. */
export function addSubnet(name: string, subnet: string): Of<'network-update'> {
  return { kind: 'network-update', name: parseNetworkName(name), addSubnet: parseSubnet(subnet) }
}

/** Changes how IPv6 of a network leaves its hosts. */
export function leave(name: string, egressV6: EgressV6): Of<'network-update'> {
  return { kind: 'network-update', name: parseNetworkName(name), egressV6 }
}

/** Versions that know the ungated rules alone, IPv6, labels too, and the latest. */
export const [OLD, NEWER, NEWEST, NEW] = ['0.1.0', '0.2.0', '0.3.0', '0.4.0']

type HostFacts = { name?: string; vtep?: string; bootId?: string; version?: string }

export function makeHost(n: number, p: HostFacts = {}): Host {
  return {
    name: parseHostName(p.name ?? `h${n}`),
    peerId: peer(n),
    vtep: parseIp(p.vtep ?? `192.0.2.${n}`),
    role: 'server',
    bootId: p.bootId ?? 'boot-1',
    version: p.version ?? OLD
  }
}

export function register(n: number, p: HostFacts = {}): Of<'host-register'> {
  return { kind: 'host-register', host: makeHost(n, p) }
}

export function removeHost(name: string): Of<'host-remove'> {
  return { kind: 'host-remove', name: parseHostName(name) }
}

export function map(namespace: string, network: string, ...grants: string[]): Of<'namespace-map'> {
  const own = parseNetworkName(network)
  const others = grantsOf(
    own,
    grants.map(name => parseNetworkName(name))
  )
  return { kind: 'namespace-map', namespace: parseNamespaceName(namespace), network: own, grants: others }
}

export function unmap(namespace: string): Of<'namespace-unmap'> {
  return { kind: 'namespace-unmap', namespace: parseNamespaceName(namespace) }
}

export function open(namespace: string, range = '10.64.0.0/22', prefixLength = 24): Of<'namespace-open'> {
  return { kind: 'namespace-open', namespace: parseNamespaceName(namespace), range: parseSubnet(range), prefixLength }
}

/** A state and a caller with one session, who settles each answer immediately. */
export class Caller {
  readonly state: ClusterState
  readonly session: string
  /** Those that the requests name. */
  rules: number = FIRST_RULES
  #seq = 0

  constructor(state = new ClusterState(), session = 's1') {
    this.state = state
    this.session = session
    this.send({ session, seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  }

  /** A state with hosts h1 to h<hosts> and network red, 10.1.0.0/24. */
  static ready(hosts = 2): Caller {
    const caller = new Caller()
    for (let n = 1; n <= hosts; n++) caller.do(register(n))
    caller.do(create('red'))
    return caller
  }

  /** The same, in a cluster whose rules are the latest; the requests name them. */
  static raised(hosts = 2): Caller {
    const caller = new Caller()
    caller.rules = RULES
    for (let n = 1; n <= hosts; n++) caller.do(register(n, { version: NEW }))
    caller.do(create('red'))
    return caller
  }

  /** Upgrades all hosts and with them the rules, which the requests name from now on. */
  raise(): void {
    this.rules = RULES
    for (const host of this.state.presentHosts()) this.do({ kind: 'host-register', host: { ...host, version: NEW } })
  }

  get index(): LogIndex {
    return this.state.appliedIndex
  }

  send(request: Request): Outcome {
    return this.state.apply((this.state.appliedIndex + 1) as LogIndex, request)
  }

  try(command: Command): Outcome {
    this.#seq += 1
    return this.send({ session: this.session, seq: this.#seq, settledBelow: this.#seq, rules: this.rules, command })
  }

  /** Like `try`, but throws on a refusal. */
  do<K extends Command['kind']>(command: Of<K>): Result {
    const outcome = this.try(command)
    if (!outcome.ok) throw new Error(`${command.kind}: ${outcome.error.code} ${outcome.error.message}`)
    return outcome.result
  }

  network(command: Of<'network-create'>): Network {
    const result = this.do(command)
    if (result.kind !== 'network') throw new Error(`answered ${result.kind}`)
    return result.network
  }

  endpoint(command: Of<'endpoint-attach'>): Endpoint {
    const result = this.do(command)
    if (result.kind !== 'endpoint') throw new Error(`answered ${result.kind}`)
    return result.endpoint
  }

  service(command: Of<'service-create'>): Service {
    const result = this.do(command)
    if (result.kind !== 'service') throw new Error(`answered ${result.kind}`)
    return result.service
  }

  /** Attaches a container to a network; returns its address. */
  address(network: string, containerId: string): string {
    return formatIp(this.endpoint(attach(network, containerId)).address)
  }
}

/** `ok`, or the code and field of a refusal. */
export function brief(outcome: Outcome): string {
  return outcome.ok ? 'ok' : `${outcome.error.code} ${outcome.error.field ?? '-'}`
}

/** Rows, cursors and their hash: everything a command may change except remembered answers. */
export function contents(state: ClusterState): string {
  const { hosts, networks, services, policies, namespaces, vniCursor, rules } = encodeState(state)
  const hash = state.tables.hash.value
  return JSON.stringify({ hosts, networks, services, policies, namespaces, vniCursor, rules, hash })
}

export type Refusal = { readonly what: string; readonly command: Command; readonly refused: string }

/** One test per case: the command is refused with this code and field, and the state is unchanged. */
export function testRefusals(t: Test, ready: () => Caller, cases: readonly Refusal[]): void {
  for (const { what, command, refused } of cases) {
    t.test(`refused: ${what}`, t => {
      const caller = ready()
      const before = contents(caller.state)
      const outcome = caller.try(command)
      t.equal(brief(outcome), refused)
      t.equal(contents(caller.state), before, 'the state is unchanged')
      t.same(verify(caller.state), [])
      t.end()
    })
  }
}
