// Reads the counters of all containers by one small dump. Names are read again only when a device is new.

import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { Counters } from '../driver.ts'
import { getLinks } from '../netlink/link.ts'
import { decodeStats, getStats, RTM_NEWSTATS } from '../netlink/stats.ts'
import { isMarkedOurs, nameRole } from '../plan/network/names.ts'
import { readLinks } from '../kernel/kernel.ts'

export class CounterReader {
  readonly #socket: NetlinkSocket
  /** By ifindex; null for a device that is no container's. The kernel does not reuse an index. */
  #names: ReadonlyMap<number, string | null> = new Map()

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  /** By host interface. @throws ERR_KERNEL */
  read(): ReadonlyMap<string, Counters> {
    const stats = this.#socket.dump(
      getStats(),
      (type, payload) => (type === RTM_NEWSTATS ? (decodeStats(payload) ?? undefined) : undefined),
      'read counters'
    )
    if (stats.some(({ ifindex }) => !this.#names.has(ifindex))) this.#readNames(stats)
    const found = new Map<string, Counters>()
    for (const { ifindex, counters } of stats) {
      const name = this.#names.get(ifindex) ?? null
      if (name === null) continue
      // The host's end sends what the container receives.
      found.set(name, {
        ifindex,
        rxBytes: counters.txBytes,
        txBytes: counters.rxBytes,
        rxPackets: counters.txPackets,
        txPackets: counters.rxPackets
      })
    }
    return found
  }

  #readNames(stats: readonly { readonly ifindex: number }[]): void {
    const names = new Map<number, string | null>(stats.map(({ ifindex }) => [ifindex, null]))
    for (const link of readLinks(this.#socket, getLinks({ kind: 'veth' }))) {
      if (nameRole(link.name)?.role !== 'veth') continue
      // Without its alias yet: read again the next time.
      if (link.alias === '') names.delete(link.ifindex)
      else if (isMarkedOurs(link)) names.set(link.ifindex, link.name)
    }
    this.#names = names
  }
}
