// Hosts in memory with an Rpc each, for tests of single requests.

import type { PeerId } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { Rpc } from '#replication/transport/rpc.ts'
import { peer } from '#test/allocator/fixtures.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { seededRandom } from './memory-cluster.ts'
import { MemoryNetwork, type MemoryMesh } from './memory-mesh.ts'

export type Caller = { readonly peer: PeerId; readonly rpc: Rpc; readonly mesh: MemoryMesh }

export class MemoryCallers {
  readonly manual = new ManualClock()
  readonly network = new MemoryNetwork({ clock: this.manual.clock, random: seededRandom(1) })
  readonly callers: Caller[] = []

  /** As many hosts as asked for, each knowing the addresses of the others. */
  static async of(count: number): Promise<MemoryCallers> {
    const all = new MemoryCallers()
    const peers = Array.from({ length: count }, (_, n) => peer(n + 1))
    for (const self of peers) {
      const mesh = all.network.join(self)
      for (const other of peers) mesh.setAddress(other, { address: 1 as Ipv4, port: 1 })
      const rpc = new Rpc({ mesh, clock: all.manual.clock })
      await rpc.start()
      all.callers.push({ peer: self, rpc, mesh })
    }
    return all
  }

  at(n: number): Caller {
    const caller = this.callers[n]
    if (caller === undefined) throw new Error(`there are ${this.callers.length} hosts`)
    return caller
  }

  /** Advances time until the promise settles. */
  async settle<T>(promise: Promise<T>, stepMs = 5): Promise<T> {
    const outcome = { settled: false }
    const done = promise.finally(() => {
      outcome.settled = true
    })
    done.catch(() => undefined)
    const { clock } = this.manual
    for (const end = clock.nowMs() + 120_000; !outcome.settled;) {
      if (clock.nowMs() > end) throw new Error('not settled within two minutes of the manual clock')
      await this.manual.advance(stepMs)
    }
    return done
  }
}
