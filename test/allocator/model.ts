// A naive model of the allocator: lists that are searched, addresses that are tried one by one. It shares only the command
// types with the allocator, and predicts each answer and the state after it. Addresses of both families are on one line of
// bigints: IPv4 from 0, IPv6 from 2^128 on.

import type { Command } from '#model/command.ts'
import type { NetworkName } from '#model/ids.ts'
import type { Ip, Subnet } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'

type Of<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

/** A range of addresses: its first one and how many. */
type Range = { readonly base: bigint; readonly size: bigint }

type ModelNetwork = {
  readonly name: string
  readonly vni: number
  range: Range
  gateway: bigint
  readonly gatewayMac: string
  readonly hostAccess: boolean
  /** Is its IPv6 routed? */
  isRouted: boolean
  readonly requestId: string | undefined
  range6: Range | null
  egressRate: number
  /** Where the search for the next address starts. */
  cursor: bigint
}

type ModelEndpoint = {
  readonly network: string
  readonly container: string
  readonly ifname: string
  readonly host: string
  readonly address: bigint
  /** That it was asked for, unless it is the mirror. */
  readonly address6: bigint | null
  readonly mac: string
  readonly labels: ReadonlyMap<string, string>
}

type ModelService = {
  readonly network: string
  readonly name: string
  readonly addresses: readonly bigint[]
  readonly ports: string
  readonly target: string
  readonly requestId: string | undefined
}

type ModelNamespace = { readonly name: string; readonly network: string; readonly grants: readonly string[] }

type ModelHost = { readonly peer: string; readonly name: string; readonly vtep: bigint; readonly version: string }

type ModelPolicy = {
  readonly network: string
  readonly name: string
  readonly requestId: string | undefined
  /** As JSON. */
  readonly select: string
  readonly closes: string
  readonly rules: string
}

/** `ok` with the allocated values, or the code and field of the refusal. */
export type Foretold = {
  readonly code: string
  readonly vni?: number
  readonly address?: bigint
  readonly address6?: bigint | null
  readonly mac?: string
  /** Of a service. */
  readonly addresses?: readonly bigint[]
}

const FIRST_VNI = 4_096
const LAST_VNI = 16_777_215
const SIX = 1n << 128n
/** As many addresses as a network allocates by itself. */
const WINDOW = 1n << 24n
const [OLDEST_CLUSTER, WITH_OVERLAPS, WITH_IPV6, WITH_LABELS, WITH_SERVICES, WITH_POLICIES] = [4, 2, 5, 6, 7, 8]
const KNOWN_BY: Readonly<Record<string, number>> = {
  '0.2.0': WITH_IPV6,
  '0.3.0': WITH_LABELS,
  '0.4.0': WITH_POLICIES
}
const MOST_LABELS = 32

export class Model {
  services: ModelService[] = []
  policies: ModelPolicy[] = []
  networks: ModelNetwork[] = []
  endpoints: ModelEndpoint[] = []
  hosts: ModelHost[] = []
  namespaces: ModelNamespace[] = []
  vniCursor = FIRST_VNI
  clusterRules = OLDEST_CLUSTER
  readonly #requestRules: number

  /** @param requestRules those that all requests name */
  constructor(requestRules: number) {
    this.#requestRules = requestRules
  }

  apply(command: Command): Foretold {
    switch (command.kind) {
      case 'session-open':
        return { code: 'ok' }
      case 'network-create':
        return this.#create(command)
      case 'network-update':
        return this.#update(command)
      case 'network-delete':
        return this.#delete(command)
      case 'endpoint-attach':
        return this.#attach(command)
      case 'endpoint-update':
        return this.#relabel(command)
      case 'endpoint-detach': {
        const left = this.endpoints.filter(e => e.container !== command.containerId || e.ifname !== command.ifname)
        if (left.length === this.endpoints.length) return { code: 'ERR_ENDPOINT_NOT_FOUND containerId' }
        this.endpoints = left
        return { code: 'ok' }
      }
      case 'host-register':
        return this.#register(command)
      case 'host-remove': {
        const host = this.hosts.find(h => h.name === command.name)
        if (host === undefined) return { code: 'ERR_HOST_NOT_FOUND name' }
        this.hosts = this.hosts.filter(h => h !== host)
        this.endpoints = this.endpoints.filter(e => e.host !== host.peer)
        this.#raise()
        return { code: 'ok' }
      }
      case 'namespace-map': {
        const { namespace: name, network, grants } = command
        if (this.network(network) === undefined) return { code: 'ERR_NETWORK_NOT_FOUND network' }
        if (grants.some(one => this.network(one) === undefined)) return { code: 'ERR_NETWORK_NOT_FOUND network' }
        this.namespaces = [...this.namespaces.filter(n => n.name !== name), { name, network, grants }]
        return { code: 'ok' }
      }
      case 'namespace-unmap': {
        const left = this.namespaces.filter(n => n.name !== command.namespace)
        if (left.length === this.namespaces.length) return { code: 'ERR_NAMESPACE_NOT_FOUND namespace' }
        this.namespaces = left
        return { code: 'ok' }
      }
      case 'namespace-open':
        return this.#open(command)
      case 'service-create':
        return this.#serve(command)
      case 'service-update':
      case 'service-delete':
        return this.#change(command)
      case 'policy-create':
      case 'policy-update':
      case 'policy-delete':
        return this.#police(command)
    }
  }

  network(name: string): ModelNetwork | undefined {
    return this.networks.find(n => n.name === name)
  }

  endpointsOf(name: string): ModelEndpoint[] {
    return this.endpoints.filter(e => e.network === name)
  }

  /** The second address of an endpoint; null in a network with one subnet. */
  second({ network, address, address6 }: ModelEndpoint): bigint | null {
    const there = this.network(network)
    return address6 ?? (there === undefined ? null : mirror(there, address))
  }

  get #rules(): number {
    return Math.min(this.#requestRules, this.clusterRules)
  }

  #create(command: Of<'network-create'>): Foretold {
    const existing = this.network(command.name)
    if (existing !== undefined) {
      const retry = command.requestId !== undefined && command.requestId === existing.requestId
      return retry ? { code: 'ok', vni: existing.vni } : { code: 'ERR_NETWORK_EXISTS name' }
    }
    const range = rangeOf(command.subnet)
    const range6 = command.subnet6 === undefined ? null : rangeOf(command.subnet6)
    if (this.#rules < WITH_IPV6 && (range.base >= SIX || range6 !== null)) return { code: 'ERR_UNSUPPORTED subnet' }
    if (this.#rules < WITH_IPV6 && command.egressV6 !== undefined) return { code: 'ERR_UNSUPPORTED egressV6' }
    const gateway = command.gateway === undefined ? range.base + 1n : onLine(command.gateway)
    if (!isForHosts(range, gateway)) return { code: 'ERR_INVALID gateway' }
    const isRouted = command.egressV6 === 'routed'
    if (this.#overlaps({ ...command, isRouted, range, range6 })) return { code: 'ERR_ADDRESS_IN_USE subnet' }
    let vni: number = command.vni ?? this.vniCursor
    if (command.vni === undefined) {
      while (this.networks.some(n => n.vni === vni)) vni = vni === LAST_VNI ? FIRST_VNI : vni + 1
      this.vniCursor = vni === LAST_VNI ? FIRST_VNI : vni + 1
    } else if (this.networks.some(n => n.vni === vni)) return { code: 'ERR_VNI_IN_USE vni' }
    const { name, requestId, egressRate, hostAccess } = command
    const cursor = range.base + 1n
    const gatewayMac = lowMac({ vni }, gateway)
    const facts = { name, vni, range, range6, gateway, gatewayMac, hostAccess, requestId, egressRate }
    this.networks.push({ ...facts, isRouted, cursor })
    return { code: 'ok', vni }
  }

  #update({ name, addSubnet, egressRate, egressV6 }: Of<'network-update'>): Foretold {
    const network = this.network(name)
    if (network === undefined) return { code: 'ERR_NETWORK_NOT_FOUND name' }
    if (this.#rules < WITH_IPV6 && egressV6 !== undefined) return { code: 'ERR_UNSUPPORTED egressV6' }
    if (this.#rules < WITH_IPV6 && addSubnet !== undefined) return { code: 'ERR_UNSUPPORTED subnet' }
    const pair = addSubnet === undefined ? null : pairOf(network, rangeOf(addSubnet))
    if (pair === 'unfit') return { code: 'ERR_INVALID subnet' }
    const isRouted = egressV6 === undefined ? network.isRouted : egressV6 === 'routed'
    const [range, range6] = pair ?? [network.range, network.range6]
    const next = { ...network, isRouted, range, range6 }
    if (claimsOf(next).length > claimsOf(network).length && this.#overlaps(next))
      return { code: `ERR_ADDRESS_IN_USE ${addSubnet === undefined ? 'egressV6' : 'subnet'}` }
    const refused = pair === null || pair[0] === network.range ? null : this.#moveTo(network, pair)
    if (refused !== null) return { code: refused }
    network.range = range
    network.range6 = range6
    network.isRouted = isRouted
    network.egressRate = egressRate ?? network.egressRate
    return { code: 'ok' }
  }

  /** Its endpoints get the IPv4 addresses that their own mirror. @returns why they cannot */
  #moveTo(network: ModelNetwork, [first, second]: readonly [Range, Range]): string | null {
    const moved = (address: bigint): bigint => first.base + (address - second.base)
    const others = this.endpointsOf(network.name)
    const all = [network.gateway, ...others.map(e => e.address)].map(moved)
    if (!all.every(address => isForHosts(first, address))) return 'ERR_INVALID subnet'
    const cursor = moved(network.cursor)
    network.cursor = cursor < first.base + first.size ? cursor : first.base + 1n
    network.gateway = moved(network.gateway)
    this.endpoints = this.endpoints.map(e => (others.includes(e) ? { ...e, address: moved(e.address) } : e))
    return null
  }

  /** Do hosts have routes to addresses of another network that it wants them to have routes to? */
  #overlaps(network: Claim): boolean {
    if (this.#rules < WITH_OVERLAPS) return false
    const others = this.networks.filter(n => n.name !== network.name).flatMap(claimsOf)
    return claimsOf(network).some(one => others.some(other => meet(one, other)))
  }

  #open({ namespace, range: given, prefixLength }: Of<'namespace-open'>): Foretold {
    const mapped = this.namespaces.find(n => n.name === namespace)
    if (mapped !== undefined) return { code: 'ok' }
    const size = 1n << BigInt(32 - prefixLength)
    const range = rangeOf(given)
    let { base } = range
    while (base < range.base + range.size && this.networks.some(n => meet(n.range, { base, size }))) base += size
    if (base >= range.base + range.size) return { code: 'ERR_SUBNET_EXHAUSTED namespace' }
    const [name, requestId] = [`ns-${namespace}` as NetworkName, `namespace/${namespace}`]
    const facts = { egressRate: 0, mtu: 0, egress: true, hostAccess: true, requestId }
    const subnet = { base: Number(base) as Ipv4, prefixLength }
    const made = this.#create({ kind: 'network-create', name, subnet, ...facts })
    if (made.code === 'ok') this.namespaces.push({ name: namespace, network: name, grants: [] })
    return made
  }

  #delete({ name, force }: Of<'network-delete'>): Foretold {
    if (this.network(name) === undefined) return { code: 'ERR_NETWORK_NOT_FOUND name' }
    if (!force && this.endpointsOf(name).length > 0) return { code: 'ERR_NETWORK_IN_USE name' }
    if (!force && this.services.some(s => s.network === name)) return { code: 'ERR_NETWORK_IN_USE name' }
    if (!force && this.policies.some(p => p.network === name)) return { code: 'ERR_NETWORK_IN_USE name' }
    const named = this.namespaces.some(n => n.network === name || n.grants.some(grant => grant === name))
    if (!force && named) return { code: 'ERR_NETWORK_IN_USE name' }
    this.networks = this.networks.filter(n => n.name !== name)
    this.endpoints = this.endpoints.filter(e => e.network !== name)
    this.services = this.services.filter(s => s.network !== name)
    this.policies = this.policies.filter(p => p.network !== name)
    this.namespaces = this.namespaces
      .filter(n => n.network !== name)
      .map(n => ({ ...n, grants: n.grants.filter(grant => grant !== name) }))
    return { code: 'ok' }
  }

  #attach(command: Of<'endpoint-attach'>): Foretold {
    const { containerId: container, ifname, host } = command
    const network = this.network(command.network)
    if (network === undefined) return { code: 'ERR_NETWORK_NOT_FOUND network' }
    if (!this.hosts.some(h => h.peer === host)) return { code: 'ERR_HOST_NOT_REGISTERED host' }
    const labels = new Map(Object.entries(command.labels ?? {}))
    if (labels.size > 0 && this.#rules < WITH_LABELS) return { code: 'ERR_UNSUPPORTED labels' }
    const asked = [command.address, command.address6].filter(ip => ip !== undefined).map(onLine)
    const fours = asked.filter(address => address < SIX)
    const sixes = asked.filter(address => address >= SIX)
    if (sixes.length > 0 && this.#rules < WITH_IPV6) return { code: 'ERR_UNSUPPORTED address' }
    if (new Set(sixes).size > 1) return { code: 'ERR_INVALID address' }
    const isSix = network.range.base >= SIX
    if (isSix ? fours.length > 0 : sixes.length > 0 && network.range6 === null) return { code: 'ERR_INVALID address' }
    const same = this.endpoints.find(e => e.container === container && e.ifname === ifname)
    if (same !== undefined) {
      const second = this.second(same)
      const there = `${same.network} ${same.host} ${command.mac === undefined ? '' : same.mac}`
      const had = asked.every(address => address === same.address || address === second)
      if (!had || there !== `${command.network} ${host} ${command.mac ?? ''}`) {
        return { code: 'ERR_ENDPOINT_EXISTS containerId' }
      }
      return { code: 'ok', address: same.address, address6: second, mac: same.mac }
    }
    if (this.#rules >= WITH_SERVICES && command.mac?.startsWith('0e:76:78:') === true)
      return { code: 'ERR_MAC_IN_USE mac' }
    const explicit = isSix ? sixes[0] : fours[0]
    const wanted6 = (isSix ? undefined : sixes[0]) ?? null
    const others = this.endpointsOf(network.name)
    const badMac = (mac: string): boolean =>
      others.some(e => e.mac === mac) || mac.startsWith('06:76:78:') || mac === network.gatewayMac
    const isFree = (address: bigint): boolean =>
      isForHosts(network.range, address) &&
      address !== network.gateway &&
      !others.some(e => e.address === address) &&
      !this.#isServed(network, address)
    const hasSecond = (address: bigint): boolean =>
      others.some(e => this.second(e) === address) || this.#isServed(network, address)
    /** Is the mirror of this address somebody's, where it is needed? */
    const badMirror = (address: bigint): boolean => {
      const mirrored = wanted6 === null ? mirror(network, address) : null
      return mirrored !== null && hasSecond(mirrored)
    }
    const bad6 = (): string | null => {
      if (wanted6 === null || network.range6 === null) return null
      if (!isForHosts(network.range6, wanted6)) return 'ERR_INVALID address'
      if (wanted6 === mirror(network, network.gateway)) return 'ERR_INVALID address'
      return hasSecond(wanted6) ? 'ERR_ADDRESS_IN_USE address' : null
    }
    let address = explicit
    if (address === undefined) {
      const bad = bad6()
      if (bad !== null) return { code: bad }
      if (command.mac !== undefined && badMac(command.mac)) return { code: 'ERR_MAC_IN_USE mac' }
      const { base, size } = network.range
      const window = size < WINDOW ? size : WINDOW
      for (let n = 0n; n < window && address === undefined; n++) {
        const next = base + ((network.cursor - base + n) % window)
        const isGood = isFree(next) && !badMirror(next) && (command.mac !== undefined || !badMac(macFor(network, next)))
        if (isGood) address = next
      }
      if (address === undefined) return { code: 'ERR_SUBNET_EXHAUSTED network' }
      network.cursor = address + 1n
    } else {
      if (!isForHosts(network.range, address) || address === network.gateway) return { code: 'ERR_INVALID address' }
      if (!isFree(address) || badMirror(address)) return { code: 'ERR_ADDRESS_IN_USE address' }
      const bad = bad6()
      if (bad !== null) return { code: bad }
      if (badMac(command.mac ?? macFor(network, address))) return { code: 'ERR_MAC_IN_USE mac' }
    }
    const mac = command.mac ?? macFor(network, address)
    const address6 = wanted6 === mirror(network, address) ? null : wanted6
    const made = { network: network.name, container, ifname, host, address, address6, mac, labels }
    this.endpoints.push(made)
    return { code: 'ok', address, address6: this.second(made), mac }
  }

  #relabel({ containerId, ifname, labels = {} }: Of<'endpoint-update'>): Foretold {
    const before = this.endpoints.find(e => e.container === containerId && e.ifname === ifname)
    if (before === undefined) return { code: 'ERR_ENDPOINT_NOT_FOUND containerId' }
    if (Object.keys(labels).length > 0 && this.#rules < WITH_LABELS) return { code: 'ERR_UNSUPPORTED labels' }
    const after = new Map(before.labels)
    for (const [key, value] of Object.entries(labels)) {
      if (value === null) after.delete(key)
      else after.set(key, value)
    }
    if (after.size > MOST_LABELS) return { code: 'ERR_INVALID labels' }
    this.endpoints = this.endpoints.map(e => (e === before ? { ...e, labels: after } : e))
    return { code: 'ok' }
  }

  #isServed({ name }: ModelNetwork, address: bigint): boolean {
    return this.services.some(s => s.network === name && s.addresses.includes(address))
  }

  /** Is it of a container, or may a container get it? */
  #isContained(network: ModelNetwork, address: bigint): boolean {
    const gateways = [network.gateway, mirror(network, network.gateway)]
    const ranges = network.range6 === null ? [network.range] : [network.range, network.range6]
    return ranges.some(range => isForHosts(range, address)) && !gateways.includes(address)
  }

  #serve(command: Of<'service-create'>): Foretold {
    const { name, requestId, headless, ports } = command
    if (this.#rules < WITH_SERVICES) return { code: 'ERR_UNSUPPORTED name' }
    const network = this.network(command.network)
    if (network === undefined) return { code: 'ERR_NETWORK_NOT_FOUND network' }
    const same = this.services.find(s => s.network === network.name && s.name === name)
    if (same !== undefined) {
      const isRetry = requestId !== undefined && requestId === same.requestId
      return isRetry ? { code: 'ok', addresses: same.addresses } : { code: 'ERR_SERVICE_EXISTS name' }
    }
    if (!(command.backends ?? []).every(b => this.#isContained(network, onLine(b.address))))
      return { code: 'ERR_INVALID backends' }
    const asked = command.addresses?.map(onLine)
    const addresses = headless
      ? []
      : asked === undefined
        ? this.#nextAddresses(network)
        : this.#askedFor(network, asked)
    if (typeof addresses === 'string') return { code: addresses }
    if (ports.length === 0 && !headless) return { code: 'ERR_INVALID ports' }
    if (ports.length !== 1 && portsOf(command)) return { code: 'ERR_INVALID backends' }
    if (asked === undefined && addresses[0] !== undefined) network.cursor = addresses[0] + 1n
    const [own, target] = [JSON.stringify(ports), targetOf(command)]
    this.services.push({ network: network.name, name, addresses, ports: own, target, requestId })
    return { code: 'ok', addresses }
  }

  #nextAddresses(network: ModelNetwork): readonly bigint[] | string {
    const { base, size } = network.range
    const window = size < WINDOW ? size : WINDOW
    for (let n = 0n; n < window; n++) {
      const address = base + ((network.cursor - base + n) % window)
      const second = mirror(network, address)
      const both = second === null ? [address] : [address, second]
      if (isForHosts(network.range, address) && both.every(each => this.#isFree(network, each))) return both
    }
    return 'ERR_SUBNET_EXHAUSTED network'
  }

  #isFree(network: ModelNetwork, address: bigint): boolean {
    const held = this.endpointsOf(network.name).some(e => e.address === address || this.second(e) === address)
    const gateways = [network.gateway, mirror(network, network.gateway)]
    return !held && !this.#isServed(network, address) && !gateways.includes(address)
  }

  /** Those, or why not. */
  #askedFor(network: ModelNetwork, asked: readonly bigint[]): readonly bigint[] | string {
    const ranges = network.range6 === null ? [network.range] : [network.range, network.range6]
    const gateways = [network.gateway, mirror(network, network.gateway)]
    for (const address of asked) {
      const range = ranges.find(({ base }) => base >= SIX === address >= SIX)
      if (range === undefined) return 'ERR_INVALID address'
      const isInside = address >= range.base && address < range.base + range.size
      if (isInside && !isForHosts(range, address)) return 'ERR_INVALID address'
      if (gateways.includes(address)) return 'ERR_INVALID address'
      if (!isInside && this.hosts.some(h => h.vtep === address)) return 'ERR_ADDRESS_IN_USE address'
      if (!this.#isFree(network, address)) return 'ERR_ADDRESS_IN_USE address'
    }
    return asked
  }

  #change(command: Of<'service-update' | 'service-delete'>): Foretold {
    if (this.#rules < WITH_SERVICES) return { code: 'ERR_UNSUPPORTED name' }
    const network = this.network(command.network)
    if (network === undefined) return { code: 'ERR_NETWORK_NOT_FOUND network' }
    const before = this.services.find(s => s.network === network.name && s.name === command.name)
    if (before === undefined) return { code: 'ERR_SERVICE_NOT_FOUND name' }
    const others = this.services.filter(s => s !== before)
    if (command.kind === 'service-delete') {
      this.services = others
      return { code: 'ok', addresses: before.addresses }
    }
    if (!(command.backends ?? []).every(b => this.#isContained(network, onLine(b.address))))
      return { code: 'ERR_INVALID backends' }
    const ports = command.ports === undefined ? before.ports : JSON.stringify(command.ports)
    const isNew = command.select !== undefined || command.backends !== undefined
    const target = isNew ? targetOf(command) : before.target
    if (ports === '[]' && before.addresses.length > 0) return { code: 'ERR_INVALID ports' }
    const count = (JSON.parse(ports) as unknown[]).length
    if (count !== 1 && target.startsWith('ports ')) return { code: 'ERR_INVALID backends' }
    this.services = [...others, { ...before, ports, target }]
    return { code: 'ok', addresses: before.addresses }
  }

  #police(command: Of<'policy-create' | 'policy-update' | 'policy-delete'>): Foretold {
    const { network, name } = command
    if (this.#rules < WITH_POLICIES) return { code: 'ERR_UNSUPPORTED name' }
    if (this.network(network) === undefined) return { code: 'ERR_NETWORK_NOT_FOUND network' }
    const before = this.policies.find(p => p.network === network && p.name === name)
    if (command.kind === 'policy-create') {
      const { requestId } = command
      if (before !== undefined)
        return { code: requestId !== undefined && requestId === before.requestId ? 'ok' : 'ERR_POLICY_EXISTS name' }
      this.policies.push({ network, name, requestId, ...policyTexts(command) })
      return { code: 'ok' }
    }
    if (before === undefined) return { code: 'ERR_POLICY_NOT_FOUND name' }
    this.policies = this.policies.filter(p => p !== before)
    if (command.kind === 'policy-delete') return { code: 'ok' }
    const { rules, closes } = command
    const implied = rules === undefined || closes !== undefined ? {} : { closes: impliedBy(rules) }
    this.policies.push({ ...before, ...policyTexts({ ...command, ...implied }) })
    return { code: 'ok' }
  }

  #register({ host: { peerId: peer, name, vtep: ip, version } }: Of<'host-register'>): Foretold {
    if (knownBy(version) < this.clusterRules) return { code: 'ERR_UNSUPPORTED version' }
    const others = this.hosts.filter(h => h.peer !== peer)
    const vtep = onLine(ip)
    if (others.some(h => h.name === name)) return { code: 'ERR_HOST_EXISTS name' }
    const isSix = vtep >= SIX
    const allKnow = [version, ...others.map(h => h.version)].every(v => knownBy(v) >= WITH_IPV6)
    if (isSix && this.clusterRules < WITH_IPV6 && !allKnow) return { code: 'ERR_UNSUPPORTED vtep' }
    if (others.some(h => h.vtep >= SIX !== isSix)) return { code: 'ERR_INVALID vtep' }
    if (others.some(h => h.vtep === vtep)) return { code: 'ERR_ADDRESS_IN_USE vtep' }
    this.hosts = [...others, { peer, name, vtep, version }]
    this.#raise()
    return { code: 'ok' }
  }

  #raise(): void {
    if (this.hosts.length === 0) return
    const known = Math.min(...this.hosts.map(h => knownBy(h.version)))
    this.clusterRules = Math.max(known, this.clusterRules)
  }
}

/** Those that are given, as JSON. */
function policyTexts(given: Partial<Pick<Of<'policy-create'>, 'select' | 'closes' | 'rules'>>): ModelPolicyTexts {
  const fields = (['select', 'closes', 'rules'] as const).filter(field => given[field] !== undefined)
  return Object.fromEntries(fields.map(field => [field, JSON.stringify(given[field])])) as ModelPolicyTexts
}

function impliedBy(rules: Of<'policy-create'>['rules']): readonly ('ingress' | 'egress')[] {
  const isAllowed = (direction: string): boolean =>
    rules.some(rule => rule.direction === direction && rule.action === 'allow')
  return rules.length === 0 ? ['ingress'] : (['ingress', 'egress'] as const).filter(isAllowed)
}

type ModelPolicyTexts = Pick<ModelPolicy, 'select' | 'closes' | 'rules'>
type Targets = Pick<Of<'service-create'>, 'select' | 'backends'>

/** Do backends have ports of their own? */
function portsOf({ backends = [] }: Targets): boolean {
  return backends.some(b => b.port !== undefined)
}

function targetOf(targets: Targets): string {
  const { select, backends } = targets
  return `${portsOf(targets) ? 'ports ' : ''}${JSON.stringify(select ?? backends)}`
}

/** The place of an address on the line. */
export function onLine(ip: Ip): bigint {
  if (typeof ip === 'number') return BigInt(ip)
  const [front = [], back] = ip.split('::').map(part => (part === '' ? [] : part.split(':')))
  const zeros = Array<string>(8 - front.length - (back?.length ?? 0)).fill('0')
  const digits = [...front, ...zeros, ...(back ?? [])].map(group => group.padStart(4, '0')).join('')
  return SIX + BigInt(`0x${digits}`)
}

function rangeOf({ base, prefixLength }: Subnet): Range {
  return { base: onLine(base), size: 1n << BigInt((typeof base === 'number' ? 32 : 128) - prefixLength) }
}

type Claim = Pick<ModelNetwork, 'name' | 'range' | 'range6' | 'hostAccess' | 'isRouted'>

/** The two ranges of a network with this one added; null when it has it. */
function pairOf({ range, range6 }: ModelNetwork, added: Range): readonly [Range, Range] | 'unfit' | null {
  if ([range, range6].some(one => one?.base === added.base && one.size === added.size)) return null
  const [first, second] = added.base < SIX ? [added, range] : [range, added]
  const isPair = range6 === null && first.base < SIX && second.base >= SIX && second.size >= first.size
  return isPair ? [first, second] : 'unfit'
}

/** The subnets to whose containers hosts have routes. Every network has egress here. */
function claimsOf({ range, range6, hostAccess, isRouted }: Claim): readonly Range[] {
  const ranges = range6 === null ? [range] : [range, range6]
  return ranges.filter(({ base }) => hostAccess || (isRouted && base >= SIX))
}

function meet(one: Range, other: Range): boolean {
  return one.base < other.base + other.size && other.base < one.base + one.size
}

/** Not the first address, nor the last one of IPv4. */
function isForHosts({ base, size }: Range, address: bigint): boolean {
  return address > base && address < base + size - (base < SIX ? 1n : 0n)
}

/** Null in a network with one subnet. */
function mirror({ range, range6 }: ModelNetwork, address: bigint): bigint | null {
  return range6 === null ? null : range6.base + (address - range.base)
}

function knownBy(version: string): number {
  return KNOWN_BY[version] ?? OLDEST_CLUSTER
}

/** Of the lowest bits within the window, of all bits beyond it. */
function macFor(network: ModelNetwork, address: bigint): string {
  const { base } = network.range
  if (base < SIX || address - base < WINDOW) return lowMac(network, address)
  const mixed = ((address - SIX) * 0x9e3779b97f4a7c15f39cc0605cedc835n) % SIX
  return ['0a', ...octets(mixed >> 88n, 5)].join(':')
}

function lowMac({ vni }: Pick<ModelNetwork, 'vni'>, address: bigint): string {
  return ['02', ...octets(BigInt(vni), 1), ...octets(address, 4)].join(':')
}

/** The lowest ones, as text. */
function octets(value: bigint, count: number): string[] {
  const shifts = Array.from({ length: count }, (_, at) => BigInt(8 * (count - 1 - at)))
  return shifts.map(shift => ((value >> shift) & 255n).toString(16).padStart(2, '0'))
}
