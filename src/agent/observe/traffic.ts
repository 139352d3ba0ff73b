// Traffic of this host's endpoints by network: each counter sample is added to the totals, and a scrape reads both. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { NetworkTraffic } from '#metrics/figures.ts'
import type { NetworkName, PeerId } from '#model/ids.ts'
import type { Counters } from '#overlay/driver.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import type { CounterWindow } from './counters.ts'
import type { NetworkTotals } from './network-totals.ts'

export type TrafficSources = {
  readonly self: PeerId
  readonly state: Pick<ClusterState, 'endpointsOnHost' | 'network'>
  readonly totals: NetworkTotals
}

/** Adds a sample of this host's counters to the totals, and drops the totals of networks that were deleted. */
export function countTraffic(sources: TrafficSources, counters: ReadonlyMap<string, Counters>): void {
  const { state, totals } = sources
  const networks = networksByInterface(sources)
  totals.add(counters, hostInterface => networks.get(hostInterface))
  totals.keep(network => state.network(network) !== undefined)
}

/** Endpoints, rates and totals of the listed networks that have endpoints here. */
export function trafficOf(
  sources: TrafficSources & { readonly counters: Pick<CounterWindow, 'latest'> },
  listed: ReadonlySet<NetworkName>
): readonly NetworkTraffic[] {
  const latest = sources.counters.latest()
  const byNetwork = new Map<NetworkName, { endpoints: number; rxRate: number; txRate: number }>()
  for (const [hostInterface, network] of networksByInterface(sources)) {
    if (!listed.has(network)) continue
    const { rxRate, txRate } = latest.rates(hostInterface)
    const sum = byNetwork.get(network) ?? { endpoints: 0, rxRate: 0, txRate: 0 }
    byNetwork.set(network, {
      endpoints: sum.endpoints + 1,
      rxRate: sum.rxRate + (rxRate ?? 0),
      txRate: sum.txRate + (txRate ?? 0)
    })
  }
  return [...byNetwork].map(([network, sum]) => ({ network, ...sum, ...sources.totals.of(network) }))
}

/** The networks of this host's endpoints, keyed by host interface. */
function networksByInterface({ state, self }: TrafficSources): ReadonlyMap<string, NetworkName> {
  return new Map(state.endpointsOnHost(self).map(e => [vethName(e.containerId, e.ifname), e.network]))
}
