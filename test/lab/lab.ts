// The lab: hosts as network namespaces on one underlay bridge, each with a real agent. A reaper outlives a crashed test and
// removes what the test leaves. Traffic never leaves these namespaces.

import { spawn, type ChildProcess } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { generateClusterKey } from '#config/cluster-key.ts'
import { parseIp, type Family } from '#model/ip.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { writeSysctls } from '#platform/netns.ts'
import { LabContainer } from './container.ts'
import { hostAddress, UNDERLAY_FAMILY, UNDERLAY_MTU, UNDERLAY_PREFIX } from './family.ts'
import { LabHost, type HostOptions } from './host.ts'
import { ipBatch, LAB_PREFIX, must } from './kernel.ts'
import { labDirectory, teardown, teardownStale } from './teardown.ts'

export type LabOptions = {
  /** A fixed id, whose lab outlives this process. Without one the lab is removed with this process. */
  readonly keepAs?: string
  readonly underlayMtu?: number
  /** Of the hosts' addresses. */
  readonly family?: Family
  /** Hosts to begin with, without running agents. */
  readonly hosts?: number
}

let made = 0

export class Lab {
  readonly id: string
  readonly dir: string
  readonly hosts: LabHost[] = []
  readonly #underlayMtu: number
  readonly #family: Family

  private constructor(id: string, { underlayMtu = UNDERLAY_MTU, family = UNDERLAY_FAMILY }: LabOptions) {
    this.id = id
    this.dir = labDirectory(id)
    this.#underlayMtu = underlayMtu
    this.#family = family
  }

  /** Creates an underlay. */
  static async create(options: LabOptions = {}): Promise<Lab> {
    await teardownStale()
    made += 1
    const lab = new Lab(options.keepAs ?? `${process.pid}x${made}`, options)
    if (options.keepAs === undefined) reapLater(lab.id)
    await mkdir(lab.dir, { recursive: true, mode: 0o700 })
    await writeFile(lab.keyFile, `${generateClusterKey()}\n`, { mode: 0o600 })
    const { underlay } = lab
    await must('ip', ['netns', 'add', underlay])
    await ipBatch([`link add br0 mtu ${lab.#underlayMtu} type bridge`, 'link set br0 up'], underlay)
    for (let n = 0; n < (options.hosts ?? 0); n++) await lab.addHost()
    return lab
  }

  /** Its namespace, with bridge br0. */
  get underlay(): string {
    return this.#namespace('u')
  }

  get keyFile(): string {
    return join(this.dir, 'cluster.key')
  }

  /** Adds the next host, with the address `addressOf(n)`: configured, its agent not started. */
  async addHost(options: HostOptions = {}): Promise<LabHost> {
    const n = this.hosts.length + 1
    const [underlay, namespace] = [this.underlay, this.#namespace(`h${n}`)]
    const host = new LabHost({
      name: `h${n}`,
      namespace,
      address: this.addressOf(n),
      dir: join(this.dir, `h${n}`)
    })
    this.hosts.push(host)
    const mtu = `mtu ${this.#underlayMtu}`
    await ipBatch([
      `netns add ${namespace}`,
      `link add eth0 ${mtu} netns ${namespace} type veth peer name p${n} ${mtu} netns ${underlay}`
    ])
    await ipBatch([`link set p${n} master br0 up`], underlay)
    await ipBatch(['link set lo up', ...this.#addressLines(host), 'link set eth0 up'], namespace)
    await host.configure({ clusterKeyFile: this.keyFile, ...options })
    return host
  }

  /** Changes the MTU of the whole underlay at run time. */
  async setUnderlayMtu(mtu: number): Promise<void> {
    const ports = this.hosts.map((_, n) => `link set p${n + 1} mtu ${mtu}`)
    await ipBatch([...ports, `link set br0 mtu ${mtu}`], this.underlay)
    for (const host of this.hosts) await ipBatch([`link set eth0 mtu ${mtu}`], host.namespace)
  }

  /** Adds servers that found a cluster together, then clients; resolves once all are ready. */
  async addServers(count: number, p: { readonly clients?: number } = {}): Promise<LabHost[]> {
    const hosts: LabHost[] = []
    const join = [this.addressOf(1)]
    for (let n = 0; n < count; n++) hosts.push(await this.addHost({ bootstrapExpect: count, join }))
    for (let n = 0; n < (p.clients ?? 0); n++) hosts.push(await this.addHost({ role: 'client', join }))
    await Promise.all(hosts.map(host => host.startAgent()))
    await Promise.all(hosts.map(host => host.waitReady()))
    return hosts
  }

  /** Adds a cluster of one server, h1, and its client, h2; resolves once both are ready. */
  async addServerAndClient(settings: Readonly<Record<string, unknown>> = {}): Promise<[LabHost, LabHost]> {
    const h1 = await this.addHost({ bootstrapExpect: 1, settings })
    const h2 = await this.addHost({ role: 'client', join: [this.addressOf(1)], settings })
    await Promise.all([h1.startAgent(), h2.startAgent()])
    await Promise.all([h1.waitReady(), h2.waitReady()])
    return [h1, h2]
  }

  /** Adds a client; resolves once it is ready. */
  async addClient(): Promise<LabHost> {
    const host = await this.addHost({ role: 'client', join: [this.addressOf(1)] })
    await host.startAgent()
    await host.waitReady()
    return host
  }

  async container(name: string): Promise<LabContainer> {
    const [container] = await this.containers([name])
    if (container === undefined) throw new Error('no container')
    return container
  }

  async containers(names: readonly string[]): Promise<LabContainer[]> {
    const all = names.map(name => new LabContainer(name, this.#namespace(`c-${name}`)))
    await ipBatch(all.map(({ namespace }) => `netns add ${namespace}`))
    return all
  }

  /** What the underlay leaves to containers. */
  get overlayMtu(): number {
    return this.#underlayMtu - vxlanUnderlay(parseIp(this.addressOf(1))).overheadBytes
  }

  /** The underlay address of host n. */
  addressOf(n: number): string {
    return hostAddress(n, this.#family)
  }

  host(n: number): LabHost {
    const host = this.hosts[n - 1]
    if (host === undefined) throw new Error(`the lab has no host ${n}`)
    return host
  }

  /** Removes everything. Idempotent. */
  async destroy(): Promise<void> {
    await teardown(this.id)
  }

  /** As an administrator sets it: an IPv6 address outlives a link that goes down. */
  #addressLines({ netns, address }: LabHost): readonly string[] {
    const added = `addr add ${address}/${UNDERLAY_PREFIX[this.#family]} dev eth0`
    if (this.#family === 'ipv4') return [added]
    writeSysctls(netns, [{ key: 'net/ipv6/conf/eth0/keep_addr_on_down', value: '1' }])
    return [`${added} nodad`]
  }

  #namespace(name: string): string {
    return `${LAB_PREFIX}${this.id}-${name}`
  }
}

/** One for all labs of this process. */
let reaper: ChildProcess | null = null

/** Has the lab removed when this process ends, however it ends. */
function reapLater(id: string): void {
  if (reaper === null) {
    const script = join(import.meta.dirname, 'reaper.ts')
    reaper = spawn(process.execPath, [script], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    reaper.unref()
    ;(reaper.stdin as Socket | null)?.unref()
  }
  reaper.stdin?.write(`${id}\n`)
}
