// Supervises the Serf process. It is started detached, so that it outlives a killed agent and is adopted by the next one,
// and restarted with back-off when it exits. A running Serf is recognised by pid and command line, never by process name.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Clock } from '#platform/clock.ts'
import { readIfExists, removeFile, writeDurably } from '#platform/files.ts'
import type { Logger } from '#platform/log.ts'
import { listPids } from '#platform/pids.ts'
import { startDetached } from '#platform/process.ts'
import { isErrno } from '#platform/storage-error.ts'
import type { SerfLog } from './serf-log.ts'

const BACKOFF_MIN_MS = 250
const BACKOFF_MAX_MS = 15_000
/** Uptime after which the back-off is reset. */
const HEALTHY_MS = 30_000
const POLL_MS = 250
const STOP_MS = 3_000

type SerfProcessOptions = {
  readonly binary: string
  /** Directory of Serf's files. */
  readonly dir: string
  readonly config: string
  readonly log: Pick<SerfLog, 'path' | 'bound'>
  /** The node name of the Serf that serves the RPC port, or null when none does. */
  readonly nameOfServing: () => Promise<string | null>
  readonly name: string
  readonly clock: Clock
  readonly logger: Logger
}

/** A process that was started or adopted; `ended` resolves with the reason. */
type Running = { readonly ended: Promise<string> }

export class SerfProcess {
  readonly #options: SerfProcessOptions
  readonly #configPath: string
  readonly #pidPath: string
  readonly #stopping = new AbortController()
  #pid: number | null = null
  #supervision: Promise<void> = Promise.resolve()

  constructor(options: SerfProcessOptions) {
    this.#options = options
    this.#configPath = join(options.dir, 'serf.json')
    this.#pidPath = join(options.dir, 'serf.pid')
  }

  get pid(): number | null {
    return this.#pid
  }

  /** Adopts the running Serf if its configuration is unchanged, otherwise starts one. @throws ERR_SERF, ERR_STORAGE */
  async start(): Promise<void> {
    const { config, nameOfServing, name, logger } = this.#options
    const running = await this.#findRunning()
    const [only] = running
    const unchanged = (await readIfExists(this.#configPath))?.toString() === config
    if (only !== undefined && running.length === 1 && unchanged && (await nameOfServing()) === name) {
      await this.#savePid(only)
      logger.info({ pid: only }, 'adopted the running serf')
      this.#supervision = this.#supervise({ ended: this.#endOfAdopted(only) })
      return
    }
    for (const pid of running) await this.#kill(pid)
    const other = await nameOfServing()
    if (other !== null) throw new VxmeshError('ERR_SERF', `serf.rpcPort: another serf (${other}) is using it`)
    await writeDurably(this.#configPath, config)
    this.#supervision = this.#supervise(await this.#spawn())
  }

  /** Stops the supervision and Serf, without a leave. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#supervision
    if (this.#pid !== null) await this.#kill(this.#pid)
    this.#pid = null
  }

  /** Keeps the file up to date, so that the next agent finds it unchanged and adopts the running Serf. */
  async rewriteConfig(config: string): Promise<void> {
    await writeDurably(this.#configPath, config)
  }

  async #supervise(first: Running): Promise<void> {
    const { clock, logger } = this.#options
    const { signal } = this.#stopping
    let backOffMs = BACKOFF_MIN_MS
    let current = first
    for (;;) {
      const since = clock.nowMs()
      const why = await Promise.race([current.ended, aborted(signal)])
      if (signal.aborted) return
      if (clock.nowMs() - since > HEALTHY_MS) backOffMs = BACKOFF_MIN_MS
      logger.warn({ why, backOffMs }, 'serf exited, restarting it')
      const next = await this.#respawn(() => {
        const currentMs = backOffMs
        backOffMs = Math.min(backOffMs * 2, BACKOFF_MAX_MS)
        return currentMs
      })
      if (next === null) return
      current = next
    }
  }

  /** Starts Serf again, backing off before each attempt; null when the supervision is stopped first. */
  async #respawn(nextBackOffMs: () => number): Promise<Running | null> {
    while (await this.#options.clock.sleep(nextBackOffMs(), this.#stopping.signal)) {
      try {
        return await this.#spawn()
      } catch (err) {
        this.#options.logger.error({ err: asVxmeshError(err) }, 'serf cannot be started')
      }
    }
    return null
  }

  async #spawn(): Promise<Running> {
    const { binary, log } = this.#options
    await log.bound()
    try {
      const child = await startDetached(binary, ['agent', `-config-file=${this.#configPath}`], { logFile: log.path })
      await this.#savePid(child.pid)
      return { ended: child.exited.then(({ message }) => message) }
    } catch (err) {
      const text = err instanceof Error ? err.message : String(err)
      throw new VxmeshError('ERR_SERF', `serf.binary: ${text}`, { field: 'serf.binary', cause: err })
    }
  }

  async #savePid(pid: number): Promise<void> {
    this.#pid = pid
    // Adopting a Serf whose pid is already saved must work on a full disk, too.
    if ((await this.#readPid()) !== pid) await writeDurably(this.#pidPath, `${pid}\n`)
  }

  async #readPid(): Promise<number> {
    return Number((await readIfExists(this.#pidPath))?.toString() ?? '')
  }

  /**
   * The processes that run with our configuration file. Searches all processes when the saved pid is missing or stale: an
   * agent may have been killed between starting Serf and saving its pid.
   */
  async #findRunning(): Promise<readonly number[]> {
    const saved = await this.#readPid()
    if (Number.isInteger(saved) && saved > 1 && (await this.#isOurs(saved))) return [saved]
    const found = await Promise.all(listPids().map(async pid => ((await this.#isOurs(pid)) ? [pid] : [])))
    return found.flat()
  }

  async #isOurs(pid: number): Promise<boolean> {
    try {
      const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
      return argv.includes(`-config-file=${this.#configPath}`)
    } catch {
      return false
    }
  }

  /** Polls for the end of an adopted process, which is not a child of this one. */
  async #endOfAdopted(pid: number): Promise<string> {
    while (await this.#isOurs(pid)) {
      if (!(await this.#options.clock.sleep(POLL_MS, this.#stopping.signal))) return 'supervision ended'
    }
    return 'the adopted process is gone'
  }

  async #kill(pid: number): Promise<void> {
    const { clock } = this.#options
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const until = clock.nowMs() + STOP_MS
      if (!(await this.#isOurs(pid))) break
      signalIfThere(pid, signal)
      while (clock.nowMs() < until && (await this.#isOurs(pid))) await clock.sleep(20)
    }
    await removeFile(this.#pidPath)
  }
}

function aborted(signal: AbortSignal): Promise<string> {
  return new Promise(resolve => {
    if (signal.aborted) resolve('stopped')
    else signal.addEventListener('abort', () => resolve('stopped'), { once: true })
  })
}

/** Sends a signal; a process that has already ended is not an error. */
function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (err) {
    if (!isErrno(err, 'ESRCH')) throw err
  }
}
