// Pings from a namespace, in the foreground or in the background.

import { spawn } from 'node:child_process'
import { kill } from './kernel.ts'
import { run } from './run.ts'

/** For the first reply, on a busy machine. Whoever expects none, or asks again and again, waits less. */
const PATIENCE_MS = 5_000

export type PingResult = {
  readonly sent: number
  readonly received: number
  /** Unanswered sequence numbers before the last answered one: replies in flight when ping is stopped are not lost. */
  readonly gaps: readonly number[]
  /** Its standard error, for example a warning about a clock that went backwards. */
  readonly complaints: string
  readonly averageMs: number | null
}

export type PingOptions = {
  readonly count: number
  readonly intervalMs?: number
  /** How long to wait for the last reply. */
  readonly waitMs?: number
  readonly size?: number
  /** Forbid fragments. */
  readonly dontFragment?: boolean
}

export type RunningPing = { readonly result: Promise<PingResult>; readonly stop: () => void }

/** Starts a bounded ping; `stop` ends it early, and the result covers the pings sent until then. */
export function startPing(namespace: string, address: string, options: PingOptions): RunningPing {
  const { count, intervalMs = 50, waitMs = PATIENCE_MS, size, dontFragment } = options
  const args = ['netns', 'exec', namespace, 'ping', '-n', '-c', `${count}`, '-i', `${intervalMs / 1_000}`]
  args.push('-W', `${Math.max(waitMs / 1_000, 0.1)}`)
  if (size !== undefined) args.push('-s', `${size}`)
  if (dontFragment === true) args.push('-M', 'do')
  const child = spawn('ip', [...args, address], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' }
  })
  let text = ''
  // Kept apart: standard output comes in blocks, and an error between two of them would split a line.
  let complaints = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()))
  const result = new Promise<PingResult>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', () => {
      const counts = /(\d+) packets transmitted, (\d+) received/.exec(text)
      if (counts === null) reject(new Error(`ping ${address}: ${text.trim()} ${complaints.trim()}`))
      const average = /= [\d.]+\/([\d.]+)\//.exec(text)?.[1]
      const answered = new Set([...text.matchAll(/icmp_seq=(\d+) ttl=/g)].map(match => Number(match[1])))
      resolve({
        gaps: Array.from({ length: Math.max(0, ...answered) }, (_, n) => n + 1).filter(n => !answered.has(n)),
        complaints: complaints.trim(),
        sent: Number(counts?.[1]),
        received: Number(counts?.[2]),
        averageMs: average === undefined ? null : Number(average)
      })
    })
  })
  return {
    result,
    stop: () => {
      if (child.pid !== undefined) kill(child.pid, 'SIGINT')
    }
  }
}

const FEW = 5

export type ReplyOptions = {
  readonly count?: number
  readonly size?: number
  readonly waitMs?: number
  /** Those that are larger than the MTU may be fragmented; otherwise they are not sent. */
  readonly inFragments?: boolean
}

/**
 * How many of `count` pings are answered, without a warm-up; gives up `waitMs` after the last if none is. Otherwise ping waits for
 * the last answer two round trips or one interval: a few pings are sent at once, with a long interval, for a busy machine.
 */
export async function countReplies(
  from: { readonly namespace: string },
  to: string,
  options: ReplyOptions = {}
): Promise<number> {
  const { count = 3, size, waitMs = PATIENCE_MS, inFragments = false } = options
  const sized = size === undefined ? [] : ['-M', inFragments ? 'dont' : 'do', '-s', `${size}`]
  const pace = count <= FEW ? ['-l', `${count}`, '-i', `${PATIENCE_MS / 1_000}`] : ['-i', '0.05']
  const flags = ['-n', '-c', `${count}`, ...pace, '-W', `${waitMs / 1_000}`, ...sized]
  const { stdout } = await run('ip', ['netns', 'exec', from.namespace, 'ping', ...flags, to], { timeoutMs: 60_000 })
  return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0)
}
