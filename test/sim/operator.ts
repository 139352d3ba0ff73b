// The operator of the cluster: has a desired set of voters, and requests one membership change at a time from whichever
// server leads until the configuration matches. A server whose disk was replaced is removed and re-added.

import type { PeerId } from '#model/ids.ts'
import { incarnationOf, isMember, isVoter } from '#raft/configuration.ts'
import type { Change, Configuration } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Answer, Server } from './server.ts'
import type { Counters } from './counters.ts'

/** Ids of proposals count up from 1, ids of changes count down. */
const FIRST_CHANGE = -1

export class Operator {
  readonly #servers: readonly Server[]
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #probes: Counters
  readonly desiredVoters: Set<PeerId>
  readonly #inFlight = new Map<number, { readonly server: Server; readonly life: Server['life'] }>()
  #next = FIRST_CHANGE

  constructor(p: {
    readonly servers: readonly Server[]
    readonly random: Random
    readonly schedule: Schedule
    readonly probes: Counters
    readonly voters: readonly PeerId[]
  }) {
    this.#servers = p.servers
    this.#random = p.random
    this.#schedule = p.schedule
    this.#probes = p.probes
    this.desiredVoters = new Set(p.voters)
  }

  /** No requested change can still take effect, and no member's disk was replaced. */
  get idle(): boolean {
    // A request to a crashed server is lost, or already in its log.
    const mayTakeEffect = [...this.#inFlight.values()].some(({ server, life }) => server.life === life)
    return !mayTakeEffect && this.#servers.every(server => !this.#diskWasReplaced(server))
  }

  start(everyMs: number): void {
    this.#schedule.after(this.#random.between(0, 2 * everyMs), () => {
      for (const server of this.#servers) if (server.isLeader) this.#review(server)
      this.start(everyMs)
    })
  }

  /** Asks a leader to remove a random other voter, whatever the desired set: a later change adds it again. */
  removeRandomVoter(leader: Server): void {
    const voters = leader.life?.state.configuration.voters ?? []
    if (voters.length < 3) return
    const peer = this.#random.pick(voters)
    const isSafe = this.#servers.every(server => !this.#diskWasReplaced(server))
    if (peer !== leader.id && isSafe) this.#ask(leader, { kind: 'remove', peer })
  }

  answered(answer: Answer): void {
    this.#inFlight.delete(answer.id)
    if (answer.kind === 'refused') {
      if (answer.reason === 'not-caught-up') this.#probes.add('promotion-refused')
      if (answer.reason === 'change-under-way') this.#probes.add('change-refused-while-one-is-in-progress')
      if (answer.reason === 'no-own-commit') this.#probes.add('change-refused-before-own-commit')
    }
  }

  #review(leader: Server): void {
    const configuration = leader.life?.state.configuration
    if (configuration === undefined) return
    const change = this.#nextChange(leader, configuration)
    if (change === null) return
    this.#ask(leader, change)
    // Sometimes the request is duplicated: only one of the two may take effect.
    if (this.#random.chance(0.1)) leader.handle({ kind: 'change', id: this.#next--, change })
  }

  #ask(leader: Server, change: Change): void {
    const id = this.#next--
    this.#inFlight.set(id, { server: leader, life: leader.life })
    leader.handle({ kind: 'change', id, change })
  }

  #nextChange(leader: Server, configuration: Configuration): Change | null {
    for (const { id, disk } of this.#servers) {
      if (isMember(configuration, id) && (disk.damaged || incarnationOf(configuration, id) !== disk.incarnation)) {
        return { kind: 'remove', peer: id }
      }
    }
    for (const { id, disk } of this.#servers) {
      if (!this.desiredVoters.has(id) || isVoter(configuration, id)) continue
      const isNew = !isMember(configuration, id)
      return isNew ? { kind: 'add-learner', peer: id, incarnation: disk.incarnation } : { kind: 'promote', peer: id }
    }
    // A leader that is to be removed goes last.
    const unwanted = this.#servers.filter(({ id }) => isMember(configuration, id) && !this.desiredVoters.has(id))
    const first = unwanted.find(server => server !== leader) ?? unwanted[0]
    return first === undefined ? null : { kind: 'remove', peer: first.id }
  }

  #diskWasReplaced({ id, disk }: Server): boolean {
    return this.#servers.some(({ life }) => {
      const configuration = life?.state.configuration
      if (configuration === undefined) return false
      return isMember(configuration, id) && (disk.damaged || incarnationOf(configuration, id) !== disk.incarnation)
    })
  }
}
