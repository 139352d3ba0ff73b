// Whoever runs the cluster: wishes for a set of voters, and asks leader after leader for one change at a time until it
// is so. A server whose disk was replaced is removed and added again.

import type { PeerId } from '#model/ids.ts'
import { incarnationOf, isMember, isVoter } from '#raft/configuration.ts'
import type { Change, Configuration } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Answer, Server } from './server.ts'
import type { Tally } from './counters.ts'

/** Proposals count up from 1; changes are told apart by counting down. */
const FIRST_CHANGE = -1

export class Operator {
  readonly #servers: readonly Server[]
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #probes: Tally
  readonly wish: Set<PeerId>
  readonly #underWay = new Map<number, { readonly server: Server; readonly life: Server['life'] }>()
  #next = FIRST_CHANGE

  constructor(p: {
    readonly servers: readonly Server[]
    readonly random: Random
    readonly schedule: Schedule
    readonly probes: Tally
    readonly voters: readonly PeerId[]
  }) {
    this.#servers = p.servers
    this.#random = p.random
    this.#schedule = p.schedule
    this.#probes = p.probes
    this.wish = new Set(p.voters)
  }

  /** Is nothing asked for that may still happen, and is every disk the one that the servers take it for? */
  get atRest(): boolean {
    // What a dead server was asked for has died with it, or is in its log.
    const mayHappen = [...this.#underWay.values()].some(({ server, life }) => server.life === life)
    return !mayHappen && this.#servers.every(server => !this.#isReplaced(server))
  }

  work(everyMs: number): void {
    this.#schedule.after(this.#random.between(0, 2 * everyMs), () => {
      for (const server of this.#servers) if (server.isLeader) this.#review(server)
      this.work(everyMs)
    })
  }

  /** Asks a leader to let go of one of the others, whatever is wished for: another leader will take it back. */
  meddle(leader: Server): void {
    const voters = leader.life?.state.configuration.voters ?? []
    if (voters.length < 3) return
    const peer = this.#random.pick(voters)
    const isSafe = this.#servers.every(server => !this.#isReplaced(server))
    if (peer !== leader.id && isSafe) this.#ask(leader, { kind: 'remove', peer })
  }

  answered(answer: Answer): void {
    this.#underWay.delete(answer.id)
    if (answer.kind === 'refused') {
      if (answer.reason === 'not-caught-up') this.#probes.add('promotion-refused')
      if (answer.reason === 'change-under-way') this.#probes.add('change-refused-while-one-is-under-way')
      if (answer.reason === 'no-own-commit') this.#probes.add('change-refused-before-own-commit')
    }
  }

  #review(leader: Server): void {
    const configuration = leader.life?.state.configuration
    if (configuration === undefined) return
    const change = this.#nextChange(leader, configuration)
    if (change === null) return
    this.#ask(leader, change)
    // Sometimes twice: only one of them may count.
    if (this.#random.chance(0.1)) leader.give({ kind: 'change', id: this.#next--, change })
  }

  #ask(leader: Server, change: Change): void {
    const id = this.#next--
    this.#underWay.set(id, { server: leader, life: leader.life })
    leader.give({ kind: 'change', id, change })
  }

  #nextChange(leader: Server, configuration: Configuration): Change | null {
    for (const { id, disk } of this.#servers) {
      if (isMember(configuration, id) && (disk.damaged || incarnationOf(configuration, id) !== disk.incarnation)) {
        return { kind: 'remove', peer: id }
      }
    }
    for (const { id, disk } of this.#servers) {
      if (!this.wish.has(id) || isVoter(configuration, id)) continue
      const isNew = !isMember(configuration, id)
      return isNew ? { kind: 'add-learner', peer: id, incarnation: disk.incarnation } : { kind: 'promote', peer: id }
    }
    // Others first; a leader that is not wanted goes last.
    const unwanted = this.#servers.filter(({ id }) => isMember(configuration, id) && !this.wish.has(id))
    const first = unwanted.find(server => server !== leader) ?? unwanted[0]
    return first === undefined ? null : { kind: 'remove', peer: first.id }
  }

  #isReplaced({ id, disk }: Server): boolean {
    return this.#servers.some(({ life }) => {
      const configuration = life?.state.configuration
      if (configuration === undefined) return false
      return isMember(configuration, id) && (disk.damaged || incarnationOf(configuration, id) !== disk.incarnation)
    })
  }
}
