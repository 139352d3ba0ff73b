// One simulated cluster of consensus cores, built from a seed. Three phases: faults are injected (safety is checked at
// every event), then all faults end and the cluster must recover, then a healthy cluster must stay healthy.
//
// Terms: a *probe* counts a rare situation that was reached; a *mutant* is a deliberate bug that a run must detect; a
// *hint* is a peer-lost event; the *operator* requests membership changes; a *life* is one run of a server's process;
// *leader churn* and *stale replies* are composite faults with files of their own.

import type { PeerId } from '#model/ids.ts'
import type { Message, RaftOptions } from '#raft/types.ts'
import { Clients } from './clients.ts'
import { Invariants } from './invariants.ts'
import type { Mutant } from './mutant.ts'
import { StaleReplies } from './stale-replies.ts'
import { LeaderChurn } from './leader-churn.ts'
import { FAULTS, failLeader, injectFaults, type FaultContext } from './faults.ts'
import { NO_FAULTS, Network } from './network.ts'
import { Operator } from './operator.ts'
import { checkHealthyCluster } from './healthy-cluster.ts'
import { PROBES } from './probes.ts'
import { Random } from './random.ts'
import type { RunResult } from './run-result.ts'
import { Schedule } from './schedule.ts'
import { Server, type ServerWorld } from './server.ts'
import { Counters, TraceHash } from './counters.ts'
import { PeerLostHints } from './peer-lost-hints.ts'

const LOADS = [
  { callers: 2, thinkMs: 150 },
  { callers: 6, thinkMs: 400 },
  { callers: 12, thinkMs: 800 },
  { callers: 12, thinkMs: 100 }
] as const
const FAULTS_MS = 30_000
/** Long enough for a hung disk to return (10 s), then to elect a leader, change servers and catch up. */
const RECOVERY_MS = 20_000
/** Messages kept for a late replay. */
const REMEMBERED_MESSAGES = 64

export function simulate(seed: number, mutant: Mutant | null = null): RunResult {
  const world = new World(seed, mutant)
  return world.run()
}

class World {
  readonly #seed: number
  readonly #random: Random
  readonly #schedule = new Schedule()
  readonly #invariants = new Invariants()
  readonly #faults = new Counters(FAULTS)
  readonly #probes = new Counters(PROBES)
  readonly #trace = new TraceHash()
  readonly #servers: readonly Server[]
  readonly #network: Network
  readonly #hints: PeerLostHints
  readonly #clients: Clients
  readonly #leaderChurn: LeaderChurn
  readonly #operator: Operator
  readonly #staleReplies: StaleReplies
  readonly #byId = new Map<PeerId, Server>()
  readonly #faultContext: FaultContext
  readonly #sentMessages: Message[] = []
  #events = 0

  constructor(seed: number, mutant: Mutant | null) {
    this.#seed = seed
    this.#random = new Random(seed)
    const random = this.#random
    const size = random.pick([1, 2, 3, 3, 3, 3, 4, 4, 5, 5])
    const spare = random.pick([0, 0, 0, 1, 2])
    const voters = Array.from({ length: size }, (_, n) => `s${n}` as PeerId)
    const shared: ServerWorld = {
      random: this.#random,
      schedule: this.#schedule,
      invariants: this.#invariants,
      probes: this.#probes,
      trace: this.#trace,
      mutant,
      options: this.#options(),
      configuration: { voters, learners: [] },
      snapshotEvery: random.pick([Infinity, 5, 30, 200]),
      send: message => {
        this.#send(message)
      },
      answered: (server, answer) => {
        if (answer.id > 0) this.#clients.answered(server, answer)
        else this.#operator.answered(answer)
      },
      countEvent: () => {
        this.#events += 1
      },
      elected: server => {
        this.#leaderChurn.elected(server)
      },
      crashed: server => {
        this.#hints.crashed(server.id)
      },
      handled: (server, event, becameCandidate) => {
        this.#staleReplies.handled(server, event, becameCandidate)
      }
    }
    this.#servers = Array.from({ length: size + spare }, (_, n) => {
      return new Server(n, n < size ? 0 : 1 + random.below(1_000), shared)
    })
    for (const server of this.#servers) this.#byId.set(server.id, server)
    this.#network = new Network({
      faultRates: { ...NO_FAULTS },
      random: this.#random,
      schedule: this.#schedule,
      faults: this.#faults,
      deliver: message => {
        this.#deliver(message)
      },
      linkCut: (a, b) => {
        this.#hints.cut(a, b)
      }
    })
    this.#hints = new PeerLostHints({
      ...shared,
      faults: this.#faults,
      peers: this.#servers.map(({ id }) => id),
      deliver: (at, peer) => {
        this.#byId.get(at)?.handle({ kind: 'peer-lost', peer })
      }
    })
    this.#clients = new Clients({ ...shared, servers: this.#servers })
    this.#operator = new Operator({ ...shared, servers: this.#servers, voters })
    this.#staleReplies = new StaleReplies({
      ...shared,
      deliver: message => {
        this.#deliver(message)
      }
    })
    this.#leaderChurn = new LeaderChurn({
      ...shared,
      requestChange: server => {
        this.#operator.removeRandomVoter(server)
      },
      cutOneLink: server => {
        this.#network.cut(server.id, this.#random.pick(this.#servers).id)
      },
      fail: leader => {
        failLeader(this.#faultContext, leader)
      },
      propose: server => {
        this.#clients.propose(server)
      }
    })
    this.#faultContext = {
      ...shared,
      servers: this.#servers,
      network: this.#network,
      hints: this.#hints,
      faults: this.#faults,
      leaderChurn: this.#leaderChurn,
      operator: this.#operator,
      staleReplies: this.#staleReplies,
      replay: () => (this.#sentMessages.length === 0 ? null : this.#random.pick(this.#sentMessages)),
      deliver: message => {
        this.#deliver(message)
      }
    }
  }

  run(): RunResult {
    for (const server of this.#servers) server.start()
    injectFaults(this.#faultContext, FAULTS_MS)
    this.#operator.start(this.#random.pick([50, 200, 1_000]))
    this.#clients.run({ ...this.#random.pick(LOADS), untilMs: FAULTS_MS })
    this.#runUntil(FAULTS_MS)
    if (this.#isSound) this.#recover()
    if (this.#isSound) this.#checkHealthy()
    return {
      seed: this.#seed,
      violation: this.#invariants.violation,
      events: this.#events,
      committed: this.#invariants.committed.length,
      acknowledged: this.#clients.acknowledged,
      faults: this.#faults,
      probes: this.#probes,
      simulatedMs: this.#schedule.nowMs,
      traceHash: this.#trace.hex
    }
  }

  /** Ends all faults; the cluster must recover by itself. */
  #recover(): void {
    this.#network.reset()
    this.#hints.reset()
    this.#leaderChurn.stop()
    this.#staleReplies.replayUntil(0)
    // Sometimes all servers start at the same instant: only random timeouts then break the symmetry.
    if (this.#random.chance(0.3)) for (const server of this.#servers) server.crash(false)
    for (const server of this.#servers) {
      server.diskDelayMs = 0
      server.failSync = false
      server.disk.full = false
      server.setClockRate(1)
      if (server.life === null) server.start()
    }
    const before = this.#clients.acknowledged
    for (let atMs = FAULTS_MS + 1_000; atMs < FAULTS_MS + RECOVERY_MS; atMs += 1_000) {
      this.#runUntil(atMs)
      for (const leader of this.#servers.filter(server => server.isLeader)) this.#clients.propose(leader)
    }
    this.#runUntil(FAULTS_MS + RECOVERY_MS)
    if (!this.#isSound) return
    if (this.#clients.acknowledged === before) this.#invariants.fail('no progress after all faults have ended')
    const { length } = this.#invariants.committed
    const leader = this.#servers.find(server => server.isLeader)
    const voters = leader?.life?.state.configuration.voters ?? []
    const { desiredVoters } = this.#operator
    if (voters.length !== desiredVoters.size || !voters.every(voter => desiredVoters.has(voter)))
      this.#invariants.fail(`the final voters are ${voters.join(' ')} instead of ${[...desiredVoters].join(' ')}`)
    for (const voter of voters) {
      const applied = this.#byId.get(voter)?.life?.applied ?? 0
      if (applied !== length) this.#invariants.fail(`${voter} has applied ${applied} of ${length} entries at the end`)
    }
  }

  #checkHealthy(): void {
    const { desiredVoters } = this.#operator
    checkHealthyCluster({
      voters: this.#servers.filter(({ id }) => desiredVoters.has(id)),
      random: this.#random,
      schedule: this.#schedule,
      network: this.#network,
      hints: this.#hints,
      invariants: this.#invariants,
      runUntil: atMs => {
        this.#runUntil(atMs)
      }
    })
  }

  get #isSound(): boolean {
    return this.#invariants.violation === null
  }

  #runUntil(untilMs: number): void {
    this.#schedule.runUntil(untilMs, () => this.#isSound)
  }

  #send(message: Message): void {
    if (this.#sentMessages.length < REMEMBERED_MESSAGES) this.#sentMessages.push(message)
    else if (this.#random.chance(0.01)) this.#sentMessages[this.#random.below(REMEMBERED_MESSAGES)] = message
    this.#staleReplies.sent(message)
    this.#network.send(message)
  }

  #deliver(message: Message): void {
    this.#byId.get(message.to)?.handle({ kind: 'receive', message })
    this.#leaderChurn.handled(message)
  }

  /** Small limits, so that paging, full windows and refusals are common. */
  #options(): RaftOptions {
    return {
      electionTimeoutMs: 500,
      heartbeatMs: 100,
      maxAppendBytes: this.#random.pick([1, 16, 100, 10_000]),
      maxInflightAppends: this.#random.pick([1, 2, 8]),
      maxUncommittedBytes: this.#random.pick([200, 5_000, 1_000_000]),
      keptEntries: this.#random.pick([0, 3, 50]),
      maxChunkBytes: this.#random.pick([16, 100, 100_000]),
      maxSnapshotBytes: 1_000_000
    }
  }
}
