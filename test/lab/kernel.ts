// The commands with which the lab builds and reads namespaces. `ip -j` and `bridge -j` are the oracle of the tests, for they
// are not our code.

import { existsSync, readdirSync, statSync } from 'node:fs'
import { listPids } from '#platform/pids.ts'
import { run } from './run.ts'

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

/** Runs `ip -n NAMESPACE ARGS`, which must succeed. */
export function ip(namespace: string, args: string): Promise<string> {
  return must('ip', ['-n', namespace, ...args.split(' ')])
}

/** Runs `bridge -n NAMESPACE ARGS`, which must succeed. */
export function bridge(namespace: string, args: string): Promise<string> {
  return must('bridge', ['-n', namespace, ...args.split(' ')])
}

/** The rows that `ip` or `bridge` prints with `-j -d` in a namespace. */
export async function json<T>(tool: 'ip' | 'bridge' | 'tc', namespace: string, args: string): Promise<T[]> {
  const text = await must(tool, ['-j', '-d', '-n', namespace, ...args.split(' ')])
  return text.trim() === '' ? [] : (JSON.parse(text) as T[])
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

/** Processes in any of these namespaces, in one scan of /proc; `ip netns pids` takes one for each namespace. */
export function pidsIn(...namespaces: readonly string[]): number[] {
  const wanted = new Set(namespaces.map(name => inodeOf(`/run/netns/${name}`)).filter(inode => inode !== null))
  return listPids().filter(pid => wanted.has(inodeOf(`/proc/${pid}/ns/net`) ?? -1))
}

/** Null for what is gone, or a process that we may not look into. */
function inodeOf(path: string): number | null {
  try {
    return statSync(path).ino
  } catch {
    return null
  }
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
