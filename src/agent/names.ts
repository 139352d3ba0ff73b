// The names of this host's networks: wires the resolvers to the replicated state, the configuration and the routers.

import type { ServiceResolver } from '#allocator/service-resolver.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import { Listener } from '#dns/listener.ts'
import type { NamesView, OwnNames } from '#dns/own-names.ts'
import { OUTCOMES, Resolver, type QueryOutcome, type ResolverHost } from '#dns/resolver.ts'
import { Upstreams } from '#dns/upstreams.ts'
import { addressesOf, gatewaysOf, subnetsOf } from '#model/addresses.ts'
import { idNameOf, ownNameOf } from '#model/dns-name.ts'
import type { NetworkName, ServiceName, Vni } from '#model/ids.ts'
import { formatIp } from '#model/ip.ts'
import { hasRouter, type Network } from '#model/network.ts'
import type { DnsView } from '#model/views.ts'
import { Resolvers, type RunningListener } from '#overlay/gateway/resolvers.ts'
import type { DesiredRouter } from '#overlay/plan/gateway/desired-gateway.ts'
import type { Clock } from '#platform/clock.ts'
import type { Random } from '#platform/random.ts'

export type NamesOptions = {
  readonly state: ClusterState
  readonly services: Pick<ServiceResolver, 'endpointsOf'>
  readonly config: () => Pick<Config, 'dns'>
  readonly clock: Clock
  readonly random: Pick<Random, 'unit'>
}

export type NameFigures = {
  /** Networks of this host whose names are answered. */
  readonly resolvers: number
  readonly queries: Readonly<Record<QueryOutcome, number>>
  /** Of all caches. */
  readonly cacheBytes: number
}

export class Names {
  /** Keeps a listener in each router. */
  readonly part: Resolvers
  readonly #options: NamesOptions
  readonly #view: NamesView
  readonly #host: ResolverHost
  /** Those that are open. */
  readonly #resolvers = new Map<Vni, Resolver>()

  constructor(options: NamesOptions) {
    const { clock, config, random, services, state } = options
    this.#options = options
    this.#view = namesView(state, services)
    this.#host = {
      upstreams: new Upstreams({ configured: () => config().dns.upstreams, clock, random }),
      cacheBytes: config().dns.cacheBytes,
      forwarded: { count: 0 },
      connections: { count: 0 },
      counts: Object.fromEntries(OUTCOMES.map(outcome => [outcome, 0])) as Record<QueryOutcome, number>,
      clock
    }
    this.part = new Resolvers((netns, router) => this.#listen(netns, router))
  }

  figures(): NameFigures {
    const cacheBytes = [...this.#resolvers.values()].reduce((sum, one) => sum + one.cacheBytes, 0)
    return { resolvers: this.#resolvers.size, queries: { ...this.#host.counts }, cacheBytes }
  }

  #listen(netns: string, router: DesiredRouter): RunningListener {
    const { name, vni, subnets, queryRate } = router
    const { connections, clock } = this.#host
    const resolver = new Resolver({
      ...this.#host,
      own: () => this.#ownOf(name),
      forwards: () => this.#options.config().dns.forward && this.#options.state.network(name)?.egress === true
    })
    const listener = new Listener({
      netns,
      addresses: subnets.map(({ gateway }) => gateway),
      resolver,
      queryRate: queryRate ?? 1,
      connections,
      clock
    })
    this.#resolvers.set(vni, resolver)
    return {
      close: () => {
        this.#resolvers.delete(vni)
        listener.close()
      }
    }
  }

  #ownOf(name: NetworkName): OwnNames | null {
    const { state, config } = this.#options
    const network = state.network(name)
    return network === undefined
      ? null
      : { network: name, subnets: subnetsOf(network), zone: config().dns.zone, view: this.#view }
  }
}

/** What a container of the network is to have in its resolv.conf; null if the network has no resolver. */
export function dnsOf(network: Network, { enabled, zone, search }: Config['dns']): DnsView | null {
  if (!enabled || !hasRouter(network)) return null
  return { nameservers: gatewaysOf(network).map(formatIp), search: [`${network.name}.${zone}`, ...search] }
}

/**
 * A service goes before an endpoint of its name. It has its own addresses; a headless one, those of the endpoints that answer for it.
 */
export function namesView(
  state: Pick<ClusterState, 'endpointAt' | 'endpointsNamed' | 'network' | 'service' | 'serviceAt'>,
  services: Pick<ServiceResolver, 'endpointsOf'>
): NamesView {
  return {
    lookup: (name, asked) => {
      const network = state.network(name)
      const service = state.service(name, asked as ServiceName)
      if (network === undefined) return null
      if (service !== undefined && service.addresses.length > 0) return { addresses: service.addresses }
      const found = service === undefined ? state.endpointsNamed(name, asked) : services.endpointsOf(name, service.name)
      if (service === undefined && found.length === 0) return null
      return { addresses: found.flatMap(endpoint => addressesOf(network, endpoint)) }
    },
    nameOf: (name, address) => {
      const service = state.serviceAt(name, address)
      if (service !== undefined) return service.name
      const endpoint = state.endpointAt(name, address)
      return endpoint === undefined ? null : (ownNameOf(endpoint) ?? idNameOf(endpoint))
    }
  }
}
