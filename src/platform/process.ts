// Child processes by execa, never through a shell. A long-running one is returned as a small handle.

import { closeSync, openSync } from 'node:fs'
import { execa } from 'execa'
import { VxmeshError } from '#model/errors.ts'

export type RunResult = { readonly stdout: string; readonly stderr: string; readonly exitCode: number }

/** Runs a program to its end. A non-zero exit is a result. @throws ERR_INTERNAL when it cannot start or times out */
export async function run(
  file: string,
  args: readonly string[],
  options: { input?: string; timeoutMs?: number; maxBytes?: number } = {}
): Promise<RunResult> {
  const result = await execa(file, args, {
    reject: false,
    timeout: options.timeoutMs ?? 10_000,
    maxBuffer: options.maxBytes ?? 16 * 1024 * 1024,
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input })
  })
  if (result.exitCode === undefined) {
    throw new VxmeshError('ERR_INTERNAL', `${file} did not run: ${result.shortMessage}`, { cause: result.cause })
  }
  return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode }
}

export type ChildHandle = {
  readonly pid: number
  /** Resolves with how the process ended; never rejects. */
  readonly exited: Promise<{
    readonly exitCode: number | null
    readonly signal: string | null
    readonly message: string
  }>
  kill(signal: 'SIGTERM' | 'SIGKILL' | 'SIGHUP' | 'SIGINT'): void
}

/**
 * Starts a program that outlives a killed parent: it gets its own session, and its output is appended to a log file. A
 * pipe would end it, since writing to a pipe without a reader raises SIGPIPE.
 * @throws ERR_INTERNAL when it cannot start
 */
export async function startDetached(
  file: string,
  args: readonly string[],
  options: { logFile: string }
): Promise<ChildHandle> {
  // A file descriptor, because execa would open a pipe for a file name. It accepts any descriptor, but its types allow
  // only 1 and 2.
  const log = openSync(options.logFile, 'a', 0o600) as 1
  const child = execa(file, args, {
    reject: false,
    detached: true,
    cleanup: false,
    stdin: 'ignore',
    stdout: log,
    stderr: log,
    buffer: false
  })
  closeSync(log)
  if (child.pid === undefined) {
    const failed = await child
    throw new VxmeshError('ERR_INTERNAL', `cannot start ${file}: ${failed.shortMessage ?? 'no process'}`, {
      cause: failed.cause
    })
  }
  const exited = child.then(result => ({
    exitCode: result.exitCode ?? null,
    signal: result.signal ?? null,
    message: result.shortMessage ?? 'exited'
  }))
  return { pid: child.pid, exited, kill: signal => void child.kill(signal) }
}
