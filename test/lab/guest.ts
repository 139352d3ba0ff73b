// Another kernel that runs as processes of this machine: QEMU, User-Mode Linux. It tells by files of one folder how far it is: `up`
// when it has booted, then `stdout` and `stderr` of its program, then `exit`. What it prints itself goes to `console`.

import type { ChildProcess } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { kill } from './kernel.ts'
import { prioritize } from './priority.ts'
import { sessionOf } from './session.ts'
import { waitFor } from './wait.ts'

const CONSOLE_LINES = 30
/** Programs in it do not see how busy this machine is, so their deadlines cannot allow for it. */
const NICE = -10

export type GuestRun = { readonly exitCode: number; readonly stdout: string; readonly stderr: string }

/**
 * Starts it, waits for its program, and ends all of its processes.
 * @param p.start starts it as the leader of a session of its own, with this descriptor for what it prints
 * @throws Error with the end of the console when it does not boot in time, does not end in time, or dies
 */
export async function runGuest(p: {
  readonly name: string
  readonly dir: string
  readonly bootMs: number
  readonly wholeMs: number
  readonly start: (log: number) => ChildProcess
}): Promise<GuestRun> {
  const { name, bootMs, wholeMs } = p
  const at = (file: string): string => join(p.dir, file)
  const read = (file: string): string => (existsSync(at(file)) ? readFileSync(at(file), 'utf8') : '')
  const log = openSync(at('console'), 'w')
  const child = p.start(log)
  closeSync(log)
  if (child.pid !== undefined) prioritize(child.pid, NICE)
  const over = new Promise<string>(done => {
    child.on('error', err => done(err.message))
    child.on('exit', (code, signal) => done(`exit ${code ?? signal ?? ''}`))
  })
  let ended: string | null = null
  void over.then(why => (ended = why))
  const lastLines = (text: string): string => text.trimEnd().split('\n').slice(-CONSOLE_LINES).join('\n')
  const tail = (): string => `--- console\n${lastLines(read('console'))}`
  const within = async (what: string, ms: number, reached: () => boolean): Promise<void> => {
    await waitFor(`${name} ${what}`, () => ended !== null || reached(), { timeoutMs: ms, explain: tail })
    if (!reached()) throw new Error(`${name} ended before it ${what} (${ended ?? ''})\n${tail()}`)
  }
  try {
    await within('boots', bootMs, () => existsSync(at('up')))
    await within('has run its program', wholeMs, () => read('exit').endsWith('\n'))
    return { exitCode: Number(read('exit')), stdout: read('stdout'), stderr: read('stderr') }
  } catch (err) {
    const said = lastLines(`${read('stdout')}${read('stderr')}`)
    throw new Error(`${err instanceof Error ? err.message : String(err)}\n--- program\n${said}`, { cause: err })
  } finally {
    if (child.pid !== undefined) {
      await endSession(name, child.pid)
      await over
    }
  }
}

async function endSession(name: string, leader: number): Promise<void> {
  await waitFor(`${name} is gone`, () => {
    const left = sessionOf(leader)
    for (const pid of left) kill(pid)
    return left.length === 0
  })
}

/** Quotes an argument for sh(1). */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
