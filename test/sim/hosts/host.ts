// A whole host without a kernel: the real replicator (proposer, feed, consensus, cluster life, storage) and the real
// allocator state, on a simulated clock, disk and network. Only its disk survives a crash.

import { whyNotAdmitted } from '#allocator/admission.ts'
import { stateFrom, stateSections } from '#backup/state-bytes.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { Registrar } from '#agent/registrar.ts'
import { rulesNeeded, rulesOfVersion, type Command, type Refusal, type Request } from '#model/command.ts'
import { asVxmeshError, invalid } from '#model/errors.ts'
import type { Host } from '#model/host.ts'
import type { ClusterId, HostName, PeerId, Term } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import type { Clock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { Replicator } from '#replication/replicator.ts'
import { openStorage } from '#replication/storage/storage.ts'
import type { Counters } from '../counters.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import { HostContainers } from './host-containers.ts'
import { HostDisk } from './host-disk.ts'
import type { HostNetwork } from './host-network.ts'
import { Life, randomOf } from './life.ts'
import type { Oracle } from './oracle.ts'
import { strangeSeed } from './strange-seed.ts'
import { rulesToRead, type Upgrade } from './upgrade.ts'

export type HostWorld = {
  readonly random: Random
  readonly schedule: Schedule
  readonly network: HostNetwork
  readonly oracle: Oracle
  readonly probes: Counters
  /** Hash of everything that a host does. */
  readonly trace: (...words: readonly number[]) => void
  readonly snapshotBytes: number
  /** The members as a host sees them. */
  readonly members: (observer: SimHost) => readonly Member[]
  /** A host's process ended by itself: its disk failed. */
  readonly failed: (host: SimHost) => void
  /** Of a run in which hosts register themselves and are upgraded; null in others. */
  readonly upgrade: () => Upgrade | null
}

/** What an agent has beside its replicator in a run with an upgrade. */

type Process = { readonly life: Life; readonly replicator: Replicator; readonly state: ClusterState }

const DATA_DIR = '/data'
const RESTART_MS = 500
/** Few, so that a small state has many sections. */
const SECTION_ROWS = 3
const silent = createLogger('silent')
/** What the parser of an old program says to what it does not know. */
const UNREADABLE: Refusal = { ok: false, error: invalid('kind', 'is not a command that this version knows').toBody() }

export class SimHost {
  readonly number: number
  readonly name: HostName
  readonly peerId: PeerId
  readonly role: 'server' | 'client'
  readonly bootstrapExpect: number
  /** Of the program that it runs from its next start on. */
  version = '1'
  disk = new HostDisk()
  readonly containers: HostContainers
  process: Process | null = null
  /** Of the cluster that its disk belongs to. */
  clusterId: ClusterId | null = null
  /** The host has power, so that Serf answers, whether or not the agent runs. */
  isPowered = true
  /** How long each section of a snapshot takes to make or to read. */
  sectionMs = 0
  /** The highest index that any process on this disk has applied. */
  appliedBefore = 0
  readonly #world: HostWorld
  /** The host's own disk and what belongs to it, while it runs from another one. */
  #kept: { readonly disk: HostDisk; readonly clusterId: ClusterId | null; readonly appliedBefore: number } | null = null
  /** Of the process that runs, or that opens its storage. */
  #life: Life | null = null
  #starts = 0
  #wasVoter = false

  constructor(p: {
    readonly number: number
    readonly role: 'server' | 'client'
    readonly bootstrapExpect: number
    readonly world: HostWorld
  }) {
    this.number = p.number
    this.name = `h${p.number}` as HostName
    this.peerId = `12D3KooW${'h'.repeat(40)}${p.number + 1}` as PeerId
    this.role = p.role
    this.bootstrapExpect = p.bootstrapExpect
    this.#world = p.world
    this.containers = new HostContainers({ self: this.peerId, probes: p.world.probes })
  }

  get replicator(): Replicator | null {
    return this.process?.replicator ?? null
  }

  get isLeader(): boolean {
    return this.replicator?.log.status().role === 'leader'
  }

  get isVoter(): boolean {
    const role = this.replicator?.log.status().role
    return role !== undefined && role !== 'client' && role !== 'waiting'
  }

  /** Starts the process from its disk. */
  start(): void {
    const { schedule } = this.#world
    if (this.#life !== null) return
    this.isPowered = true
    this.#starts += 1
    if (this.#starts > 1) this.#world.probes.add('host-restarted-from-its-disk')
    const life = new Life(schedule)
    this.#life = life
    void this.#start(life).catch((err: unknown) => this.#fatal(life, err))
  }

  /** kill -9, or a power cut of the whole host. */
  crash(kind: 'kill' | 'power-cut'): void {
    const { network, random, probes } = this.#world
    const { process } = this
    this.process = null
    this.#life?.end()
    this.#life = null
    this.containers.crash(kind)
    if (process !== null) {
      this.appliedBefore = Math.max(this.appliedBefore, process.state.appliedIndex)
      network.detach(this.peerId, kind === 'power-cut')
    }
    if (kind === 'kill') return
    this.isPowered = false
    this.disk.powerCut(random)
    probes.add('power-cut')
  }

  /** From its next start on it has another disk, which holds a restored backup: it belongs to no cluster. */
  swapDisk(): void {
    this.#kept = { disk: this.disk, clusterId: this.clusterId, appliedBefore: this.appliedBefore }
    Object.assign(this, { disk: new HostDisk(), clusterId: null, appliedBefore: 0 })
  }

  /** From its next start on it has its own disk again. */
  returnDisk(): void {
    if (this.#kept !== null) Object.assign(this, this.#kept)
    this.#kept = null
  }

  async #start(life: Life): Promise<void> {
    const { network, oracle, random, probes } = this.#world
    const clock = life.clock()
    const files = this.disk.layer(life, random)
    const small = { segmentBytes: 16 * 1024, reserveBytes: 4 * 1024 }
    const storage = await openStorage(DATA_DIR, this.peerId, { clock, files, ...small })
    const state = new ClusterState()
    const upgrade = this.#world.upgrade()
    /** The newest rules that this program knows. */
    const known = rulesOfVersion(this.version)
    const look = (): void => {
      if (this.clusterId === null || this.process?.life !== life) return
      registrar?.check()
    }
    const replicator: Replicator = new Replicator({
      self: this.peerId,
      mesh: network.attach(this.member, life),
      disk: { dataDir: DATA_DIR, files },
      storage,
      snapshotBytes: this.#world.snapshotBytes,
      seed: this.#kept === null ? null : strangeSeed(this.peerId, DATA_DIR),
      bootstrapExpect: this.bootstrapExpect,
      machine: {
        apply: (index, request) => {
          oracle.applied(this.name, { index, after: state.appliedIndex, request })
          const outcome = state.apply(index, request)
          oracle.outcome(this.name, index, outcome)
          if (rulesToRead(request) > known) this.#met(request, state)
          return outcome
        },
        admit: (command, from) =>
          rulesNeeded(command) > known ? UNREADABLE : whyNotAdmitted(state, command, { ...from, vteps: [] }),
        rules: () => Math.min(known, state.rules),
        notes: () => [],
        noted: () => undefined,
        skip: index => {
          oracle.applied(this.name, { index, after: state.appliedIndex, request: null })
          state.skip(index)
        },
        snapshot: () => this.#slowly(stateSections(state, SECTION_ROWS), clock),
        prepare: async sections => {
          const built = await stateFrom(this.#slowly(sections, clock))
          return {
            adopt: () => {
              state.become(built)
              oracle.checkState(this.name, state)
              const { rules } = state
              if (rules > known) upgrade?.met(this, { what: `a snapshot of rules ${rules}`, rules, state })
              probes.add('state-restored-from-a-snapshot')
            }
          }
        },
        applied: index => {
          this.#world.trace(this.number, index)
          this.containers.reached(index)
          this.#checkCurrent()
          look()
        }
      },
      members: () => this.#world.members(this),
      joinAddresses: () => [],
      joined: clusterId => {
        this.clusterId = clusterId
        look()
      },
      seedFetched: () => undefined,
      roleChanged: ({ role, term }) => {
        this.#world.trace(this.number, term, role.length)
        oracle.term(this.name, term)
        if (role === 'leader') {
          oracle.leads(this.peerId, term)
          probes.add('leader-elected')
        }
        look()
      },
      fatal: err => this.#fatal(life, err),
      clock,
      random: randomOf(random),
      logger: silent
    })
    const registrar = upgrade === null ? null : this.#registrar({ replicator, state, clock })
    this.process = { life, replicator, state }
    await this.containers.start({ log: replicator.log, state, clock })
    await replicator.start()
    clock.every(200, () => this.#observe())
  }

  /** As ControlPlane wires it. */
  #registrar(p: { readonly replicator: Replicator; readonly state: ClusterState; readonly clock: Clock }): Registrar {
    const { replicator, state, clock } = p
    const propose = async (command: Command): Promise<unknown> => (await replicator.log.propose(command)).result
    const recorded = (): Host | undefined => state.host(this.peerId)
    return new Registrar({ host: this.row, recorded, propose, clock, logger: silent })
  }

  #met(request: Request, state: ClusterState): void {
    const what = `${request.command.kind} by rules ${String(request.rules)}`
    this.#world.upgrade()?.met(this, { what, rules: rulesToRead(request), state })
  }

  /** As it registers itself. */
  get row(): Host {
    const { name, peerId, role, version, member } = this
    return { name, peerId, role, vtep: member.vtep, bootId: 'b', version }
  }

  /** A large state takes time: entries are applied, and processes die, between any two of its sections. */
  async *#slowly(sections: AsyncIterable<Uint8Array>, clock: Clock): AsyncGenerator<Uint8Array> {
    const { probes } = this.#world
    const appliedIndex = (): number => this.process?.state.appliedIndex ?? 0
    const before = appliedIndex()
    for await (const section of sections) {
      if (this.sectionMs > 0) await clock.sleep(this.sectionMs)
      yield section
    }
    if (appliedIndex() > before) probes.add('entries-applied-during-a-snapshot')
  }

  /** A process ends by itself only when its disk fails. */
  #fatal(life: Life, err: unknown): void {
    if (!life.isAlive) return
    const { oracle, failed, probes } = this.#world
    const { code, message } = asVxmeshError(err)
    const isInjected = code === 'ERR_STORAGE' && (this.disk.isFull || message.includes('ENOSPC'))
    if (!isInjected) oracle.fail(`${this.name} ends: ${message}`)
    probes.add('ended-by-a-full-disk')
    this.crash('kill')
    failed(this)
  }

  #observe(): void {
    const { oracle, probes } = this.#world
    this.#checkCurrent()
    oracle.term(this.name, this.replicator?.log.status().term ?? (0 as Term))
    if (this.isVoter !== this.#wasVoter) probes.add(this.isVoter ? 'became-a-voter' : 'became-a-follower-of-the-feed')
    this.#wasVoter = this.isVoter
  }

  /** A state that is older than one this host acted on before its restart must not pass for current. */
  #checkCurrent(): void {
    if (this.process === null) return
    const { replicator, state } = this.process
    if (!replicator.log.current || state.appliedIndex >= this.appliedBefore) return
    const { appliedBefore } = this
    this.#world.oracle.fail(`${this.name} calls index ${state.appliedIndex} current, and had applied ${appliedBefore}`)
  }

  get member(): Omit<Member, 'status'> {
    const address = (0x0a000001 + this.number) as Ipv4
    return {
      name: this.name,
      address,
      port: 7946,
      role: this.role,
      peerId: this.peerId,
      vtep: address,
      p2pPort: 7947,
      protocol: 1,
      bootstrapExpect: this.bootstrapExpect,
      ...(this.clusterId === null ? {} : { clusterId: this.clusterId })
    }
  }

  /** Restarts later, if it is down by then. */
  startLater(ms = RESTART_MS): void {
    this.#world.schedule.after(ms, () => this.start())
  }
}
