// The log: pino, JSON lines on stderr, one child logger per room. Messages are constant; variable data is in the fields.
// When stderr is the journal, each line is prefixed with its priority.

import { pino, type Logger } from 'pino'
import { isJournal, priority, type JournalLevel } from './journal.ts'

export type { Logger }
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** The children of each root logger. pino's children keep their initial level, so changes are applied to each of them. */
const children = new WeakMap<Logger, Set<Logger>>()

/** The root logger of a process. Writes synchronously, so that the last line before a crash is not lost. */
export function createLogger(level: LogLevel): Logger {
  const ownChildren = new Set<Logger>()
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
      onChild: child => ownChildren.add(child)
    },
    isJournal(process.env) ? prefixed : stderr
  )
  children.set(logger, ownChildren)
  return logger
}

/** Changes the level of a root logger and of all its children. */
export function setLogLevel(root: Logger, level: LogLevel): void {
  for (const logger of [root, ...(children.get(root) ?? [])]) logger.level = level
}
