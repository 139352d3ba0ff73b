// Connections to a service under load, while backends, agents and hosts are killed: only those to what died fail. Containers on three
// hosts hold connections and make new ones all the time, in both families, to a backend on each of four hosts.

import t, { type Test } from 'tap'
import type { ServiceView } from '#model/views.ts'
import { CHAOS, CHAOS_TIMEOUT } from '../lab/chaos.ts'
import type { LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { cannotRun } from '../lab/requirements.ts'
import { ServiceEnd } from '../lab/service-end.ts'
import { ServiceLoad, type Failure, type LoadReport } from '../lab/service-load.ts'
import { waitFor } from '../lab/wait.ts'

t.setTimeout(CHAOS_TIMEOUT)
const SERVERS = 3
const [PORT, TARGET] = [80, 8_080]
const LANES = { short: 48, held: 8 }
const SETTLED = { timeoutMs: 60_000 }
/** In turn; the first four are the short run. */
const KILLS = ['backend', 'agent', 'host', 'backend', 'agent'] as const

type Backend = { readonly host: LabHost; readonly container: LabContainer; readonly server: ServiceEnd }
type Client = { readonly host: LabHost; readonly load: ServiceLoad }
/** What may fail: connections to these backends, and whatever a client on this host does. */
type Dead = { readonly backends: readonly string[]; readonly host?: LabHost }

type Round = {
  /** Failures that may not be, and those of what is dead. */
  readonly wrong: readonly Failure[]
  readonly right: readonly Failure[]
  /** No connection failed, and every client is led to every backend. */
  readonly isWhole: boolean
  /** Who answered the lanes last of clients on hosts that live. */
  readonly seen: ReadonlySet<string>
}

class Mesh {
  readonly lab: Lab
  readonly clients: Client[] = []
  readonly backends: Backend[] = []
  #made = 0
  answers = 0

  constructor(lab: Lab) {
    this.lab = lab
  }

  /** A new container that answers from its first packet on. */
  async addBackend(host: LabHost): Promise<void> {
    const container = await this.lab.container(`be${++this.#made}`)
    const server = await ServiceEnd.serve(container, container.name, TARGET)
    await host.attach(container, 'red', { labels: { app: 'web' } })
    this.backends.push({ host, container, server })
  }

  takeBackend(n: number): Backend {
    const [backend] = this.backends.splice(n % this.backends.length, 1)
    if (backend === undefined) throw new Error('no backend')
    return backend
  }

  namesOn(host: LabHost): readonly string[] {
    return this.backends.filter(backend => backend.host === host).map(({ container }) => container.name)
  }

  async addClient(host: LabHost, addresses: readonly string[]): Promise<void> {
    const user = await this.lab.container(`user-${host.name}`)
    await host.attach(user, 'red')
    this.clients.push({ host, load: await ServiceLoad.start(user, { addresses, port: PORT, ...LANES }) })
  }

  /** A turn of every lane that has no part in what is dead. */
  async round(dead: Dead = { backends: [] }): Promise<Round> {
    const [wrong, right]: [Failure[], Failure[]] = [[], []]
    const reports = await Promise.all(
      this.clients.map(async ({ host, load }) => {
        const isDead = host === dead.host
        const report = await load.round(isDead ? this.#names : dead.backends)
        for (const failure of report.failures)
          (isDead || dead.backends.includes(failure.backend ?? '') ? right : wrong).push(failure)
        this.answers += report.answers
        return report
      })
    )
    const failed = wrong.length + right.length
    const seen = reports.flatMap((report, n) =>
      this.clients[n]?.host === dead.host ? [] : Object.values(report.backends).flat()
    )
    return { wrong, right, isWhole: failed === 0 && reports.every(each => this.#seesAll(each)), seen: new Set(seen) }
  }

  /** Until a round is whole. @returns the failures on the way that may not be */
  settled(dead: Dead = { backends: [] }): Promise<readonly Failure[]> {
    return this.#until(
      'all backends are there for all clients, and no connection fails',
      dead,
      ({ isWhole }) => isWhole
    )
  }

  /** Until others answer all connections from hosts that live. @returns as `settled` */
  left(dead: Dead): Promise<readonly Failure[]> {
    return this.#until('others answer', dead, ({ seen }) => !dead.backends.some(name => seen.has(name)))
  }

  async #until(what: string, dead: Dead, holds: (round: Round) => boolean): Promise<readonly Failure[]> {
    const all: Failure[] = []
    await waitFor(
      what,
      async () => {
        const round = await this.round(dead)
        all.push(...round.wrong)
        return holds(round)
      },
      SETTLED
    )
    return all
  }

  async stop(): Promise<void> {
    for (const { load } of this.clients) await load.stop()
    for (const { server } of this.backends) await server.stop()
  }

  get #names(): string[] {
    return this.backends.map(({ container }) => container.name)
  }

  #seesAll({ backends }: LoadReport): boolean {
    const wanted = this.#names.sort().join()
    return Object.values(backends).every(seen => seen.join() === wanted)
  }
}

async function isFailed(knows: LabHost, host: LabHost): Promise<boolean> {
  return (await knows.members()).some(({ name, status }) => name === host.name && status === 'failed')
}

const KILLED: Readonly<Record<(typeof KILLS)[number], (t: Test, mesh: Mesh, n: number) => Promise<void>>> = {
  /** Its process first, whose connections are refused, and then its container. Another one takes its place. */
  async backend(t, mesh, n) {
    const { host, container, server } = mesh.takeBackend(n)
    const dead = { backends: [container.name] }
    await server.kill()
    const { wrong, right } = await mesh.round(dead)
    t.same(wrong, [], 'connections to other backends go on')
    t.not(right.length, 0, 'those to it fail')
    await host.detach(container)
    t.same(await mesh.settled(dead), [], 'nor does any fail while its connections move to others')
    await mesh.addBackend(host)
    t.same(await mesh.settled(dead), [], 'or to the one that takes its place')
  },

  async agent(t, mesh, n) {
    const host = mesh.lab.host((n % mesh.lab.hosts.length) + 1)
    await host.killAgent()
    for (const when of ['after the kill', 'without the agent']) t.same((await mesh.round()).wrong, [], when)
    await host.startAgent()
    await host.waitReady()
    t.same(await mesh.settled(), [], 'through its start')
  },

  /** Its containers live on, cut off. */
  async host(t, mesh, n) {
    const host = mesh.lab.host(mesh.lab.hosts.length - (n % mesh.lab.hosts.length))
    const dead = { backends: mesh.namesOn(host), host }
    await host.killHost()
    t.same((await mesh.round(dead)).wrong, [], 'after the power cut')
    for (const other of mesh.lab.hosts.filter(each => each !== host))
      await waitFor(`${other.name} knows that it has failed`, () => isFailed(other, host), SETTLED)
    t.same(await mesh.left(dead), [], 'until all connections from elsewhere are led to others')
    await host.linkUp()
    await host.startAgent()
    await host.waitReady()
    t.same(await mesh.settled(dead), [], 'through its return')
  }
}

t.test('only connections to what was killed fail', { skip: cannotRun() }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const hosts = await lab.addServers(SERVERS, { clients: 1 })
  const [h1, ...others] = hosts
  if (h1 === undefined) throw new Error('no host')
  await h1.api.call('POST', '/v1/networks', { name: 'red', subnets: ['10.1.0.0/16', 'fd00:1::/64'] })
  for (const host of others)
    await waitFor('it knows the network', async () => (await host.api.list('/v1/networks')).length === 1)
  const mesh = new Mesh(lab)
  t.teardown(() => mesh.stop())
  const { addresses } = await h1.cliJson<ServiceView>(
    'service',
    'create',
    'web',
    '--network',
    'red',
    '--port',
    `${PORT}:${TARGET}`,
    '--select',
    'app=web'
  )
  t.equal(addresses.length, 2)
  for (const host of hosts) await mesh.addBackend(host)
  for (const host of hosts.slice(0, SERVERS)) await mesh.addClient(host, addresses)
  await mesh.settled()
  t.same((await mesh.round()).wrong, [], 'before the first kill')
  for (let n = 0; n < CHAOS.kills; n++) {
    const what = KILLS[n % KILLS.length] ?? 'agent'
    await t.test(`kill ${n + 1}: ${what}`, t => KILLED[what](t, mesh, n))
  }
  t.comment(`${mesh.answers} answers`)
  await expectOracle(lab)
})
