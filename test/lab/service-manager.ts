// systemd for a machine of the lab, as far as our unit needs it: it answers `systemctl`, runs the service as the unit's lines
// say, and listens to sd_notify. It refuses a line that it does not implement, so that none goes untested unnoticed.

import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { kill } from './kernel.ts'
import type { DebianMachine } from './debian-machine.ts'
import { NotifySocket } from './notify-socket.ts'
import { seccompCommand } from './seccomp.ts'
import { waitFor } from './wait.ts'

const UNIT = '/lib/systemd/system/vxmesh.service'
const REQUESTS = '/run/systemctl'
const NOTIFY = '/run/systemd/notify'
const POLL_MS = 20

const SYSTEMCTL = `#!/bin/sh
at=${REQUESTS}/$$
echo "$*" >$at.new
mv $at.new $at.request
while [ ! -e $at.answer ]; do sleep 0.02; done
read -r code words <$at.answer
rm $at.answer
[ -z "$words" ] || echo "$words"
exit $code
`

/** Lines that do not affect how the process runs, or that `#start` and `#stop` implement anyway. */
const ELSEWHERE = new Set([
  ...['Description', 'Documentation', 'Wants', 'After', 'StartLimitIntervalSec', 'WantedBy', 'Type', 'NotifyAccess'],
  ...['Restart', 'RestartSec', 'TimeoutStopSec', 'KillMode', 'EnvironmentFile', 'RuntimeDirectoryPreserve'],
  // Implemented with seccomp and cgroups: tested separately, with libseccomp.
  ...['LockPersonality', 'RestrictRealtime', 'RestrictSUIDSGID', 'RestrictNamespaces', 'RestrictAddressFamilies'],
  'SystemCallArchitectures',
  // The lab may lack the privilege to set them.
  ...['OOMScoreAdjust', 'LimitNOFILE', 'LimitMEMLOCK', 'MemoryMax']
])

const DIRECTORIES = { StateDirectory: '/var/lib', CacheDirectory: '/var/cache', RuntimeDirectory: '/run' } as const

export class LabServiceManager {
  readonly notify: NotifySocket
  readonly requests: string[] = []
  readonly #machine: DebianMachine
  readonly #log: string
  #child: ChildProcess | null = null
  #timer: NodeJS.Timeout | null = null
  #busy = false

  private constructor(machine: DebianMachine, notify: NotifySocket, log: string) {
    this.#machine = machine
    this.notify = notify
    this.#log = log
  }

  /** Replaces the machine's `systemctl`. */
  static async start(machine: DebianMachine, log: string): Promise<LabServiceManager> {
    for (const folder of [REQUESTS, '/run/systemd/system']) await mkdir(machine.path(folder), { recursive: true })
    // Written aside and renamed: the file of the lower file system must not be opened for writing.
    await machine.write('/usr/bin/systemctl.new', SYSTEMCTL, 0o755)
    await rename(machine.path('/usr/bin/systemctl.new'), machine.path('/usr/bin/systemctl'))
    // Container images forbid maintainer scripts to start services.
    await rm(machine.path('/usr/sbin/policy-rc.d'), { force: true })
    const manager = new LabServiceManager(machine, await NotifySocket.open(machine.path(NOTIFY)), log)
    manager.#timer = setInterval(() => void manager.#serve(), POLL_MS)
    return manager
  }

  get mainPid(): number | null {
    return this.#child?.pid ?? null
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.notify.close()
  }

  async #serve(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    try {
      const folder = this.#machine.path(REQUESTS)
      for (const name of (await readdir(folder)).filter(entry => entry.endsWith('.request'))) {
        const words = (await readFile(join(folder, name), 'utf8')).trim().split(/\s+/)
        await rm(join(folder, name))
        const answer = await this.#answer(words.filter(word => !word.startsWith('-'))).catch((err: unknown) => {
          return `1 ${String(err).replaceAll('\n', ' ')}`
        })
        const at = join(folder, name.replace('.request', ''))
        await writeFile(`${at}.new`, `${answer}\n`)
        await rename(`${at}.new`, `${at}.answer`)
      }
    } finally {
      this.#busy = false
    }
  }

  /** @returns the exit code, then the output */
  async #answer([verb = '', unit = '']: readonly string[]): Promise<string> {
    this.requests.push(`${verb} ${unit}`.trim())
    if (verb === 'daemon-reload') return '0'
    if (unit.replaceAll("'", '') !== 'vxmesh.service') return '5 no such unit'
    switch (verb) {
      case 'is-active':
        return this.#child === null ? '3' : '0'
      case 'is-enabled':
        return '1 disabled'
      case 'start':
        await this.#start()
        return '0'
      case 'stop':
        await this.#stop()
        return '0'
      case 'restart':
        await this.#stop()
        await this.#start()
        return '0'
      case 'reload':
        return this.#reload()
      default:
        return `1 ${verb} is not implemented`
    }
  }

  async #start(): Promise<void> {
    const unit = await this.#unit()
    const before = this.notify.notices.length
    for (const [key, parent] of Object.entries(DIRECTORIES)) {
      const folder = this.#machine.path(`${parent}/${unit.one(key)}`)
      await mkdir(folder, { recursive: true, mode: Number.parseInt(unit.maybe(`${key}Mode`) ?? '0755', 8) })
    }
    const log = openSync(this.#log, 'a')
    const [file, ...args] = this.#machine.command(await runAs(unit), {
      NOTIFY_SOCKET: NOTIFY,
      WATCHDOG_USEC: `${Number(unit.one('WatchdogSec')) * 1_000_000}`,
      ...Object.fromEntries([unit.one('Environment').split('=') as [string, string]])
    })
    const child = spawn(file, args, { detached: true, stdio: ['ignore', log, log] })
    closeSync(log)
    this.#child = child
    child.on('exit', () => {
      if (this.#child === child) this.#child = null
    })
    // Type=notify: only the main process can report that the service has started.
    const ready = (): boolean =>
      this.notify.notices.slice(before).some(({ pid, lines }) => pid === child.pid && lines.includes('READY=1'))
    await waitFor('the service reports READY=1', () => ready() || this.#child === null, { timeoutMs: 30_000 })
    if (!ready())
      throw new Error(`the service ended before it was ready: ${(await readFile(this.#log, 'utf8')).slice(-1_000)}`)
  }

  /** KillMode=process: only the main process is signalled. */
  async #stop(): Promise<void> {
    if (this.#child?.pid === undefined) return
    kill(this.#child.pid, 'SIGTERM')
    await waitFor('the service ends', () => this.#child === null, { timeoutMs: 30_000 })
  }

  async #reload(): Promise<string> {
    const unit = await this.#unit()
    const { exitCode, stderr } = await this.#machine.run(...unit.one('ExecReload').split(' '))
    return `${exitCode} ${stderr.trim()}`
  }

  async #unit(): Promise<Unit> {
    return new Unit(await readFile(this.#machine.path(UNIT), 'utf8'))
  }
}

/** The lines of a unit, each key once. Every key must either be read or be listed in ELSEWHERE. */
class Unit {
  readonly #lines: ReadonlyMap<string, string>
  readonly #read = new Set<string>()

  constructor(text: string) {
    const lines = text.split('\n').filter(line => /^[A-Z]\w*=/.test(line))
    this.#lines = new Map(lines.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
  }

  one(key: string): string {
    const value = this.maybe(key)
    if (value === undefined) throw new Error(`the unit has no ${key}`)
    return value
  }

  maybe(key: string): string | undefined {
    this.#read.add(key)
    return this.#lines.get(key)
  }

  /** @throws Error when a line was neither read nor excepted */
  exhaust(): void {
    const left = [...this.#lines.keys()].filter(key => !this.#read.has(key) && !ELSEWHERE.has(key))
    if (left.length > 0) throw new Error(`the lab does not implement the unit's ${left.join(', ')}`)
  }
}

/** The service's command line, wrapped in programs that apply the unit's restrictions; each executes the next. */
async function runAs(unit: Unit): Promise<readonly string[]> {
  const { length } = ['ExecReload', 'WatchdogSec', 'Environment'].map(key => unit.one(key))
  for (const key of Object.keys(DIRECTORIES)) unit.maybe(`${key}Mode`)
  const readOnly = [
    ...(unit.one('ProtectSystem') === 'full' ? ['/usr', '/etc'] : []),
    ...(unit.one('ProtectHome') === 'read-only' ? ['/home', '/root'] : [])
  ]
  if (length !== 3 || readOnly.length !== 4)
    throw new Error('the lab does not implement this Protect setting of the unit')
  const mounts = readOnly.map(place => `mount --rbind ${place} ${place}; mount -o remount,bind,ro ${place}`).join('; ')
  const tmp = unit.one('PrivateTmp') === 'yes' ? 'mount -t tmpfs -o mode=1777 tmpfs /tmp; ' : ''
  const set = `set -e; ${mounts}; ${tmp} export WATCHDOG_PID=$$; exec "$@"`
  const capabilities = unit
    .one('CapabilityBoundingSet')
    .split(' ')
    .map(name => `+${name.slice(4).toLowerCase()}`)
  const only = `-all,${capabilities.join(',')}`
  const nnp = unit.one('NoNewPrivileges') === 'yes' ? ['--no-new-privs'] : []
  const command = unit.one('ExecStart').split(' ')
  const limits = [`--core=${unit.one('LimitCORE')}`]
  const filter = await seccompCommand(unit.one('SystemCallFilter').split(' '), unit.one('SystemCallErrorNumber'))
  unit.exhaust()
  return [
    ...['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', set, 'sh', 'prlimit', ...limits],
    ...['setpriv', `--bounding-set=${only}`, ...nnp, ...filter, ...command]
  ]
}
