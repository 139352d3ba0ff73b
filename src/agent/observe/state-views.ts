// Rows of the committed state as the API shows them, together with what this host alone knows of them: counters, rates and
// the shaping that its kernel enforces.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Endpoint, Shaping } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import { statusOfHost, type Host } from '#model/host.ts'
import type { ServiceResolver } from '#allocator/service-resolver.ts'
import type { ServiceKey } from '#model/command.ts'
import type { HostName, NetworkName, PeerId } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import type { Service } from '#model/service.ts'
import type { DnsView, EndpointView, HostView, NetworkView, ServiceView } from '#model/views.ts'
import { shapeRequest, type Devices } from '#overlay/driver.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import type { CounterWindow, Reading } from './counters.ts'
import type { PeerDirectory } from './peer-directory.ts'
import { endpointView, hostView, networkView, serviceFacts } from './views.ts'

export type StateViewsOptions = {
  readonly self: PeerId
  readonly state: ClusterState
  readonly resolver: Pick<ServiceResolver, 'endpointsOf'>
  readonly directory: Pick<PeerDirectory, 'member'>
  readonly devices: Pick<Devices, 'installedShaping'>
  readonly counters: Pick<CounterWindow, 'read'>
  readonly overlayMtu: () => number
  /** See `dnsOf`. */
  readonly dns: (network: Network) => DnsView | null
}

export class StateViews {
  readonly #options: StateViewsOptions

  constructor(options: StateViewsOptions) {
    this.#options = options
  }

  /** @throws ERR_NETWORK_NOT_FOUND */
  findNetwork(name: NetworkName): Network {
    const network = this.#options.state.network(name)
    if (network === undefined) throw new VxmeshError('ERR_NETWORK_NOT_FOUND', `there is no network ${name}`)
    return network
  }

  /** @throws ERR_HOST_NOT_FOUND */
  findHost(name: HostName): Host {
    const host = this.#options.state.hostByName(name)
    if (host === undefined) throw new VxmeshError('ERR_HOST_NOT_FOUND', `there is no host ${name}`)
    return host
  }

  /** @throws ERR_NETWORK_NOT_FOUND, ERR_SERVICE_NOT_FOUND */
  findService({ network, name }: ServiceKey): Service {
    const service = this.#options.state.service(this.findNetwork(network).name, name)
    if (service !== undefined) return service
    throw new VxmeshError('ERR_SERVICE_NOT_FOUND', `network ${network} has no service ${name}`)
  }

  /** Also of one that is deleted, which has no endpoints. */
  service(service: Service): ServiceView {
    const { network, name } = service
    return { ...serviceFacts(service), endpoints: this.#options.resolver.endpointsOf(network, name).length }
  }

  network(network: Network): NetworkView {
    const { state, overlayMtu } = this.#options
    return networkView(network, { overlayMtu: overlayMtu(), endpoints: state.endpointCountOf(network.name) })
  }

  /** @param endpoints how many it has; counted by default */
  host(host: Host, endpoints = this.#options.state.endpointCountOn(host.peerId)): HostView {
    const member = this.#options.directory.member(host.peerId)
    const status = member === undefined ? 'unknown' : statusOfHost(host, member.status)
    return hostView(host, { status, endpoints })
  }

  /** From the state alone, without counters. @throws ERR_NETWORK_NOT_FOUND */
  endpoint(endpoint: Endpoint): EndpointView {
    return this.#endpoint(endpoint, {})
  }

  /** Those of this host with counters and rates. @throws ERR_KERNEL */
  async endpoints(endpoints: readonly Endpoint[]): Promise<EndpointView[]> {
    const here = endpoints.some(endpoint => endpoint.host === this.#options.self)
    const reading = here ? await this.#options.counters.read() : undefined
    return endpoints.map(endpoint => this.#endpoint(endpoint, { reading }))
  }

  /** For an endpoint of this host with counters, rates and the shaping that the kernel enforces. @throws ERR_KERNEL */
  async detailedEndpoint(endpoint: Endpoint): Promise<EndpointView> {
    const { devices, counters, overlayMtu, self } = this.#options
    if (endpoint.host !== self) return this.endpoint(endpoint)
    const network = this.findNetwork(endpoint.network)
    const installed = await devices.installedShaping(shapeRequest({ endpoint, network, overlayMtu: overlayMtu() }))
    return this.#endpoint(endpoint, { reading: await counters.read(), installed })
  }

  #endpoint(
    endpoint: Endpoint,
    local: { readonly reading?: Reading | undefined; readonly installed?: Shaping | null }
  ): EndpointView {
    const { state, overlayMtu, dns, self } = this.#options
    const network = this.findNetwork(endpoint.network)
    const hostInterface = vethName(endpoint.containerId, endpoint.ifname)
    const reading = endpoint.host === self ? local.reading : undefined
    return endpointView(endpoint, {
      network,
      overlayMtu: overlayMtu(),
      dns: dns(network),
      host: state.host(endpoint.host),
      counters: reading?.counters(hostInterface),
      rates: reading?.rates(hostInterface),
      installed: local.installed ?? null
    })
  }
}
