// A process that keeps a namespace alive by sleeping in it.

import { spawn } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { waitFor } from './wait.ts'

export async function startHolder(namespace: string): Promise<{ readonly pid: number }> {
  const own = readlinkSync('/proc/self/ns/net')
  const child = spawn('ip', ['netns', 'exec', namespace, 'sleep', '600'], { stdio: 'ignore' })
  const { pid } = child
  if (pid === undefined) throw new Error('sleep did not start')
  await waitFor('the process is in the namespace', () => readlinkSync(`/proc/${pid}/ns/net`) !== own)
  return { pid }
}
