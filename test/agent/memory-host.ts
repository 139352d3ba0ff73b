// Host h1 of a cluster of two, in memory: the real AgentApi and its parts over the real state machine, with devices, network
// namespaces, members and a clock that the test controls. Only replication is missing: a proposal is applied at once.

import { ServiceResolver } from '#allocator/service-resolver.ts'
import { AgentApi, type AgentApiOptions } from '#agent/agent-api.ts'
import { Collector } from '#agent/endpoints/collector.ts'
import { Endpoints, type EndpointsOptions } from '#agent/endpoints/endpoints.ts'
import { LocalEndpoints } from '#agent/endpoints/local-endpoints.ts'
import type { HeldNetns } from '#platform/container-netns.ts'
import { heldNetns } from './held-netns.ts'
import type { SavedRecord } from '#agent/endpoints/netns-records.ts'
import { Unfinished } from '#agent/endpoints/unfinished.ts'
import { CounterWindow } from '#agent/observe/counters.ts'
import { EventBus } from '#agent/observe/event-bus.ts'
import { statusView } from '#agent/observe/health.ts'
import { PeerDirectory } from '#agent/observe/peer-directory.ts'
import { StateViews } from '#agent/observe/state-views.ts'
import { stateSections } from '#backup/state-bytes.ts'
import type { AgentPort } from '#model/agent-port.ts'
import type { Config } from '#config/schema.ts'
import type { Command, ResultOf } from '#model/command.ts'
import { endpointKey, type EndpointKey } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { PROTOCOL_VERSION, type Member, type MemberStatus } from '#model/member.ts'
import type { DoctorView, ReloadView } from '#model/views.ts'
import { createLogger } from '#platform/log.ts'
import { snapshotFileBytes } from '#replication/storage/snapshot-file.ts'
import { Caller, makeHost } from '#test/allocator/fixtures.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { MemoryDevices } from './memory-devices.ts'

const CLUSTER = 'c0ffee' as ClusterId
const TERM = 3 as Term
const OVERLAY_MTU = 1_450
const BOOT_ID = 'boot-1'

export const DOCTOR: DoctorView = {
  host: 'h1',
  failed: 0,
  findings: [
    { id: 'clock', level: 'warning', found: 'h2 ahead by 3.0 s', todo: 'run a time service' },
    { id: 'quorum', level: 'ok', found: 'leader h1', todo: '' }
  ]
}

const RELOADED: ReloadView = { changed: ['log.level'], restart: ['bind', 'serf.port'] }

/** The member that a host of the allocator's fixtures is. */
export function makeMember(n: number, status: MemberStatus = 'alive'): Member {
  const { name, vtep, role, peerId } = makeHost(n)
  const ports = { port: 7_946, p2pPort: 7_947, protocol: PROTOCOL_VERSION, bootstrapExpect: 2 }
  return { name, address: vtep, status, role, peerId, vtep, ...ports }
}

/** Hosts h1 and h2, and network red with 10.1.0.0/24. */
export class MemoryHost {
  readonly self = makeHost(1).peerId
  readonly caller = Caller.ready()
  readonly devices = new MemoryDevices()
  readonly time = new ManualClock()
  readonly records = new Map<EndpointKey, SavedRecord>()
  readonly events = new EventBus({ wallMs: () => Date.UTC(2026, 0, 1) })
  /** Whether this host is part of a cluster, and the leader that it knows. */
  standing: { readonly ready: boolean; readonly leader: string | null } = { ready: true, leader: 'h1' }
  members: readonly Member[] = [makeMember(1), makeMember(2)]
  /** Network namespaces that are gone; every other path is one that lives. */
  readonly goneNetns = new Set<string>()
  namespaces: Config['namespaces'] = { unmapped: 'refuse', range: '10.128.0.0/10', prefixLength: 24 }
  /** Whether counters can be read; without them they are null in every view. */
  counting = false
  /** Rejects the proposals for which it returns an error. */
  failProposal: (command: Command) => Error | null = () => null
  /** As failProposal, for proposals that are carried out all the same. */
  loseAnswer: (command: Command) => Error | null = () => null
  /** Rejects the wait for a current state. */
  failRefresh: Error | null = null
  /** Requests for the kernel, in order, and passes that were asked for. */
  readonly kernelTurns: string[] = []
  /** Rejects every call of `port`. */
  refusal: Error | null = null
  /** Arguments of the calls of `port`. */
  readonly asked: unknown[] = []
  /** Calls that change the voters, as `verb peer`. */
  readonly serverChanges: string[] = []
  stopRequested = false

  readonly local: LocalEndpoints
  readonly endpoints: Endpoints
  readonly collector: Collector
  readonly unfinished: Unfinished
  readonly api: AgentApi
  /** The API as the doors see it, with its calls recorded. */
  readonly port: AgentPort

  /** @param options.examine the examination behind `doctor` */
  constructor(options: Partial<Pick<AgentApiOptions, 'examine'>> = {}) {
    const { state } = this.caller
    const logger = createLogger('silent')
    this.local = new LocalEndpoints({
      ...{ bootId: BOOT_ID, self: this.self, state, devices: this.devices },
      records: {
        load: () => Promise.resolve(this.records),
        save: ({ containerId, ifname }, record) => this.records.set(endpointKey(containerId, ifname), record),
        remove: ({ containerId, ifname }) => this.records.delete(endpointKey(containerId, ifname))
      },
      netns: { hold: path => this.#holdNetns(path), isNetns: path => !this.goneNetns.has(path) },
      desired: () => fail('these devices need no desired state'),
      overlayMtu: () => OVERLAY_MTU,
      ended: endpoint => this.collector.containerEnded(endpoint),
      clock: this.time.clock
    })
    this.endpoints = new Endpoints({
      ...{ self: this.self, state, devices: this.devices, local: this.local, logger },
      abandoned: () => this.unfinished.wake(),
      reconciler: this.#kernelTurns(),
      waitUntilGone: endpoint => this.collector.waitUntilGone(endpoint),
      holdNetns: path => this.#holdNetns(path),
      overlayMtu: () => OVERLAY_MTU,
      propose: command => this.propose(command)
    })
    this.collector = new Collector({
      ...{ local: this.local, clock: this.time.clock, logger },
      endpoints: () => state.endpointsOnHost(this.self),
      current: () => this.standing.ready,
      interfaces: () => this.devices.counters(),
      release: (endpoint, still) => this.endpoints.releaseIf(endpoint, still),
      afterMs: 60_000
    })
    this.unfinished = new Unfinished({
      ...{ self: this.self, local: this.local, state, clock: this.time.clock, logger },
      current: () => this.standing.ready,
      refresh: () => (this.failRefresh === null ? Promise.resolve() : Promise.reject(this.failRefresh)),
      interfaces: () => this.devices.counters(),
      release: (endpoint, still) => this.endpoints.releaseIf(endpoint, still)
    })
    this.api = this.#makeApi(options.examine ?? (() => Promise.resolve(DOCTOR)))
    this.port = this.#recorded(this.api)
    this.events.publish(() => ({ kind: 'member-vanished', name: 'h9', peerId: 'p9' }))
  }

  async propose<C extends Command>(command: C): Promise<ResultOf<C['kind']>> {
    const failure = this.failProposal(command)
    if (failure !== null) throw failure
    const outcome = await Promise.resolve(this.caller.try(command))
    const lost = this.loseAnswer(command)
    if (lost !== null) throw lost
    if (!outcome.ok) throw VxmeshError.fromBody(outcome.error)
    return outcome.result as ResultOf<C['kind']>
  }

  /** Every request for the kernel is granted at once: no reconcile pass runs here. */
  #kernelTurns(): EndpointsOptions['reconciler'] {
    const turn = (name: string) =>
      async function granted<T>(this: void, work: () => Promise<T>): Promise<T> {
        turns.push(name)
        return work()
      }
    const turns = this.kernelTurns
    return {
      withNetwork: (vni, work) => turn(`withNetwork ${vni}`)(work),
      exclusively: turn('exclusively'),
      together: turn('together'),
      wake: networks => void turns.push(`wake ${[...(networks ?? [])].join()}`)
    }
  }

  #makeApi(examine: AgentApiOptions['examine']): AgentApi {
    const { caller, self, devices, time, events } = this
    const { state } = caller
    const overlayMtu = (): number => OVERLAY_MTU
    const directory = new PeerDirectory({ state, view: () => this.#view() })
    const counters = new CounterWindow({
      read: () => (this.counting ? devices.counters() : Promise.resolve(new Map())),
      clock: time.clock,
      restarted: () => undefined,
      failed: () => undefined
    })
    return new AgentApi({
      config: () => ({ bind: parseIp('192.0.2.1'), namespaces: this.namespaces }),
      ...{ self, state, directory, devices, endpoints: this.endpoints, collector: this.collector, events, overlayMtu },
      membership: { join: addresses => Promise.resolve(addresses.length), leave: () => Promise.resolve() },
      log: { status: () => this.#status() },
      cluster: this.#cluster(),
      holdNetns: path => this.#holdNetns(path),
      views: new StateViews({
        self,
        state,
        resolver: new ServiceResolver(state),
        directory,
        devices,
        counters,
        overlayMtu,
        dns: () => null
      }),
      propose: command => this.propose(command),
      image: () => this.#image(),
      status: () =>
        statusView(this.#health(directory), {
          host: 'h1',
          driver: { name: 'linux', guard: 'nft', noPrograms: null },
          version: '0.1.0'
        }),
      examine,
      registrar: { leave: () => Promise.resolve(), stay: () => undefined },
      logger: createLogger('silent'),
      reload: () => Promise.resolve(RELOADED),
      requestStop: () => (this.stopRequested = true),
      clock: time.clock
    })
  }

  #holdNetns(path: string): HeldNetns {
    if (this.goneNetns.has(path)) throw new VxmeshError('ERR_NETNS', `netns: ${path} is gone`, { field: 'netns' })
    return heldNetns(path)
  }

  #view(): { revision: number; members: readonly Member[]; foreign: [] } {
    return { revision: 1, members: this.members, foreign: [] }
  }

  #leader(): PeerId | null {
    return this.members.find(({ name }) => name === this.standing.leader)?.peerId ?? null
  }

  #status(): { role: 'leader'; term: Term; leader: PeerId | null; commitIndex: LogIndex } {
    return { role: 'leader', term: TERM, leader: this.#leader(), commitIndex: this.caller.index }
  }

  #health(directory: PeerDirectory): Parameters<typeof statusView>[0] {
    const { ready } = this.standing
    return {
      ...{ self: this.self, state: this.caller.state, directory },
      membership: { view: () => this.#view() },
      log: { status: () => this.#status() },
      cluster: { clusterId: ready ? CLUSTER : null, obstacle: null },
      registrar: { registered: true, problem: null },
      reconciler: { status: () => ({ drift: 0, degraded: [], repaired: {} }) },
      digests: { differsAt: null }
    }
  }

  #cluster(): AgentApiOptions['cluster'] {
    const change = (verb: string) => (peer: PeerId) => {
      this.serverChanges.push(`${verb} ${peer}`)
      return Promise.resolve()
    }
    return {
      peers: () =>
        Promise.resolve([1, 2].map(n => ({ peerId: makeHost(n).peerId, voter: true, matchIndex: this.caller.index }))),
      addServer: change('add'),
      removeServer: change('remove'),
      transferLeadership: change('transfer')
    }
  }

  async #image(): Promise<AsyncIterable<Uint8Array>> {
    const { state } = this.caller
    const configuration = { voters: [this.self], learners: [] }
    const meta = { lastIndex: state.appliedIndex, lastTerm: TERM, configuration }
    return Promise.resolve(snapshotFileBytes({ clusterId: CLUSTER, meta }, stateSections(state)))
  }

  /** Records the arguments of each call but `watch`, and rejects it with `refusal`. */
  #recorded(api: AgentApi): AgentPort {
    return new Proxy(api, {
      get: (target, name: keyof AgentPort) => {
        if (name === 'watch') return target.watch.bind(target)
        return async (...args: unknown[]): Promise<unknown> => {
          this.asked.push(argumentsOf(name, args))
          if (this.refusal !== null) throw this.refusal
          return (target as unknown as Methods)[name](...args)
        }
      }
    })
  }
}

type Methods = Readonly<Record<keyof AgentPort, (...args: unknown[]) => Promise<unknown>>>

function fail(why: string): never {
  throw new Error(why)
}

/** A single object by itself; otherwise an object that names the arguments. */
function argumentsOf(method: keyof AgentPort, args: readonly unknown[]): unknown {
  const [first] = args
  if (method === 'snapshotSave') return { stale: first }
  if (method === 'endpointCollect') return { keep: [...(first as ReadonlySet<EndpointKey>)] }
  return args.length === 1 && typeof first === 'object' ? first : { method, args }
}
