// The process as the command line uses it: where output goes, and how wide and colourful it may be.

import { isJournal, priority } from '#platform/journal.ts'
import type { CliIo } from './context.ts'

type Output = {
  readonly columns?: number | undefined
  readonly isTTY?: boolean
  write(text: string): unknown
  on(event: 'error', listener: (err: NodeJS.ErrnoException) => void): unknown
}

export type CliProcess = {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdout: Output
  readonly stderr: Pick<Output, 'write'>
  exit(): void
}

export function terminalOf({ env, stdout, stderr }: CliProcess): CliIo {
  return {
    env,
    out: text => stdout.write(text),
    err: text => stderr.write(isJournal(env) ? `${priority('error')}${text}` : text),
    columns: stdout.columns,
    // https://no-color.org
    color: stdout.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'
  }
}

/** The reader of a pipe may close it (`vxmesh events | head -1`): then there is nothing left to do. */
export function exitOnClosedPipe(process: Pick<CliProcess, 'stdout' | 'exit'>): void {
  process.stdout.on('error', err => {
    if (err.code !== 'EPIPE') throw err
    process.exit()
  })
}
