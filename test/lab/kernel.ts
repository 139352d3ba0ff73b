// The commands with which the lab builds and reads namespaces. `ip -j` and `bridge -j` are the oracle of the tests, for they
// are not our code.

import { existsSync, readdirSync } from 'node:fs'
import { run } from '#platform/process.ts'

/** Prefix of every lab's namespaces and directories. */
export const LAB_PREFIX = 'vxlab-'

/** Runs a program that must succeed. */
export async function must(
  file: string,
  args: readonly string[],
  options: { input?: string; timeoutMs?: number } = {}
): Promise<string> {
  const { exitCode, stdout, stderr } = await run(file, args, options)
  if (exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: exit ${exitCode}: ${stderr.trim()}`)
  return stdout
}

/** Runs many `ip` commands in one process: less than 1 ms a namespace instead of 3. */
export async function ipBatch(lines: readonly string[], namespace?: string): Promise<void> {
  const where = namespace === undefined ? [] : ['-n', namespace]
  const input = lines.map(line => `${line}\n`).join('')
  if (lines.length > 0) await must('ip', [...where, '-batch', '-'], { input, timeoutMs: 60_000 })
}

/** Removes named namespaces; tolerates others that remove them at the same time. */
export async function removeNamespaces(names: readonly string[]): Promise<void> {
  if (names.length === 0) return
  const input = names.map(name => `netns del ${name}\n`).join('')
  const { stderr } = await run('ip', ['-force', '-batch', '-'], { input, timeoutMs: 60_000 })
  const left = names.filter(name => existsSync(`/run/netns/${name}`))
  if (left.length > 0) throw new Error(`cannot remove ${left.join(', ')}: ${stderr.trim()}`)
}

/** What `ip -j` prints in a namespace. */
export async function ipJson(namespace: string, ...args: readonly string[]): Promise<Record<string, unknown>[]> {
  const text = await must('ip', ['-n', namespace, '-j', ...args])
  return text.trim() === '' ? [] : (JSON.parse(text) as Record<string, unknown>[])
}

export type FdbEntry = {
  readonly mac: string
  readonly ifname: string
  readonly dst?: string
  readonly state?: string
  readonly flags?: readonly string[]
}

export async function readFdb(namespace: string): Promise<FdbEntry[]> {
  return JSON.parse(await must('ip', ['netns', 'exec', namespace, 'bridge', '-j', 'fdb', 'show'])) as FdbEntry[]
}

export function listNamespaces(prefix: string): string[] {
  try {
    return readdirSync('/run/netns').filter(name => name.startsWith(prefix))
  } catch {
    return []
  }
}

export async function pidsIn(namespace: string): Promise<number[]> {
  const { stdout } = await run('ip', ['netns', 'pids', namespace])
  return stdout
    .split('\n')
    .filter(line => line !== '')
    .map(Number)
}

/** Signals a process that the lab started; one that has already ended is fine. */
export function kill(
  pid: number,
  signal: 'SIGKILL' | 'SIGTERM' | 'SIGHUP' | 'SIGINT' | 'SIGSTOP' | 'SIGCONT' = 'SIGKILL'
): void {
  try {
    process.kill(pid, signal)
  } catch (err) {
    if (!(err instanceof Error && 'code' in err && err.code === 'ESRCH')) throw err
  }
}
