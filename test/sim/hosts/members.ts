// Each host's view of the members, as Serf would give it: refreshed from time to time, so that it is stale after every
// change. A host without power, or behind a cut link, is seen as failed.

import type { Member, MemberStatus } from '#model/member.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { HostNetwork } from './host-network.ts'
import type { SimHost } from './host.ts'

const REFRESH_MS = 800

export class Members {
  readonly #views = new Map<SimHost, readonly Member[]>()
  readonly #network: HostNetwork
  /** Listed to all beside the hosts. */
  stranger: () => Member | null = () => null

  constructor(network: HostNetwork) {
    this.#network = network
  }

  of(observer: SimHost): readonly Member[] {
    return this.#views.get(observer) ?? []
  }

  /** Keeps all views up to date, each at its own times. */
  start(p: { readonly hosts: readonly SimHost[]; readonly random: Random; readonly schedule: Schedule }): void {
    for (const observer of p.hosts) {
      const refresh = (): void => {
        this.#refresh(observer, p.hosts)
        p.schedule.after(p.random.between(REFRESH_MS / 2, REFRESH_MS), refresh)
      }
      p.schedule.after(p.random.between(0, REFRESH_MS), refresh)
    }
  }

  #refresh(observer: SimHost, hosts: readonly SimHost[]): void {
    const before = JSON.stringify(this.of(observer))
    const view = hosts.map(subject => ({ ...subject.member, status: this.#status(observer, subject) }))
    const stranger = this.stranger()
    const all = stranger === null ? view : [stranger, ...view]
    this.#views.set(observer, all)
    const { process } = observer
    if (JSON.stringify(all) !== before) process?.life.run(() => process.replicator.cluster.membersChanged())
  }

  #status(observer: SimHost, subject: SimHost): MemberStatus {
    const [a, b] = [observer.peerId, subject.peerId]
    const isReachable = this.#network.canReach(a, b) && this.#network.canReach(b, a)
    return subject.isPowered && isReachable ? 'alive' : 'failed'
  }
}
