// Bounds Serf's log while Serf runs. Serf appends to the file (O_APPEND) rather than to a pipe, so that it outlives a
// killed agent; the agent truncates the file in place. Each packet that a stranger sends to Serf's port adds a line.

import { open, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { asVxmeshError } from '#model/errors.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { replaceFile } from '#platform/files.ts'
import type { Logger } from '#platform/log.ts'
import { Serial } from '#platform/serial.ts'
import { digestLog } from './log-digest.ts'

/** Size beyond which the log is truncated: months of an undisturbed Serf. */
export const MAX_LOG_BYTES = 8 * 1024 * 1024
/** Time between two checks. A flood that keeps Serf busy writes about 1.3 MB/s. */
export const LOG_CHECK_MS = 500
/** The end of a truncated log, of which a digest is kept in `serf.log.1`. */
const DIGESTED_BYTES = 256 * 1024
/** Shortest time between two warnings of the agent's own log. */
const WARN_INTERVAL_MS = 60_000

type SerfLogOptions = { readonly dir: string; readonly clock: Clock; readonly logger: Logger }

export class SerfLog {
  readonly path: string
  readonly #options: SerfLogOptions
  readonly #checks = new Serial()
  #cancel: Cancel | null = null
  #droppedBytes = 0
  #nextWarningMs = 0

  constructor(options: SerfLogOptions) {
    this.path = join(options.dir, 'serf.log')
    this.#options = options
  }

  /** Bytes dropped since the agent started. */
  get droppedBytes(): number {
    return this.#droppedBytes
  }

  /** Keeps the log within bounds until `stop`. */
  start(): void {
    this.#cancel ??= this.#options.clock.every(LOG_CHECK_MS, () => void this.bound())
  }

  async stop(): Promise<void> {
    this.#cancel?.()
    this.#cancel = null
    await this.#checks.run(() => Promise.resolve())
  }

  /** Truncates the log if it is too large. Never rejects: a log must not end an agent. */
  bound(): Promise<void> {
    return this.#checks.run(async () => {
      try {
        await this.#bound()
      } catch (err) {
        this.#options.logger.debug({ err: asVxmeshError(err) }, 'serf’s log cannot be bounded')
      }
    })
  }

  async #bound(): Promise<void> {
    const size = await stat(this.path).then(
      s => s.size,
      () => 0
    )
    if (size <= MAX_LOG_BYTES) return
    const end = await readEnd(this.path, size)
    // Before anything is written: the disk may be full.
    await truncate(this.path, 0)
    this.#droppedBytes += size
    const { text, mostFrequent } = digestLog(end)
    this.#warn(size, mostFrequent)
    await replaceFile(`${this.path}.1`, text)
  }

  #warn(bytes: number, mostFrequent: string): void {
    const nowMs = this.#options.clock.nowMs()
    if (nowMs < this.#nextWarningMs) return
    this.#nextWarningMs = nowMs + WARN_INTERVAL_MS
    this.#options.logger.warn({ bytes, mostFrequent }, 'serf’s log was full and has been truncated')
  }
}

/** The last whole lines. */
async function readEnd(path: string, size: number): Promise<string> {
  const file = await open(path, 'r')
  try {
    const bytes = Buffer.alloc(Math.min(size, DIGESTED_BYTES))
    const { bytesRead } = await file.read(bytes, 0, bytes.byteLength, size - bytes.byteLength)
    const text = bytes.toString('utf8', 0, bytesRead)
    return text.slice(text.indexOf('\n') + 1)
  } finally {
    await file.close()
  }
}
