// The systemd journal as the destination of stderr: each line is prefixed with its priority (sd-daemon(3)).

import { fstatSync } from 'node:fs'

/** syslog(3) priorities of the log levels. */
const PRIORITIES = { trace: 7, debug: 7, info: 6, warn: 4, error: 3, fatal: 2 } as const

export type JournalLevel = keyof typeof PRIORITIES

/** Is `fd` the stream that JOURNAL_STREAM names as device:inode? It may have been redirected since. */
export function isJournal(env: Readonly<Record<string, string | undefined>>, fd = 2): boolean {
  const stream = env['JOURNAL_STREAM']
  if (stream === undefined) return false
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true })
    return stream === `${dev}:${ino}`
  } catch {
    return false
  }
}

/** `<4>` for a warning. */
export function priority(level: JournalLevel): string {
  return `<${PRIORITIES[level]}>`
}
