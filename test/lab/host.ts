// A host of the lab: a namespace on the underlay with its own agent and files, and the faults that tests inject.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parse, stringify } from 'yaml'
import { ApiClient } from '#cli/client.ts'
import { isIpv4, parseIp, type Ip } from '#model/ip.ts'
import type { EndpointView, MemberView, StatusView } from '#model/views.ts'
import { startDetached, type ChildHandle, type RunResult } from '#platform/process.ts'
import type { LabContainer } from './container.ts'
import { kill, must, pidsIn } from './kernel.ts'
import { waitFor } from './wait.ts'
import { run } from './run.ts'

/** Another checkout's program, to compare versions in one lab. */
const CHECKOUT = process.env['LAB_CHECKOUT'] ?? resolve(import.meta.dirname, '../..')
/** The suite runs a bundle (test/suite/program.ts). */
export const VXMESH = process.env['LAB_VXMESH'] ?? join(CHECKOUT, 'bin/vxmesh')

export type HostOptions = {
  readonly role?: 'server' | 'client'
  readonly bootstrapExpect?: number
  readonly join?: readonly string[]
  /** Replaces the lab's cluster key. */
  readonly clusterKeyFile?: string
  readonly logLevel?: string
  readonly snapshotBytes?: number
  /** Replace the host's address in the lab: everywhere, or as the VTEP only. */
  readonly bind?: string
  readonly vtep?: string
  /** Other settings, as written to the file. */
  readonly settings?: Readonly<Record<string, unknown>>
}

export class LabHost {
  readonly name: string
  readonly namespace: string
  readonly address: string
  readonly dir: string
  readonly socket: string
  readonly api: ApiClient
  /** Which agent and command line it has from its next start on. */
  program = VXMESH
  #child: ChildHandle | null = null

  constructor(p: { name: string; namespace: string; address: string; dir: string }) {
    this.name = p.name
    this.namespace = p.namespace
    this.address = p.address
    this.dir = p.dir
    this.socket = join(p.dir, 'agent.sock')
    this.api = new ApiClient(this.socket)
  }

  get netns(): string {
    return `/run/netns/${this.namespace}`
  }

  get vtep(): Ip {
    return parseIp(this.address)
  }

  get logFile(): string {
    return join(this.dir, 'agent.log')
  }

  /** Writes the configuration (contract 6.2); must be called before the agent starts. */
  async configure(options: HostOptions & { readonly clusterKeyFile: string }): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 })
    const { role = 'server', bootstrapExpect = 3, join: addresses = [], logLevel = 'debug' } = options
    const config = {
      name: this.name,
      role,
      ...(role === 'server' ? { bootstrapExpect } : {}),
      join: [...addresses],
      bind: options.bind ?? this.address,
      ...(options.vtep === undefined ? {} : { overlay: { vtep: options.vtep } }),
      dataDir: join(this.dir, 'data'),
      socket: this.socket,
      clusterKeyFile: options.clusterKeyFile,
      ...(options.snapshotBytes === undefined ? {} : { raft: { snapshotBytes: options.snapshotBytes } }),
      log: { level: logLevel },
      ...options.settings
    }
    await writeFile(this.configFile, stringify(config))
  }

  /** Changes settings of `overlay` in the file, for the next agent. */
  async changeOverlay(settings: Readonly<Record<string, unknown>>): Promise<void> {
    const config = parse(await readFile(this.configFile, 'utf8')) as { readonly overlay?: object }
    await writeFile(this.configFile, stringify({ ...config, overlay: { ...config.overlay, ...settings } }))
  }

  get configFile(): string {
    return join(this.dir, 'config.yaml')
  }

  /** Starts the agent; does not wait for it. A different boot id makes it believe that the host has rebooted. */
  async startAgent(options: { readonly bootIdFile?: string } = {}): Promise<void> {
    const agent = [this.program, 'agent', '--config', this.configFile]
    // `ip netns exec` gives it its own mount namespace, so only this agent sees the bind-mounted boot id.
    const mount = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    const command = options.bootIdFile === undefined ? agent : ['sh', '-c', mount, options.bootIdFile, ...agent]
    const args = ['netns', 'exec', this.namespace, ...command]
    this.#child = await startDetached('ip', args, { logFile: this.logFile })
    await writeFile(join(this.dir, 'agent.pid'), `${this.#child.pid}\n`)
  }

  /** The agent's pid, even if an earlier process of a kept lab started it. */
  get agentPid(): number {
    return this.#child?.pid ?? Number(readFileSync(join(this.dir, 'agent.pid'), 'utf8'))
  }

  get serfPid(): number | null {
    const path = join(this.dir, 'data/serf/serf.pid')
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) : null
  }

  /** @returns the first status that is ready */
  waitReady(timeoutMs = 20_000): Promise<StatusView> {
    const ready = async (): Promise<StatusView | false> => {
      const status = await this.status()
      return status.ready && status.raft.leader !== null ? status : false
    }
    return waitFor(`agent of ${this.name} is ready`, ready, { timeoutMs, explain: () => this.logTail() })
  }

  /** Stops the agent in order, as systemd does. */
  async stopAgent(): Promise<void> {
    kill(this.agentPid, 'SIGTERM')
    await this.agentGone()
  }

  /** kill -9 of the agent alone: Serf and the data plane keep running. */
  async killAgent(): Promise<void> {
    kill(this.agentPid)
    await this.agentGone()
  }

  get agentIsGone(): boolean {
    return !existsSync(`/proc/${this.agentPid}`) || isZombie(this.agentPid)
  }

  agentGone(): Promise<unknown> {
    return waitFor(`agent of ${this.name} is gone`, () => this.agentIsGone)
  }

  /** Suspends the agent's process until `resume`. */
  pause(): void {
    kill(this.agentPid, 'SIGSTOP')
  }

  resume(): void {
    kill(this.agentPid, 'SIGCONT')
  }

  /** Cuts the host's power: its link goes down and all its processes die at once. Its kernel objects stay. */
  async killHost(): Promise<void> {
    await must('ip', ['-n', this.namespace, 'link', 'set', 'eth0', 'down'])
    for (const pid of pidsIn(this.namespace)) kill(pid)
    await this.agentGone()
  }

  /** Brings the link up; the caller starts the agent. */
  async linkUp(): Promise<void> {
    await must('ip', ['-n', this.namespace, 'link', 'set', 'eth0', 'up'])
  }

  async linkDown(): Promise<void> {
    await must('ip', ['-n', this.namespace, 'link', 'set', 'eth0', 'down'])
  }

  /** Drops packets from another host, all or those of some ports. One way: a full cut takes a call on either host. */
  async dropFrom(other: LabHost, ports?: readonly number[]): Promise<void> {
    const from = `${isIpv4(other.vtep) ? 'ip' : 'ip6'} saddr ${other.address}`
    const match = ports === undefined ? [from] : ['tcp', 'udp'].map(l4 => `${from} ${l4} dport { ${ports.join(', ')} }`)
    const replies = ports === undefined ? [] : ['tcp', 'udp'].map(l4 => `${from} ${l4} sport { ${ports.join(', ')} }`)
    const rules = [...match, ...replies].map(rule => `add rule inet vxlab input ${rule} drop`)
    const chain = 'add chain inet vxlab input { type filter hook input priority -300; }'
    await this.nft(['add table inet vxlab', chain, ...rules])
  }

  /** Removes all drop rules of this host. */
  async heal(): Promise<void> {
    await this.nft(['add table inet vxlab', 'delete table inet vxlab'])
  }

  async nft(commands: readonly string[]): Promise<void> {
    await must('ip', ['netns', 'exec', this.namespace, 'nft', '-f', '-'], { input: `${commands.join('\n')}\n` })
  }

  exec(file: string, ...args: readonly string[]): Promise<RunResult> {
    return run('ip', ['netns', 'exec', this.namespace, file, ...args], { timeoutMs: 120_000 })
  }

  /** Runs the command line on this host. */
  cli(...args: readonly string[]): Promise<RunResult> {
    return run('ip', ['netns', 'exec', this.namespace, this.program, '--socket', this.socket, ...args], {
      timeoutMs: 120_000
    })
  }

  /** The JSON that a command prints. @throws Error with its standard error when it fails */
  async cliJson<T>(...args: readonly string[]): Promise<T> {
    const { exitCode, stdout, stderr } = await this.cli(...args, '-o', 'json')
    if (exitCode !== 0) throw new Error(`vxmesh ${args.join(' ')} on ${this.name}: exit ${exitCode}: ${stderr}`)
    return JSON.parse(stdout) as T
  }

  status(): Promise<StatusView> {
    return this.api.call('GET', '/v1/status') as Promise<StatusView>
  }

  members(): Promise<MemberView[]> {
    return this.api.list<MemberView>('/v1/members')
  }

  attach(container: LabContainer, network: string, more: Record<string, unknown> = {}): Promise<EndpointView> {
    const body = { network, containerId: container.name, netns: container.netns, ...more }
    return this.api.call('POST', '/v1/endpoints', body) as Promise<EndpointView>
  }

  detach(container: LabContainer): Promise<EndpointView> {
    return this.api.call('DELETE', `/v1/endpoints/${container.name}`) as Promise<EndpointView>
  }

  logTail(lines = 25): string {
    if (!existsSync(this.logFile)) return `(${this.name} has no log)`
    return `--- log of ${this.name}\n${readFileSync(this.logFile, 'utf8').split('\n').slice(-lines).join('\n')}`
  }
}

/** Whether it has ended and only its parent does not know yet. Until its last thread has, it keeps its files open. */
function isZombie(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(' Z ') && readdirSync(`/proc/${pid}/task`).length === 1
  } catch {
    return true
  }
}
