// Reads the counters of all containers by one small dump, and those of what programs delivered past the devices. Names are
// read again only when a device is new.

import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { Counters } from '../driver.ts'
import type { PortTraffic } from '../plan/programs/entries.ts'
import { getLinks } from '../netlink/link.ts'
import { decodeStats, getStats, RTM_NEWSTATS } from '../netlink/stats.ts'
import { isMarkedOurs, nameRole } from '../plan/network/names.ts'
import { readLinks } from '../kernel/kernel.ts'

export class CounterReader {
  readonly #socket: NetlinkSocket
  /** By ifindex; null for a device that is no container's. The kernel does not reuse an index. */
  #names: ReadonlyMap<number, string | null> = new Map()

  readonly #traffic: () => ReadonlyMap<number, PortTraffic>

  /** @param traffic what programs counted, by ifindex */
  constructor(socket: NetlinkSocket, traffic: () => ReadonlyMap<number, PortTraffic>) {
    this.#socket = socket
    this.#traffic = traffic
  }

  /** By host interface. @throws ERR_KERNEL */
  read(): ReadonlyMap<string, Counters> {
    const stats = this.#socket.dump(
      getStats(),
      (type, payload) => (type === RTM_NEWSTATS ? (decodeStats(payload) ?? undefined) : undefined),
      'read counters'
    )
    if (stats.some(({ ifindex }) => !this.#names.has(ifindex))) this.#readNames(stats)
    const redirected = this.#traffic()
    const found = new Map<string, Counters>()
    for (const { ifindex, counters } of stats) {
      const name = this.#names.get(ifindex) ?? null
      if (name === null) continue
      const { redirectedBytes = 0, redirectedPackets = 0 } = redirected.get(ifindex) ?? {}
      // The host's end sends what the container receives.
      found.set(name, {
        ifindex,
        rxBytes: counters.txBytes + redirectedBytes,
        txBytes: counters.rxBytes,
        rxPackets: counters.txPackets + redirectedPackets,
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
