// A naive model of the allocator: lists that are searched, addresses that are tried one by one. It shares only the command
// types with the allocator, and predicts each answer and the state after it.

import type { Command } from '#model/command.ts'
import type { NetworkName } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'

type Of<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

type ModelNetwork = {
  readonly name: string
  readonly vni: number
  readonly base: number
  readonly size: number
  readonly gateway: number
  readonly requestId: string | undefined
  egressRate: number
  cursor: number
}

type ModelEndpoint = {
  readonly network: string
  readonly container: string
  readonly ifname: string
  readonly host: string
  readonly address: number
  readonly mac: string
}

type ModelNamespace = { readonly name: string; readonly network: string; readonly grants: readonly string[] }

type ModelHost = { readonly peer: string; readonly name: string; readonly vtep: number }

/** `ok` with the allocated values, or the code of the refusal. */
export type Foretold = {
  readonly code: string
  readonly vni?: number
  readonly address?: number
  readonly mac?: string
}

const FIRST_VNI = 4_096
const LAST_VNI = 16_777_215

export class Model {
  networks: ModelNetwork[] = []
  endpoints: ModelEndpoint[] = []
  hosts: ModelHost[] = []
  namespaces: ModelNamespace[] = []
  vniCursor = FIRST_VNI

  apply(command: Command): Foretold {
    switch (command.kind) {
      case 'session-open':
        return { code: 'ok' }
      case 'network-create':
        return this.#create(command)
      case 'network-update': {
        const network = this.network(command.name)
        if (network === undefined) return { code: 'ERR_NETWORK_NOT_FOUND' }
        network.egressRate = command.egressRate ?? network.egressRate
        return { code: 'ok' }
      }
      case 'network-delete':
        return this.#delete(command)
      case 'endpoint-attach':
        return this.#attach(command)
      case 'endpoint-update': {
        const there = this.endpoints.some(e => e.container === command.containerId && e.ifname === command.ifname)
        return { code: there ? 'ok' : 'ERR_ENDPOINT_NOT_FOUND' }
      }
      case 'endpoint-detach': {
        const left = this.endpoints.filter(e => e.container !== command.containerId || e.ifname !== command.ifname)
        if (left.length === this.endpoints.length) return { code: 'ERR_ENDPOINT_NOT_FOUND' }
        this.endpoints = left
        return { code: 'ok' }
      }
      case 'host-register':
        return this.#register(command)
      case 'host-remove': {
        const host = this.hosts.find(h => h.name === command.name)
        if (host === undefined) return { code: 'ERR_HOST_NOT_FOUND' }
        this.hosts = this.hosts.filter(h => h !== host)
        this.endpoints = this.endpoints.filter(e => e.host !== host.peer)
        return { code: 'ok' }
      }
      case 'namespace-map': {
        const { namespace: name, network, grants } = command
        if ([network, ...grants].some(one => this.network(one) === undefined)) return { code: 'ERR_NETWORK_NOT_FOUND' }
        this.namespaces = [...this.namespaces.filter(n => n.name !== name), { name, network, grants }]
        return { code: 'ok' }
      }
      case 'namespace-unmap': {
        const left = this.namespaces.filter(n => n.name !== command.namespace)
        if (left.length === this.namespaces.length) return { code: 'ERR_NAMESPACE_NOT_FOUND' }
        this.namespaces = left
        return { code: 'ok' }
      }
      case 'namespace-open':
        return this.#open(command)
    }
  }

  network(name: string): ModelNetwork | undefined {
    return this.networks.find(n => n.name === name)
  }

  endpointsOf(name: string): ModelEndpoint[] {
    return this.endpoints.filter(e => e.network === name)
  }

  #create(command: Of<'network-create'>): Foretold {
    const existing = this.network(command.name)
    if (existing !== undefined) {
      const retry = command.requestId !== undefined && command.requestId === existing.requestId
      return retry ? { code: 'ok', vni: existing.vni } : { code: 'ERR_NETWORK_EXISTS' }
    }
    const { base, prefixLength } = command.subnet
    const size = 2 ** (32 - prefixLength)
    const gateway: number = command.gateway ?? base + 1
    if (gateway <= base || gateway >= base + size - 1) return { code: 'ERR_INVALID' }
    let vni: number = command.vni ?? this.vniCursor
    if (command.vni === undefined) {
      while (this.networks.some(n => n.vni === vni)) vni = vni === LAST_VNI ? FIRST_VNI : vni + 1
      this.vniCursor = vni === LAST_VNI ? FIRST_VNI : vni + 1
    } else if (this.networks.some(n => n.vni === vni)) return { code: 'ERR_VNI_IN_USE' }
    const { name, requestId, egressRate } = command
    this.networks.push({ name, vni, base, size, gateway, requestId, egressRate, cursor: base + 1 })
    return { code: 'ok', vni }
  }

  #open({ namespace, range, prefixLength }: Of<'namespace-open'>): Foretold {
    const mapped = this.namespaces.find(n => n.name === namespace)
    if (mapped !== undefined) return { code: 'ok' }
    const size = 2 ** (32 - prefixLength)
    const end = range.base + 2 ** (32 - range.prefixLength)
    let base: number = range.base
    while (base < end && this.networks.some(n => n.base < base + size && base < n.base + n.size)) base += size
    if (base >= end) return { code: 'ERR_SUBNET_EXHAUSTED' }
    const [name, requestId] = [`ns-${namespace}` as NetworkName, `namespace/${namespace}`]
    const facts = { egressRate: 0, mtu: 0, egress: true, hostAccess: true, requestId }
    const made = this.#create({ kind: 'network-create', name, subnet: { base: base as Ipv4, prefixLength }, ...facts })
    if (made.code === 'ok') this.namespaces.push({ name: namespace, network: name, grants: [] })
    return made
  }

  #delete({ name, force }: Of<'network-delete'>): Foretold {
    if (this.network(name) === undefined) return { code: 'ERR_NETWORK_NOT_FOUND' }
    if (!force && this.endpointsOf(name).length > 0) return { code: 'ERR_NETWORK_IN_USE' }
    const named = this.namespaces.some(n => n.network === name || n.grants.some(grant => grant === name))
    if (!force && named) return { code: 'ERR_NETWORK_IN_USE' }
    this.networks = this.networks.filter(n => n.name !== name)
    this.endpoints = this.endpoints.filter(e => e.network !== name)
    this.namespaces = this.namespaces
      .filter(n => n.network !== name)
      .map(n => ({ ...n, grants: n.grants.filter(grant => grant !== name) }))
    return { code: 'ok' }
  }

  #attach(command: Of<'endpoint-attach'>): Foretold {
    const { containerId: container, ifname, host } = command
    const network = this.network(command.network)
    if (network === undefined) return { code: 'ERR_NETWORK_NOT_FOUND' }
    if (!this.hosts.some(h => h.peer === host)) return { code: 'ERR_HOST_NOT_REGISTERED' }
    const same = this.endpoints.find(e => e.container === container && e.ifname === ifname)
    if (same !== undefined) {
      const asked = [command.network, host, command.address ?? same.address, command.mac ?? same.mac]
      const had = [same.network, same.host, same.address, same.mac]
      if (asked.join() !== had.join()) return { code: 'ERR_ENDPOINT_EXISTS' }
      return { code: 'ok', address: same.address, mac: same.mac }
    }
    const others = this.endpointsOf(network.name)
    const badMac = (mac: string): boolean =>
      others.some(e => e.mac === mac) || mac.startsWith('06:76:78:') || mac === macFor(network, network.gateway)
    const last = network.base + network.size - 1
    const free = (address: number): boolean =>
      address !== network.base &&
      address !== last &&
      address !== network.gateway &&
      !others.some(e => e.address === address)
    let address: number | undefined = command.address
    if (address === undefined) {
      if (command.mac !== undefined && badMac(command.mac)) return { code: 'ERR_MAC_IN_USE' }
      const round = [...Array(network.size).keys()].map(
        n => network.base + ((network.cursor - network.base + n) % network.size)
      )
      address = round.find(a => free(a) && (command.mac !== undefined || !badMac(macFor(network, a))))
      if (address === undefined) return { code: 'ERR_SUBNET_EXHAUSTED' }
      network.cursor = address + 1
    } else {
      if (address <= network.base || address >= last || address === network.gateway) return { code: 'ERR_INVALID' }
      if (!free(address)) return { code: 'ERR_ADDRESS_IN_USE' }
      if (badMac(command.mac ?? macFor(network, address))) return { code: 'ERR_MAC_IN_USE' }
    }
    const mac = command.mac ?? macFor(network, address)
    this.endpoints.push({ network: network.name, container, ifname, host, address, mac })
    return { code: 'ok', address, mac }
  }

  #register({ host: { peerId: peer, name, vtep } }: Of<'host-register'>): Foretold {
    const others = this.hosts.filter(h => h.peer !== peer)
    if (others.some(h => h.name === name)) return { code: 'ERR_HOST_EXISTS' }
    if (others.some(h => h.vtep === vtep)) return { code: 'ERR_ADDRESS_IN_USE' }
    this.hosts = [...others, { peer, name, vtep }]
    return { code: 'ok' }
  }
}

function macFor({ vni }: ModelNetwork, address: number): string {
  const octets = [vni % 256, Math.floor(address / 2 ** 24), Math.floor(address / 2 ** 16) % 256]
  octets.push(Math.floor(address / 256) % 256, address % 256)
  return ['02', ...octets.map(o => o.toString(16).padStart(2, '0'))].join(':')
}
