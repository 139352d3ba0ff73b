// Traffic of this host by network, as totals that never fall: a device's counters end with the device, a network's total
// does not. Counting starts with the first sample; what was counted before it belongs to an earlier agent.

import type { NetworkName } from '#model/ids.ts'
import type { Counters } from '#overlay/driver.ts'
import { continues } from './counters.ts'

export type Totals = Omit<Counters, 'ifindex'>

const NOTHING: Totals = { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 }

export class NetworkTotals {
  readonly #totals = new Map<NetworkName, Totals>()
  #last: ReadonlyMap<string, Counters> | null = null

  of(network: NetworkName): Totals {
    return this.#totals.get(network) ?? NOTHING
  }

  /** @param networkOf the network of a host interface; undefined if it has none */
  add(counters: ReadonlyMap<string, Counters>, networkOf: (hostInterface: string) => NetworkName | undefined): void {
    const before = this.#last
    this.#last = counters
    if (before === null) return
    for (const [hostInterface, now] of counters) {
      const network = networkOf(hostInterface)
      if (network === undefined) continue
      const last = before.get(hostInterface)
      const since = last !== undefined && continues(last, now) ? last : NOTHING
      this.#totals.set(network, sum(this.of(network), now, since))
    }
  }

  /** Forgets networks that no longer exist, so that a new one of the same name starts at zero. */
  keep(exists: (network: NetworkName) => boolean): void {
    for (const network of this.#totals.keys()) if (!exists(network)) this.#totals.delete(network)
  }
}

function sum(total: Totals, now: Totals, since: Totals): Totals {
  return {
    rxBytes: total.rxBytes + now.rxBytes - since.rxBytes,
    txBytes: total.txBytes + now.txBytes - since.txBytes,
    rxPackets: total.rxPackets + now.rxPackets - since.rxPackets,
    txPackets: total.txPackets + now.txPackets - since.txPackets
  }
}
