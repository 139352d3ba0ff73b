// Keeps this host's record in the replicated state: name, VTEP, role, boot id and version, keyed by peer id. Without it
// no other host sends traffic here, so registration is retried until the state holds it. A host that leaves says so there,
// where no other can say it.

import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { Command } from '#model/command.ts'
import { LEFT_BOOT_ID, type Host } from '#model/host.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'

const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 5_000

export type RegistrarOptions = {
  readonly host: Host
  /** This host's record in the local state. */
  readonly recorded: () => Host | undefined
  readonly propose: (command: Command) => Promise<unknown>
  readonly clock: Clock
  readonly logger: Logger
}

export class Registrar {
  readonly #options: RegistrarOptions
  readonly #stopping = new AbortController()
  #running = false
  #leaves = false
  /** Why the last attempt failed, for status and doctor. */
  problem: VxmeshError | null = null

  constructor(options: RegistrarOptions) {
    this.#options = options
  }

  get registered(): boolean {
    return same(this.#options.recorded(), this.#wanted)
  }

  /** Says once that this host leaves, if it has a record. @throws as `propose`; the host may leave all the same */
  async leave(): Promise<void> {
    this.#leaves = true
    if (this.#options.recorded() !== undefined) await this.#propose()
  }

  /** This host does not leave after all. */
  stay(): void {
    this.#leaves = false
    this.check()
  }

  /** Called when the host has joined a cluster, and whenever the state has changed. */
  check(): void {
    if (!this.#running && !this.registered && !this.#stopping.signal.aborted) void this.#register()
  }

  stop(): void {
    this.#stopping.abort()
  }

  async #register(): Promise<void> {
    this.#running = true
    let pauseMs = RETRY_MIN_MS
    const { signal } = this.#stopping
    while (!signal.aborted && !this.registered) {
      try {
        await this.#propose()
        break
      } catch (thrown) {
        this.problem = asVxmeshError(thrown)
        this.#options.logger.warn({ err: this.problem }, 'host is not registered')
        await this.#options.clock.sleep(pauseMs, signal)
        pauseMs = Math.min(pauseMs * 2, RETRY_MAX_MS)
      }
    }
    // An attempt that failed here may still have been committed.
    this.problem = null
    this.#running = false
  }

  #propose(): Promise<unknown> {
    return this.#options.propose({ kind: 'host-register', host: this.#wanted })
  }

  get #wanted(): Host {
    const { host } = this.#options
    return this.#leaves ? { ...host, bootId: LEFT_BOOT_ID } : host
  }
}

function same(a: Host | undefined, b: Host): boolean {
  return (
    a?.name === b.name && a.vtep === b.vtep && a.role === b.role && a.bootId === b.bootId && a.version === b.version
  )
}
