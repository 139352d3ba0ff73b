// The log: pino, JSON lines on stderr, a child a room. Messages are constant; what varies is in the fields. Into the
// journal each line goes with its priority.

import { pino, type Logger } from 'pino'
import { isJournal, priority, type JournalLevel } from './journal.ts'

export type { Logger }
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** A child keeps the level of its birth: these follow their root. */
const children = new WeakMap<Logger, Set<Logger>>()

/** The root logger of a process. Synchronous: the last line before a crash is the one that matters. */
export function createLogger(level: LogLevel): Logger {
  const born = new Set<Logger>()
  const stderr = pino.destination({ dest: 2, sync: true })
  const prefixed = {
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 0,
    write(line: string): void {
      stderr.write(`${priority((pino.levels.labels[this.lastLevel] ?? 'info') as JournalLevel)}${line}`)
    }
  }
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      onChild: child => born.add(child)
    },
    isJournal(process.env) ? prefixed : stderr
  )
  children.set(logger, born)
  return logger
}

/** Changes the level of a root logger and of all its children. */
export function setLogLevel(root: Logger, level: LogLevel): void {
  for (const logger of [root, ...(children.get(root) ?? [])]) logger.level = level
}
