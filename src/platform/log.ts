// The log: pino, JSON lines on stderr, a child a room. Messages are constant; what varies is in the fields.

import { pino, type Logger } from 'pino'

export type { Logger }
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** The root logger of a process. Synchronous: the last line before a crash is the one that matters. */
export function createLogger(level: LogLevel): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: label => ({ level: label }) } },
    pino.destination({ dest: 2, sync: true })
  )
}
