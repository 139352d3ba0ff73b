// Runs the suite's Python programs in a namespace: to their end, or until they are told to stop.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { must } from '../lab/kernel.ts'

const DEBIAN_PYTHON = '/usr/bin/python3'
/** Every program bounds itself far below this. */
const TIMEOUT_MS = 180_000

type Where = { readonly namespace: string }
type Argument = string | number

/** The JSON that a function of attacker.py prints. */
export async function attacker<T>(where: Where, what: string, ...args: readonly Argument[]): Promise<T> {
  return JSON.parse(await must('ip', command(where, 'attacker.py', what, args), { timeoutMs: TIMEOUT_MS })) as T
}

/** The same as a user without rights. */
export async function attackerAs<T>(
  user: number,
  where: Where,
  what: string,
  ...args: readonly Argument[]
): Promise<T> {
  const [netns = '', exec = '', namespace = '', ...program] = command(where, 'attacker.py', what, args)
  const as = [netns, exec, namespace, 'setpriv', `--reuid=${user}`, '--clear-groups', ...program]
  return JSON.parse(await must('ip', as, { timeoutMs: TIMEOUT_MS })) as T
}

/** Sends what a function of scenes.py makes; resolves with the number of packets. */
export async function scene(where: Where, what: string, ...args: readonly Argument[]): Promise<number> {
  return Number(await must('ip', command(where, 'scenes.py', what, args), { timeoutMs: TIMEOUT_MS }))
}

/** Sends all kinds of scapy6.py; resolves with the mark of each. */
export async function scapy6(where: Where, place: object): Promise<Readonly<Record<string, number>>> {
  const args = command(where, 'scapy6.py', JSON.stringify(place), [])
  return JSON.parse(await must('ip', args, { timeoutMs: TIMEOUT_MS })) as Record<string, number>
}

export type Running = {
  /** Its first line. */
  readonly first: unknown
  /** Resolves with its next line, or null once it has ended. */
  readonly next: () => Promise<unknown>
  /** Closes its input, which ends it; resolves with the last line that it printed. */
  readonly stop: () => Promise<unknown>
}

/** Starts a function of attacker.py; resolves with its first line, once that is printed. */
export async function startAttacker(where: Where, what: string, ...args: readonly Argument[]): Promise<Running> {
  const child = spawn('ip', command(where, 'attacker.py', what, args), { stdio: ['pipe', 'pipe', 'inherit'] })
  // It may have ended by itself.
  child.stdin.on('error', () => undefined)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<unknown> => {
    const line = await lines.next()
    return line.done === true ? null : (JSON.parse(line.value) as unknown)
  }
  const first = await next()
  if (first === null) throw new Error(`${what} ended before it began`)
  const ended = new Promise(resolve => child.on('close', resolve))
  return {
    first,
    next,
    stop: async () => {
      child.stdin.end()
      if (what === 'serve') child.kill('SIGKILL')
      const last = await next()
      await ended
      return last
    }
  }
}

function command({ namespace }: Where, file: string, what: string, args: readonly Argument[]): string[] {
  const program = [DEBIAN_PYTHON, join(import.meta.dirname, file), what, ...args.map(String)]
  return ['netns', 'exec', namespace, ...program]
}
