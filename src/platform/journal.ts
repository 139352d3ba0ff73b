// The journal of systemd as where stderr goes: then each line says how important it is, as sd-daemon(3) has it.

import { fstatSync } from 'node:fs'

/** Priorities of syslog(3) by the log's levels. */
const PRIORITIES = { trace: 7, debug: 7, info: 6, warn: 4, error: 3, fatal: 2 } as const

export type JournalLevel = keyof typeof PRIORITIES

/** Is a descriptor the stream that JOURNAL_STREAM names, device:inode? Somebody may have sent it elsewhere since. */
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
