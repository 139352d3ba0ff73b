// Whole agents in one process, without root: the real agent over a kernel, a Serf and a mesh in memory, on a manual clock. The
// data directory, the UNIX socket and the loopback ports are real.

import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Agent } from '#agent/agent.ts'
import type { Machine } from '#agent/machine.ts'
import { openParts, type ReadConfig, type Settings } from '#agent/parts.ts'
import { ApiClient, type Method } from '#cli/client.ts'
import { loadConfig } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Mac } from '#model/mac.ts'
import type { EndpointView } from '#model/views.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import type { HeldNetns } from '#platform/container-netns.ts'
import { createLogger } from '#platform/log.ts'
import { scratch } from '#test/api/scratch.ts'
import { freePort } from '#test/lab/free-port.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { seededRandom } from '#test/replication/memory-cluster.ts'
import { MemoryNetwork, type MemoryMesh } from '#test/replication/memory-mesh.ts'
import { ZmqServer } from '#zmq/server.ts'
import { Patience } from '../lab/patience.ts'
import { heldNetns } from './held-netns.ts'
import { MemoryDriver, MemoryKernel } from './memory-driver.ts'
import { MemorySerf, type MemoryMembership } from './memory-membership.ts'

const STEP_MS = 10
/** Real time between two steps of the manual clock: files and sockets need it. */
const PACE_MS = 1
const REAL_MS = 10_000

export class AgentWorld {
  readonly manual = new ManualClock()
  readonly random = seededRandom(1)
  readonly network = new MemoryNetwork({ clock: this.manual.clock, random: this.random })
  readonly serf = new MemorySerf()
  readonly hosts: MemoryAgent[] = []
  readonly #t: Test

  constructor(t: Test) {
    this.#t = t
    t.teardown(() => this.#stop())
  }

  /** A host with free ports, not started. @param flags settings beyond the defaults */
  async add(flags: Readonly<Record<string, string>> = {}): Promise<MemoryAgent> {
    const host = await MemoryAgent.make(this, { t: this.#t, n: this.hosts.length + 1, flags })
    this.hosts.push(host)
    return host
  }

  /** A server that has founded a cluster by itself. */
  async founder(flags: Readonly<Record<string, string>> = {}): Promise<MemoryAgent> {
    const host = await this.add({ role: 'server', bootstrapExpect: '1', ...flags })
    await host.start()
    await this.until('the cluster is founded', () => host.agent.control.registrar.registered)
    return host
  }

  /** A client that belongs to the cluster. */
  async client(): Promise<MemoryAgent> {
    const host = await this.add()
    await host.start()
    await this.until('the client is registered', () => host.agent.control.registrar.registered)
    return host
  }

  /** Advances time until the condition holds. @throws after `withinMs` of the manual clock, if files and sockets had their time, too */
  async until(what: string, condition: () => boolean, withinMs = 60_000): Promise<void> {
    const { clock } = this.manual
    const patience = new Patience(REAL_MS)
    for (const end = clock.nowMs() + withinMs; !condition();) {
      if (clock.nowMs() >= end && patience.isOver())
        throw new Error(`not within ${withinMs} ms of the manual clock: ${what}`)
      await this.manual.advance(STEP_MS)
      await new Promise(resolve => setTimeout(resolve, PACE_MS))
    }
  }

  /** Advances time until the promise settles. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false
    const done = promise.finally(() => (isSettled = true))
    done.catch(() => undefined)
    await this.until('it is settled', () => isSettled, 120_000)
    return done
  }

  async #stop(): Promise<void> {
    for (const host of this.hosts) if (host.isUp) await host.stop()
  }
}

export class MemoryAgent {
  readonly dir: string
  readonly kernel = new MemoryKernel()
  /** Opened, started, stopped and closed parts, in order. */
  readonly trace: string[] = []
  /** Steps that fail, and with what. */
  readonly failing = new Map<string, Error>()
  /** Steps that wait. */
  readonly held = new Map<string, Promise<void>>()
  readonly goneNetns = new Set<string>()
  /** Parts of the machine that are not in memory. */
  real: Partial<Machine> = {}
  config: Config
  /** Only one host of a process can have the library's. */
  readonly hasZmq: boolean
  driver: MemoryDriver | null = null
  membership: MemoryMembership | null = null
  mesh: MemoryMesh | null = null
  readonly #world: AgentWorld
  #agent: Agent | null = null

  private constructor(world: AgentWorld, p: { readonly n: number; readonly dir: string; readonly config: Config }) {
    this.#world = world
    this.hasZmq = p.n === 1
    this.dir = p.dir
    this.config = p.config
  }

  static async make(
    world: AgentWorld,
    p: { readonly t: Test; readonly n: number; readonly flags: Readonly<Record<string, string>> }
  ): Promise<MemoryAgent> {
    const { t, n, flags } = p
    const dir = scratch(t)
    const [http, ...zmq] = [await freePort(), await freePort(), await freePort(), await freePort()]
    const url = (port: number | undefined): string => `tcp://127.0.0.1:${port ?? 0}`
    const all = {
      name: `h${n}`,
      bind: `192.0.2.${n}`,
      dataDir: join(dir, 'data'),
      socket: join(dir, 'agent.sock'),
      insecure: 'true',
      'log.level': 'silent',
      'http.listen': `127.0.0.1:${http}`,
      'zmq.requests': url(zmq[0]),
      'zmq.events': url(zmq[1]),
      'zmq.rpc': url(zmq[2]),
      ...flags
    }
    return new MemoryAgent(world, { n, dir, config: await loadConfig({ file: null, env: {}, flags: all }) })
  }

  get isUp(): boolean {
    return this.#agent !== null
  }

  /** @throws when it is down */
  get agent(): Agent {
    if (this.#agent === null) throw new Error(`${this.config.name} is down`)
    return this.#agent
  }

  get peerId(): PeerId {
    if (this.mesh === null) throw new Error(`${this.config.name} has not been started`)
    return this.mesh.self
  }

  /** What was opened, started, stopped and closed, without repeated reads. */
  steps(): readonly string[] {
    return this.trace.filter(step => step !== 'read underlay')
  }

  /** Has the kernel an entry for this container of another host? */
  forwardsTo({ mac }: EndpointView): boolean {
    const { links } = this.kernel.forwarding.kernel
    return [...links.values()].some(link => link.kind === 'vxlan' && link.entries.has(mac as Mac))
  }

  get settings(): Settings {
    const readConfig: ReadConfig = () => Promise.resolve(this.config)
    return { ...this.machine, config: this.config, keys: null, logger: createLogger('silent'), readConfig }
  }

  get machine(): Machine {
    const { manual, random, network, serf } = this.#world
    const step = (name: string): Promise<void> => this.#step(name)
    return {
      clock: manual.clock,
      random,
      openDriver: async ({ vtep }) => {
        await step('open driver')
        return (this.driver = new MemoryDriver({ kernel: this.kernel, underlay: vxlanUnderlay(vtep), step }))
      },
      makeMembership: options => (this.membership = serf.make(options, step)),
      startMesh: async ({ privateKey, bind, isKnown }) => {
        await step('start mesh')
        const mesh = network.join(peerIdFromPrivateKey(privateKey).toString() as PeerId, isKnown)
        network.place(mesh.self, bind)
        const stop = mesh.stop.bind(mesh)
        this.mesh = Object.assign(mesh, {
          stop: async () => {
            await step('stop mesh')
            await stop()
          }
        })
        return mesh
      },
      startZmq: async options => {
        await step('start zmq')
        const zmq = this.hasZmq ? await ZmqServer.start(options) : null
        return {
          stop: async () => {
            await step('stop zmq')
            await zmq?.stop()
          }
        }
      },
      netns: () => ({ hold: path => this.#holdNetns(path), isNetns: path => !this.goneNetns.has(path) }),
      ...this.real
    }
  }

  /** Starts the agent, or rejects as it does. */
  async start(): Promise<void> {
    this.#agent = await this.#world.settle(openParts(this.settings).then(parts => Agent.start(parts)))
  }

  async stop(): Promise<void> {
    const { agent } = this
    this.#agent = null
    await this.#world.settle(agent.stop())
  }

  /** Attaches a container through the API. */
  async attach(request: {
    readonly network: string
    readonly containerId: string
    readonly netns?: string
  }): Promise<EndpointView> {
    const body = { netns: `/run/netns/${request.containerId}`, ...request }
    return (await this.call('POST', '/v1/endpoints', body)) as EndpointView
  }

  /** A call of the API over the UNIX socket. */
  call(method: Method, path: string, body?: unknown): Promise<unknown> {
    return this.#world.settle(new ApiClient(this.config.socket).call(method, path, body))
  }

  #holdNetns(path: string): HeldNetns {
    if (this.goneNetns.has(path)) throw new VxmeshError('ERR_NETNS', `netns: ${path} is gone`, { field: 'netns' })
    return heldNetns(path)
  }

  async #step(name: string): Promise<void> {
    this.trace.push(name)
    await this.held.get(name)
    const failure = this.failing.get(name)
    if (failure !== undefined) throw failure
  }
}
