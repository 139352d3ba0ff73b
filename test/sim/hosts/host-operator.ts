// The operator of whole hosts: has a desired set of servers, and asks any running server to add or remove one at a time
// until the configuration of the leader matches.

import type { PeerProgress } from '#replication/consensus/peers.ts'
import type { Counters } from '../counters.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { SimHost } from './host.ts'

const REVIEW_MS = 1_000
/** Longer than any request of an operator takes, unless the host that was asked has crashed. */
const GIVE_UP_MS = 70_000

export class HostOperator {
  readonly desired: Set<SimHost>
  readonly #hosts: readonly SimHost[]
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #probes: Counters
  /** The host that was asked and has not answered. */
  #asked: { readonly process: SimHost['process']; readonly host: SimHost; readonly untilMs: number } | null = null

  constructor(p: {
    readonly hosts: readonly SimHost[]
    readonly founders: readonly SimHost[]
    readonly random: Random
    readonly schedule: Schedule
    readonly probes: Counters
  }) {
    this.#hosts = p.hosts
    this.#random = p.random
    this.#schedule = p.schedule
    this.#probes = p.probes
    this.desired = new Set(p.founders)
  }

  start(): void {
    this.#schedule.after(REVIEW_MS, () => {
      void this.#review()
      this.start()
    })
  }

  /** Adds or removes a random host of the role server. */
  changeServers(): boolean {
    const host = this.#random.pick(this.#hosts.filter(({ role }) => role === 'server'))
    if (!this.desired.has(host)) this.desired.add(host)
    else if (this.desired.size > 1) this.desired.delete(host)
    return true
  }

  /** @returns false if it is the last server */
  remove(host: SimHost): boolean {
    return this.desired.size > 1 && this.desired.delete(host)
  }

  transfer(): boolean {
    const to = this.#random.pick([...this.desired])
    const replicator = this.#pickHost()?.replicator ?? null
    if (replicator === null) return false
    replicator.cluster.transferLeadership(to.peerId).then(
      () => this.#probes.add('leadership-transferred'),
      () => undefined
    )
    return true
  }

  /** The voters and learners, as the leader knows them; null without a leader. */
  async servers(): Promise<readonly PeerProgress[] | null> {
    const leader = this.#hosts.find(host => host.isLeader)
    return (await leader?.replicator?.cluster.peers()) ?? null
  }

  async #review(): Promise<void> {
    if (this.#isWaiting()) return
    const servers = await this.servers()
    if (servers === null || this.#isWaiting()) return
    const voters = servers.filter(({ voter }) => voter).map(({ peerId }) => peerId)
    const missing = [...this.desired].find(({ peerId }) => !voters.includes(peerId))
    const isServer = (host: SimHost): boolean => servers.some(({ peerId }) => peerId === host.peerId)
    const surplus = this.#hosts.find(host => isServer(host) && !this.desired.has(host))
    if (missing !== undefined) this.#ask(missing, 'server-added')
    else if (surplus !== undefined) this.#ask(surplus, 'server-removed')
  }

  #ask(subject: SimHost, what: 'server-added' | 'server-removed'): void {
    const host = this.#pickHost(({ isVoter }) => isVoter)
    const cluster = host?.replicator?.cluster
    if (host === undefined || cluster === undefined) return
    const asked = { process: host.process, host, untilMs: this.#schedule.nowMs + GIVE_UP_MS }
    this.#asked = asked
    const done = what === 'server-added' ? cluster.addServer(subject.peerId) : cluster.removeServer(subject.peerId)
    done
      .then(
        () => this.#probes.add(what),
        () => undefined
      )
      .finally(() => {
        if (this.#asked === asked) this.#asked = null
      })
  }

  #isWaiting(): boolean {
    const asked = this.#asked
    return asked !== null && asked.host.process === asked.process && this.#schedule.nowMs < asked.untilMs
  }

  #pickHost(may: (host: SimHost) => boolean = () => true): SimHost | undefined {
    const running = this.#hosts.filter(host => host.replicator !== null && may(host))
    return running.length === 0 ? undefined : this.#random.pick(running)
  }
}
