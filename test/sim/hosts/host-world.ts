// One simulated cluster of whole hosts, built from a seed: the real replicator and allocator state on every host, founded
// by its first servers, with clients and spare servers that join later. Three phases, as in the core's simulation: faults
// are injected, then all faults end and the hosts must recover, then their states and disks are compared.
//
// Determinism: one schedule drives everything. After each action the event loop turns a fixed number of times, so that
// promises and immediates of the hosts run in a fixed order. Nothing waits for a real timer, file or socket.

import { digestOf } from '#allocator/digest.ts'
import { formatIp } from '#model/ip.ts'
import { parseRequest } from '#model/parse-request.ts'
import { decodeRequest } from '#replication/codec/request-codec.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { Counters, TraceHash } from '../counters.ts'
import { Random } from '../random.ts'
import type { RunResult } from '../run-result.ts'
import { Schedule } from '../schedule.ts'
import { runContainers } from './container-load.ts'
import { Flood } from './flood.ts'
import { HOST_FAULTS, injectHostFaults } from './host-faults.ts'
import { HostNetwork } from './host-network.ts'
import { HostileHost } from './hostile.ts'
import { HostOperator } from './host-operator.ts'
import { HOST_PROBES } from './host-probes.ts'
import { SimHost, type HostWorld } from './host.ts'
import { Lanes } from './lanes.ts'
import { Life } from './life.ts'
import { Members } from './members.ts'
import { Oracle } from './oracle.ts'
import { isUpgraded, Upgrade } from './upgrade.ts'

const FOUNDING_MS = 5_000
const FAULTS_MS = 25_000
/** Long enough to close dead connections, elect a leader, change servers and catch up. */
const RECOVERY_MS = 25_000
/** Longer than servers take to elect a leader after a start. */
const ELECTION_MS = 8_000
/** Turns of the event loop after each action: one to send a frame, one for the core to handle an event. */
const TURNS = 2

export async function simulateHosts(seed: number): Promise<RunResult> {
  const world = new World(seed)
  const failed = (err: unknown): void => world.oracle.fail(`uncaught: ${messageOf(err)}`)
  process.on('uncaughtException', failed)
  process.on('unhandledRejection', failed)
  try {
    return await world.run()
  } finally {
    process.off('uncaughtException', failed)
    process.off('unhandledRejection', failed)
  }
}

class World {
  readonly oracle = new Oracle()
  readonly #seed: number
  readonly #random: Random
  readonly #schedule = new Schedule()
  readonly #faults = new Counters(HOST_FAULTS)
  readonly #probes = new Counters(HOST_PROBES)
  readonly #trace = new TraceHash()
  readonly #network: HostNetwork
  readonly #hosts: readonly SimHost[]
  readonly #founders: readonly SimHost[]
  readonly #members: Members
  readonly #operator: HostOperator
  readonly #lanes: Lanes
  readonly #hostile: HostileHost
  #upgrade: Upgrade | null = null
  #events = 0

  constructor(seed: number) {
    this.#seed = seed
    const random = new Random(seed)
    this.#random = random
    const schedule = this.#schedule
    this.#network = new HostNetwork({ random, schedule, faults: this.#faults })
    this.#members = new Members(this.#network)
    const founders = random.pick([1, 2, 3, 3, 3])
    const spare = random.pick([0, 1, 1, 2])
    const clients = random.pick([1, 1, 2])
    const world: HostWorld = {
      random,
      schedule,
      network: this.#network,
      oracle: this.oracle,
      probes: this.#probes,
      trace: (...words) => this.#trace.add(...words),
      snapshotBytes: random.pick([1_000, 6_000, 1_000_000]),
      members: observer => this.#members.of(observer),
      failed: host => host.startLater(),
      upgrade: () => this.#upgrade
    }
    this.#hosts = Array.from({ length: founders + spare + clients }, (_, number) => {
      const role = number < founders + spare ? 'server' : 'client'
      return new SimHost({ number, role, bootstrapExpect: number < founders ? founders : 0, world })
    })
    this.#founders = this.#hosts.slice(0, founders)
    const shared = { hosts: this.#hosts, random, schedule, probes: this.#probes }
    this.#operator = new HostOperator({ ...shared, founders: this.#founders })
    this.#lanes = new Lanes({ ...shared, oracle: this.oracle })
    this.#hostile = new HostileHost({ ...shared, network: this.#network, oracle: this.oracle })
    if (isUpgraded(seed)) this.#upgrade = new Upgrade({ ...shared, seed, oracle: this.oracle, hostile: this.#hostile })
    this.oracle.rulesRaised = () => this.#probes.add('rules-raised')
    this.#members.stranger = () => this.#hostile.member
  }

  async run(): Promise<RunResult> {
    await this.#found()
    const untilMs = this.#schedule.nowMs + FAULTS_MS
    const registers = this.#upgrade === null
    this.#lanes.run({ lanes: this.#random.pick([2, 5]), thinkMs: this.#random.pick([150, 500]), untilMs, registers })
    this.#upgrade?.start(untilMs)
    runContainers({ hosts: this.#hosts, random: this.#random, schedule: this.#schedule, untilMs })
    this.#operator.start()
    injectHostFaults(
      {
        hostile: this.#hostile,
        hosts: this.#hosts,
        random: this.#random,
        schedule: this.#schedule,
        network: this.#network,
        operator: this.#operator,
        oracle: this.oracle,
        faults: this.#faults
      },
      untilMs
    )
    await this.#runUntil(untilMs)
    if (this.#isSound) await this.#recover()
    if (this.#isSound && this.#random.chance(0.05)) await this.#flood()
    if (this.#isSound && this.#random.chance(0.3)) await this.#restartBesideAStranger()
    if (this.#isSound) this.#compareStates()
    if (this.#isSound) await this.#compareDisks()
    for (const host of this.#hosts) host.crash('kill')
    return {
      seed: this.#seed,
      violation: this.oracle.violation,
      events: this.#events,
      committed: this.oracle.index,
      acknowledged: this.#lanes.count,
      faults: this.#faults,
      probes: this.#probes,
      simulatedMs: this.#schedule.nowMs,
      traceHash: this.#trace.hex
    }
  }

  get #isSound(): boolean {
    return this.oracle.violation === null
  }

  /** The founders start in any order; the other hosts join meanwhile. */
  async #found(): Promise<void> {
    this.#members.start({ hosts: this.#hosts, random: this.#random, schedule: this.#schedule })
    for (const host of this.#hosts) host.startLater(this.#random.between(0, 500))
    await this.#runUntil(FOUNDING_MS)
    if (!this.#isSound) return
    const ids = new Set(this.#hosts.map(({ clusterId }) => clusterId))
    if (ids.size === 1 && !ids.has(null)) this.#probes.add('cluster-founded')
    else this.oracle.fail(`founding ends with the clusters ${[...ids].join(' ')}`)
    if (this.#hosts.some(host => !host.isVoter)) this.#probes.add('host-joined-later')
    if (this.#upgrade !== null && this.oracle.state.hostCount !== this.#hosts.length)
      this.oracle.fail(`founding ends with ${this.oracle.state.hostCount} of ${this.#hosts.length} hosts registered`)
  }

  /** Ends all faults; the hosts must recover by themselves, and every one must be able to make a change. */
  async #recover(): Promise<void> {
    this.#network.reset()
    for (const host of this.#hosts) {
      host.disk.isFull = false
      host.disk.delayMs = 0
      host.start()
    }
    this.#upgrade?.finish()
    await this.#runFor(RECOVERY_MS)
    await this.#attachEverywhere('after all faults have ended')
    if (this.#isSound) await this.#ipv6Everywhere()
    if (!this.#isSound) return
    const leader = this.#hosts.find(host => host.isLeader)
    for (const { name, replicator } of this.#hosts) {
      const known = replicator?.log.status().leader ?? null
      if (known !== (leader?.peerId ?? '')) this.oracle.fail(`${name} does not know the leader at the end`)
      if (replicator?.log.lag !== 0) this.oracle.fail(`${name} lags behind at the end`)
    }
    const peers = await this.#operator.servers()
    const servers = namesOf(this.#hosts.filter(host => peers?.some(({ peerId }) => peerId === host.peerId)))
    const desired = namesOf(this.#hosts.filter(host => this.#operator.desired.has(host)))
    if (servers !== desired) this.oracle.fail(`the final servers are ${servers} instead of ${desired}`)
    for (const host of this.#hosts) {
      if (host.isVoter !== this.#operator.desired.has(host))
        this.oracle.fail(`${host.name} has the wrong role at the end`)
    }
  }

  async #attachEverywhere(when: string): Promise<void> {
    const answered = new Set<SimHost>()
    for (const host of this.#hosts) this.#lanes.attachAt(host, () => answered.add(host))
    await this.#runFor(5_000)
    for (const host of this.#hosts) {
      if (!answered.has(host)) this.oracle.fail(`${host.name} makes no progress ${when}`)
    }
  }

  /** After an upgrade every host may use what is new. */
  async #ipv6Everywhere(): Promise<void> {
    if (this.#upgrade === null) return
    const answered = new Set<SimHost>()
    this.#upgrade.askEverywhere(host => answered.add(host))
    await this.#runFor(5_000)
    for (const host of this.#hosts) if (!answered.has(host)) this.oracle.fail(`${host.name} gets no IPv6 address`)
    this.#probes.add('upgrade-finished')
  }

  /** One host sends more requests than it may. */
  async #flood(): Promise<void> {
    const host = this.#random.pick(this.#hosts)
    const { replicator } = host
    if (replicator === null) return
    const { oracle } = this
    const flood = new Flood({ host, log: replicator.log, network: this.#network, oracle, schedule: this.#schedule })
    void flood.run()
    await this.#runFor(10_000)
    if (!flood.isOver) oracle.fail('not all of many requests are answered')
    if (flood.refused === 0) oracle.fail('a host takes any number of requests')
    this.#probes.add('request-refused-in-a-flood', flood.refused)
  }

  /** All agents start at once, one server of three or more from a disk that belongs to no cluster. */
  async #restartBesideAStranger(): Promise<void> {
    const servers = this.#hosts.filter(host => host.isVoter)
    if (servers.length < 3) return
    this.#probes.add('cluster-restarted-beside-a-stranger')
    const stranger = this.#random.pick(servers)
    for (const host of this.#hosts) host.crash('kill')
    stranger.swapDisk()
    for (const host of this.#hosts) host.startLater(this.#random.between(0, 300))
    await this.#runFor(ELECTION_MS)
    if (!this.#hosts.some(host => host.isLeader)) this.oracle.fail('no leader beside a server that has no cluster')
    stranger.crash('kill')
    stranger.returnDisk()
    stranger.start()
    await this.#runFor(ELECTION_MS)
    if (this.#isSound) await this.#attachEverywhere('after a stranger has left')
  }

  /** Every host holds the same state, and in it everything that was acknowledged. */
  #compareStates(): void {
    const { oracle } = this
    const expected = digestOf(oracle.state)
    for (const { name, process } of this.#hosts) {
      if (process === null) continue
      const { appliedIndex } = process.state
      if (appliedIndex !== oracle.index)
        oracle.fail(`${name} has applied ${appliedIndex} of ${oracle.index} entries at the end`)
      else if (digestOf(process.state) !== expected) oracle.fail(`${name} ends with a different digest`)
    }
    const { held, detached } = this.#lanes.acknowledged
    const addresses = new Map<string, string>()
    for (const { containerId, address } of oracle.state.endpoints()) addresses.set(containerId, formatIp(address))
    if (new Set(addresses.values()).size !== addresses.size) oracle.fail('an address is allocated twice')
    for (const [id, address] of held) {
      if (addresses.get(id) !== address)
        oracle.fail(`${id} was given ${address} and has ${addresses.get(id) ?? 'none'}`)
    }
    for (const id of detached) if (addresses.has(id)) oracle.fail(`${id} was detached and still exists`)
    for (const { name, containers } of this.#hosts) {
      const problem = containers.problem(oracle.state)
      if (problem !== null) oracle.fail(`${name}: ${problem}`)
    }
  }

  /** What every host has on its disk, after it was killed, is a prefix of the log. */
  async #compareDisks(): Promise<void> {
    for (const host of this.#hosts) {
      host.crash('kill')
      const life = new Life(this.#schedule)
      const files = host.disk.layer(life, this.#random)
      const opened = openStorage('/data', host.peerId, { clock: life.clock(), files }).then(
        ({ recovered: { durable } }) => {
          const { commitIndex, entries, snapshot } = durable
          const committed = entries.filter(({ index }) => index <= commitIndex)
          this.oracle.checkDisk(host.name, committed, data => parseRequest(decodeRequest(data)))
          const last = committed.at(-1)?.index ?? snapshot?.lastIndex ?? 0
          if (last < commitIndex) this.oracle.fail(`${host.name}: the log on disk ends before its commit index`)
          if (!host.isPowered || last === 0) this.oracle.fail(`${host.name} has nothing on its disk`)
        },
        (err: unknown) => this.oracle.fail(`${host.name} cannot read its disk: ${String(err)}`)
      )
      const opening = { isOver: false }
      void opened.then(() => (opening.isOver = true))
      while (!opening.isOver && this.#isSound) await this.#runUntil(this.#schedule.nowMs + 10)
    }
  }

  #runFor(ms: number): Promise<void> {
    return this.#runUntil(this.#schedule.nowMs + ms)
  }

  async #runUntil(untilMs: number): Promise<void> {
    while (this.#isSound && this.#runNext(untilMs)) {
      this.#events += 1
      for (let turn = 0; turn < TURNS; turn++) await new Promise<void>(resolve => setImmediate(resolve))
    }
    this.#schedule.runUntil(untilMs, () => false)
  }

  /** What an event throws would end the agent that it is of. */
  #runNext(untilMs: number): boolean {
    try {
      return this.#schedule.runNext(untilMs)
    } catch (err) {
      this.oracle.fail(`thrown: ${messageOf(err)}`)
      return true
    }
  }
}

function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err)
}

function namesOf(hosts: readonly SimHost[]): string {
  return hosts.map(({ name }) => name).join(' ')
}
