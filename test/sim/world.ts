// One simulated cluster, from a seed: servers, network, callers and everything that goes wrong. After the storm all
// heals, and then a majority must make progress and agree: safety is watched at every event, liveness at the end.

import type { PeerId } from '#model/ids.ts'
import type { Message, RaftOptions } from '#raft/types.ts'
import { Clients } from './clients.ts'
import { Invariants } from './invariants.ts'
import type { Mutant } from './mutant.ts'
import { Echo } from './stale-replies.ts'
import { Hunt } from './leader-churn.ts'
import { FAULTS, strike, unleash, type Arena } from './faults.ts'
import { CALM, Network } from './network.ts'
import { Operator } from './operator.ts'
import { keepPeace } from './healthy-cluster.ts'
import { PROBES } from './probes.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'
import { Server, type ServerWorld } from './server.ts'
import { Tally, Trace } from './counters.ts'
import { Word } from './peer-lost-hints.ts'

export type RunResult = {
  readonly seed: number
  /** What was broken, or null. */
  readonly violation: string | null
  readonly events: number
  readonly committed: number
  readonly acknowledged: number
  readonly faults: Tally
  readonly probes: Tally
  readonly simulatedMs: number
  readonly traceHash: string
}

const LOADS = [
  { callers: 2, thinkMs: 150 },
  { callers: 6, thinkMs: 400 },
  { callers: 12, thinkMs: 800 },
  { callers: 12, thinkMs: 100 }
] as const
const STORM_MS = 30_000
/** After the storm: a disk that hangs takes 10 s to come back; then time to elect, to change servers, to catch up. */
const CALM_MS = 20_000
/** Messages kept to be replayed long after. */
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
  readonly #faults = new Tally(FAULTS)
  readonly #probes = new Tally(PROBES)
  readonly #trace = new Trace()
  readonly #servers: readonly Server[]
  readonly #network: Network
  readonly #word: Word
  readonly #clients: Clients
  readonly #hunt: Hunt
  readonly #operator: Operator
  readonly #echo: Echo
  readonly #byId = new Map<PeerId, Server>()
  readonly #arena: Arena
  readonly #past: Message[] = []
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
        this.#hunt.elected(server)
      },
      died: server => {
        this.#word.died(server.id)
      },
      handled: (server, event, stands) => {
        this.#echo.handled(server, event, stands)
      }
    }
    this.#servers = Array.from({ length: size + spare }, (_, n) => {
      return new Server(n, n < size ? 0 : 1 + random.below(1_000), shared)
    })
    for (const server of this.#servers) this.#byId.set(server.id, server)
    this.#network = new Network({
      weather: { ...CALM },
      random: this.#random,
      schedule: this.#schedule,
      faults: this.#faults,
      deliver: message => {
        this.#deliver(message)
      },
      broken: (a, b) => {
        this.#word.cut(a, b)
      }
    })
    this.#word = new Word({
      ...shared,
      faults: this.#faults,
      peers: this.#servers.map(({ id }) => id),
      tell: (at, peer) => {
        this.#byId.get(at)?.give({ kind: 'peer-lost', peer })
      }
    })
    this.#clients = new Clients({ ...shared, servers: this.#servers })
    this.#operator = new Operator({ ...shared, servers: this.#servers, voters })
    this.#echo = new Echo({
      ...shared,
      deliver: message => {
        this.#deliver(message)
      }
    })
    this.#hunt = new Hunt({
      ...shared,
      meddle: server => {
        this.#operator.meddle(server)
      },
      starve: server => {
        this.#network.cut(server.id, this.#random.pick(this.#servers).id)
      },
      strike: victim => {
        strike(this.#arena, victim)
      },
      propose: server => {
        this.#clients.propose(server)
      }
    })
    this.#arena = {
      ...shared,
      servers: this.#servers,
      network: this.#network,
      word: this.#word,
      faults: this.#faults,
      hunt: this.#hunt,
      operator: this.#operator,
      echo: this.#echo,
      replay: () => (this.#past.length === 0 ? null : this.#random.pick(this.#past)),
      deliver: message => {
        this.#deliver(message)
      }
    }
  }

  run(): RunResult {
    for (const server of this.#servers) server.start()
    unleash(this.#arena, STORM_MS)
    this.#operator.work(this.#random.pick([50, 200, 1_000]))
    this.#clients.run({ ...this.#random.pick(LOADS), untilMs: STORM_MS })
    this.#runUntil(STORM_MS)
    if (this.#sound) this.#calm()
    if (this.#sound) this.#peace()
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

  /** Everything is mended; the cluster must mend itself. */
  #calm(): void {
    this.#network.calm()
    this.#word.calm()
    this.#hunt.stop()
    this.#echo.begin(0)
    // Sometimes all start at the same instant: only chance can then tell them apart.
    if (this.#random.chance(0.3)) for (const server of this.#servers) server.crash(false)
    for (const server of this.#servers) {
      server.diskDelayMs = 0
      server.failSync = false
      server.disk.full = false
      server.setClockRate(1)
      if (server.life === null) server.start()
    }
    const before = this.#clients.acknowledged
    for (let atMs = STORM_MS + 1_000; atMs < STORM_MS + CALM_MS; atMs += 1_000) {
      this.#runUntil(atMs)
      for (const leader of this.#servers.filter(server => server.isLeader)) this.#clients.propose(leader)
    }
    this.#runUntil(STORM_MS + CALM_MS)
    if (!this.#sound) return
    if (this.#clients.acknowledged === before) this.#invariants.fail('no progress after everything was mended')
    const { length } = this.#invariants.committed
    const leader = this.#servers.find(server => server.isLeader)
    const voters = leader?.life?.state.configuration.voters ?? []
    const { wish } = this.#operator
    if (voters.length !== wish.size || !voters.every(voter => wish.has(voter)))
      this.#invariants.fail(`ends with the voters ${voters.join(' ')} and not ${[...wish].join(' ')}`)
    for (const voter of voters) {
      const applied = this.#byId.get(voter)?.life?.applied ?? 0
      if (applied !== length) this.#invariants.fail(`${voter} ends at ${applied} of ${length} entries`)
    }
  }

  #peace(): void {
    const { wish } = this.#operator
    keepPeace({
      voters: this.#servers.filter(({ id }) => wish.has(id)),
      random: this.#random,
      schedule: this.#schedule,
      network: this.#network,
      word: this.#word,
      invariants: this.#invariants,
      runUntil: atMs => {
        this.#runUntil(atMs)
      }
    })
  }

  get #sound(): boolean {
    return this.#invariants.violation === null
  }

  #runUntil(untilMs: number): void {
    this.#schedule.runUntil(untilMs, () => this.#sound)
  }

  #send(message: Message): void {
    if (this.#past.length < REMEMBERED_MESSAGES) this.#past.push(message)
    else if (this.#random.chance(0.01)) this.#past[this.#random.below(REMEMBERED_MESSAGES)] = message
    this.#echo.sent(message)
    this.#network.send(message)
  }

  #deliver(message: Message): void {
    this.#byId.get(message.to)?.give({ kind: 'receive', message })
    this.#hunt.handled(message)
  }

  /** Small limits, so that pages, windows and refusals are common. */
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
