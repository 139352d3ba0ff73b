// Open vSwitch of one namespace host: its own ovsdb-server and ovs-vswitchd, with their sockets, logs and database in one
// folder. With the userspace datapath the underlay's device must be on a bridge of Open vSwitch as well, `br-phy`, which
// vxmesh does not manage.

import { existsSync, readFileSync, rmSync } from 'node:fs'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir, uptime } from 'node:os'
import { join } from 'node:path'
import { waitFor } from './wait.ts'
import { run } from './run.ts'

/**
 * An ovs-vswitchd (3.1) that starts sooner after boot counts no processors and has no handler threads: it loses every packet
 * without a flow, for good ("Overriding n-handler-threads to 0" in its log; `lost` in `dpctl/show`).
 */
const MIN_UPTIME_SECONDS = 10
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema'
export const UNDERLAY_BRIDGE = 'br-phy'

const DAEMONS = ['ovs-vswitchd', 'ovsdb-server'] as const
export type Daemon = (typeof DAEMONS)[number]

export class OpenVSwitch {
  readonly #netns: string
  readonly dir: string

  private constructor(netns: string, dir: string) {
    this.#netns = netns
    this.dir = dir
  }

  /** @param netns name of the namespace; `dir` is a new folder unless it is given */
  static async start(netns: string, dir?: string): Promise<OpenVSwitch> {
    const ovs = new OpenVSwitch(netns, dir ?? (await mkdtemp(join(tmpdir(), 'vxovs-'))))
    try {
      await mkdir(ovs.dir, { recursive: true })
      await ovs.#must('ovsdb-tool', ['create', join(ovs.dir, 'conf.db'), SCHEMA])
      await ovs.startDaemon('ovsdb-server')
      await ovs.vsctl('--no-wait', 'init')
      await ovs.startDaemon('ovs-vswitchd')
      return ovs
    } catch (err) {
      await ovs.stop()
      throw err
    }
  }

  /** Why it cannot run here, or false. */
  static async cannotRun(): Promise<string | false> {
    const { exitCode } = await run('sh', ['-c', 'command -v ovs-vswitchd ovsdb-server ovs-ofctl ovs-vsctl'])
    return exitCode === 0 ? false : 'needs Debian’s openvswitch-switch (scripts/setup.sh installs it)'
  }

  get socket(): string {
    return join(this.dir, 'db.sock')
  }

  async startDaemon(daemon: Daemon): Promise<void> {
    if (daemon === 'ovs-vswitchd')
      await waitFor('the kernel is up for long enough', () => uptime() > MIN_UPTIME_SECONDS)
    const common = [
      '--detach',
      '--no-chdir',
      `--pidfile=${this.#file(daemon, 'pid')}`,
      `--unixctl=${this.#file(daemon, 'ctl')}`
    ]
    const log = [`--log-file=${this.#file(daemon, 'log')}`, '-vconsole:off']
    const own =
      daemon === 'ovsdb-server' ? [join(this.dir, 'conf.db'), `--remote=punix:${this.socket}`] : [`unix:${this.socket}`]
    await this.#must('ip', [
      'netns',
      'exec',
      this.#netns,
      'env',
      `OVS_RUNDIR=${this.dir}`,
      daemon,
      ...own,
      ...common,
      ...log
    ])
  }

  /** kill -9, as the kernel's OOM killer would. */
  async kill(daemon: Daemon): Promise<void> {
    const pid = this.pid(daemon)
    if (pid === null) return
    process.kill(pid, 'SIGKILL')
    await waitFor(`${daemon} is gone`, () => Promise.resolve(!existsSync(`/proc/${pid}`)))
  }

  pid(daemon: Daemon): number | null {
    const file = this.#file(daemon, 'pid')
    const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
    return pid > 0 && existsSync(`/proc/${pid}`) ? pid : null
  }

  vsctl(...args: readonly string[]): Promise<string> {
    return this.#must('ovs-vsctl', [`--db=unix:${this.socket}`, '--timeout=10', ...args])
  }

  /** @param bridge the bridge whose management socket is used */
  ofctl(bridge: string, command: string, ...args: readonly string[]): Promise<string> {
    return this.#must('ovs-ofctl', [
      '-O',
      'OpenFlow14',
      '--no-stats',
      '--no-names',
      command,
      this.target(bridge),
      ...args
    ])
  }

  target(bridge: string): string {
    return `unix:${join(this.dir, `${bridge}.mgmt`)}`
  }

  appctl(...args: readonly string[]): Promise<string> {
    return this.#must('ovs-appctl', ['-t', this.#file('ovs-vswitchd', 'ctl'), ...args])
  }

  /** Moves the underlay's device onto a bridge of the userspace datapath, and its address to that bridge. */
  async takeUnderlay(device: string, address: string): Promise<void> {
    await this.vsctl(
      ...['add-br', UNDERLAY_BRIDGE, '--', 'set', 'bridge', UNDERLAY_BRIDGE, 'datapath_type=netdev'],
      ...['--', 'add-port', UNDERLAY_BRIDGE, device]
    )
    const ip = (...args: string[]): Promise<string> => this.#must('ip', ['-n', this.#netns, ...args])
    await ip('addr', 'flush', 'dev', device)
    await ip('addr', 'add', address, 'dev', UNDERLAY_BRIDGE, ...(address.includes(':') ? ['nodad'] : []))
    await ip('link', 'set', UNDERLAY_BRIDGE, 'up')
  }

  log(daemon: Daemon): string {
    const file = this.#file(daemon, 'log')
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  async stop(): Promise<void> {
    await Promise.all(DAEMONS.map(daemon => this.kill(daemon)))
    rmSync(this.dir, { recursive: true, force: true })
  }

  #file(daemon: Daemon, kind: string): string {
    return join(this.dir, `${daemon}.${kind}`)
  }

  async #must(file: string, args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await run(file, args, { timeoutMs: 20_000 })
    if (exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr}`)
    return stdout
  }
}
