// The Serf process under supervision: started detached, so that it outlives a killed agent, and adopted again by the
// next one; restarted with back-off when it ends. Whether it is alive is judged by pid and command line, never by name.

import { readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Clock } from '#platform/clock.ts'
import { isErrno, readIfExists, removeFile, writeDurably } from '#platform/files.ts'
import type { Logger } from '#platform/log.ts'
import { listPids, startDetached } from '#platform/process.ts'

const BACKOFF_MIN_MS = 250
const BACKOFF_MAX_MS = 15_000
/** A process that lived so long was healthy: the next back-off starts small again. */
const HEALTHY_MS = 30_000
const POLL_MS = 250
const STOP_MS = 3_000
const MAX_LOG_BYTES = 8 * 1024 * 1024

export type SerfProcessOptions = {
  readonly binary: string
  /** Directory of Serf's files. */
  readonly dir: string
  readonly config: string
  /** Is a Serf answering on the RPC port, and under which name? Null when nothing answers. */
  readonly answering: () => Promise<string | null>
  readonly name: string
  readonly clock: Clock
  readonly logger: Logger
}

/** A process that was started or adopted; `ended` tells why, once. */
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

  /** Adopts a Serf of ours that runs with this very configuration, or starts one. @throws ERR_SERF, ERR_STORAGE */
  async start(): Promise<void> {
    const { config, answering, name, logger } = this.#options
    const running = await this.#findRunning()
    const [only] = running
    const unchanged = (await readIfExists(this.#configPath))?.toString() === config
    if (only !== undefined && running.length === 1 && unchanged && (await answering()) === name) {
      await this.#note(only)
      logger.info({ pid: only }, 'adopted the running serf')
      this.#supervision = this.#supervise({ ended: this.#goneOf(only) })
      return
    }
    for (const pid of running) await this.#end(pid)
    const stranger = await answering()
    if (stranger !== null) throw new VxmeshError('ERR_SERF', `serf.rpcPort: another serf (${stranger}) answers there`)
    await writeDurably(this.#configPath, config)
    this.#supervision = this.#supervise(await this.#spawn())
  }

  /** Ends the supervision, and Serf if it still runs; without a leave. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#supervision
    if (this.#pid !== null) await this.#end(this.#pid)
    this.#pid = null
  }

  /** The file is kept in step, so that an adopting agent knows that nothing has changed. */
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
      logger.warn({ why, backOffMs }, 'serf ended; it is restarted')
      const next = await this.#respawn(() => {
        const pauseMs = backOffMs
        backOffMs = Math.min(backOffMs * 2, BACKOFF_MAX_MS)
        return pauseMs
      })
      if (next === null) return
      current = next
    }
  }

  /** Starts Serf again, pausing before each try; null when the supervision ends first. */
  async #respawn(nextPauseMs: () => number): Promise<Running | null> {
    while (await this.#options.clock.sleep(nextPauseMs(), this.#stopping.signal)) {
      try {
        return await this.#spawn()
      } catch (err) {
        this.#options.logger.error({ err: asVxmeshError(err) }, 'serf cannot be started')
      }
    }
    return null
  }

  async #spawn(): Promise<Running> {
    const { binary, dir } = this.#options
    const logFile = join(dir, 'serf.log')
    await capLog(logFile)
    try {
      const child = await startDetached(binary, ['agent', `-config-file=${this.#configPath}`], { logFile })
      await this.#note(child.pid)
      return { ended: child.exited.then(({ message }) => message) }
    } catch (err) {
      const text = err instanceof Error ? err.message : String(err)
      throw new VxmeshError('ERR_SERF', `serf.binary: ${text}`, { field: 'serf.binary', cause: err })
    }
  }

  async #note(pid: number): Promise<void> {
    this.#pid = pid
    // What is noted already is adopted on a full disk, too.
    if ((await this.#noted()) !== pid) await writeDurably(this.#pidPath, `${pid}\n`)
  }

  async #noted(): Promise<number> {
    return Number((await readIfExists(this.#pidPath))?.toString() ?? '')
  }

  /**
   * Processes that were started with our configuration file. An agent that was killed between the start of Serf and the
   * note of its pid has left none, or an older one: then all processes are asked.
   */
  async #findRunning(): Promise<readonly number[]> {
    const noted = await this.#noted()
    if (Number.isInteger(noted) && noted > 1 && (await this.#isOurs(noted))) return [noted]
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

  /** An adopted process is no child: its end is found by looking. */
  async #goneOf(pid: number): Promise<string> {
    while (await this.#isOurs(pid)) {
      if (!(await this.#options.clock.sleep(POLL_MS, this.#stopping.signal))) return 'supervision ended'
    }
    return 'the adopted process is gone'
  }

  async #end(pid: number): Promise<void> {
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

/** Serf appends for ever; at each start a log over the bound is emptied. */
async function capLog(path: string): Promise<void> {
  const size = await stat(path).then(
    s => s.size,
    () => 0
  )
  if (size > MAX_LOG_BYTES) await truncate(path, 0)
}

function aborted(signal: AbortSignal): Promise<string> {
  return new Promise(resolve => {
    if (signal.aborted) resolve('stopped')
    else signal.addEventListener('abort', () => resolve('stopped'), { once: true })
  })
}

/** It may end by itself between a look at it and the signal. */
function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (err) {
    if (!isErrno(err, 'ESRCH')) throw err
  }
}
