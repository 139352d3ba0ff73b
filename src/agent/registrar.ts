// Keeps this host's record in the replicated state: name, VTEP, role, boot id and version, keyed by peer id. Without it
// no other host sends traffic here, so registration is retried until the state holds it.

import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { Command } from '#model/command.ts'
import type { Host } from '#model/host.ts'
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
  /** Why the last attempt failed, for status and doctor. */
  problem: VxmeshError | null = null

  constructor(options: RegistrarOptions) {
    this.#options = options
  }

  get registered(): boolean {
    return same(this.#options.recorded(), this.#options.host)
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
        await this.#options.propose({ kind: 'host-register', host: this.#options.host })
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
}

function same(a: Host | undefined, b: Host): boolean {
  return (
    a?.name === b.name && a.vtep === b.vtep && a.role === b.role && a.bootId === b.bootId && a.version === b.version
  )
}
