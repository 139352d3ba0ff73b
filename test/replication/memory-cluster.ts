// Whole hosts in memory on one manual clock, which see each other as Serf would list them.

import type { Test } from 'tap'
import { digestOf } from '#allocator/digest.ts'
import type { Member } from '#model/member.ts'
import type { Random } from '#platform/random.ts'
import { peer } from '#test/allocator/fixtures.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { Random as Generator } from '#test/sim/random.ts'
import { MemoryHost } from './memory-host.ts'
import { MemoryNetwork } from './memory-mesh.ts'

/** The same numbers every time. */
export function seededRandom(seed: number): Random {
  const generator = new Generator(seed)
  let ids = 0
  return { unit: () => generator.unit(), id: () => `session-${seed}-${(ids += 1)}` }
}

export class MemoryCluster {
  readonly manual = new ManualClock()
  readonly network: MemoryNetwork
  readonly hosts: MemoryHost[] = []
  /** Hosts that Serf does not list yet. */
  readonly hidden = new Set<MemoryHost>()
  /** Members without a running host. */
  readonly strangers: Member[] = []
  readonly #random: Random

  constructor(seed = 1) {
    this.#random = seededRandom(seed)
    this.network = new MemoryNetwork({ clock: this.manual.clock, random: this.#random })
  }

  /** Servers that have founded a cluster, all of them ready. */
  static async founded(
    t: Test,
    p: { servers?: number; seed?: number; snapshotBytes?: number } = {}
  ): Promise<MemoryCluster> {
    const { servers = 3, seed = 1, ...more } = p
    const cluster = new MemoryCluster(seed)
    t.teardown(() => cluster.stop())
    for (let n = 0; n < servers; n++) cluster.add({ bootstrapExpect: servers, ...more })
    for (const host of cluster.hosts) await host.start()
    await cluster.until('a leader is known to all', () => cluster.agreesOnLeader())
    return cluster
  }

  /** A new host, not started. */
  add(p: { role?: 'server' | 'client'; bootstrapExpect?: number; snapshotBytes?: number } = {}): MemoryHost {
    const n = this.hosts.length + 1
    const { role = 'server', bootstrapExpect = 0, ...more } = p
    const host = new MemoryHost({
      ...more,
      n,
      peer: peer(n),
      role,
      bootstrapExpect,
      network: this.network,
      clock: this.manual.clock,
      random: this.#random,
      members: () => this.#members()
    })
    this.hosts.push(host)
    return host
  }

  /** Starts a client that follows the cluster. */
  async client(): Promise<MemoryHost> {
    const host = this.add({ role: 'client' })
    await host.start()
    return host
  }

  get up(): MemoryHost[] {
    return this.hosts.filter(host => host.isUp)
  }

  /** The host that leads, as it knows itself. */
  leader(): MemoryHost | undefined {
    return this.up.find(host => host.replicator.log.status().role === 'leader')
  }

  /** @throws when no host leads */
  get leading(): MemoryHost {
    const leader = this.leader()
    if (leader === undefined) throw new Error('no host leads')
    return leader
  }

  agreesOnLeader(hosts: readonly MemoryHost[] = this.up): boolean {
    const [first, ...more] = new Set(hosts.map(host => host.replicator.log.status().leader))
    return first !== undefined && first !== null && more.length === 0
  }

  /** Do these hosts have the same state? */
  agrees(hosts: readonly MemoryHost[] = this.up): boolean {
    return new Set(hosts.map(({ state }) => `${state.appliedIndex} ${digestOf(state)}`)).size === 1
  }

  advance(ms: number): Promise<void> {
    return this.manual.advance(ms)
  }

  /** Advances time until the condition holds. @throws after `withinMs` of the manual clock */
  async until(what: string, condition: () => boolean, withinMs = 30_000): Promise<void> {
    const { clock } = this.manual
    for (const end = clock.nowMs() + withinMs; !condition();) {
      if (clock.nowMs() >= end) throw new Error(`not within ${withinMs} ms of the manual clock: ${what}`)
      await this.advance(10)
    }
  }

  /** Advances time until the promise settles. */
  async settle<T>(promise: Promise<T>, withinMs = 90_000): Promise<T> {
    let settled = false
    const done = promise.finally(() => {
      settled = true
    })
    done.catch(() => undefined)
    await this.until('it is settled', () => settled, withinMs)
    return done
  }

  async stop(): Promise<void> {
    for (const host of this.up) {
      const stopped = host.stop()
      await this.settle(stopped)
    }
  }

  #members(): readonly Member[] {
    return [...this.hosts.filter(host => !this.hidden.has(host)).map(({ member }) => member), ...this.strangers]
  }
}
