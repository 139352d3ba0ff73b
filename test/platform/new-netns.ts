// A named network namespace that is removed after the test.

import { randomBytes } from 'node:crypto'
import { run } from '#platform/process.ts'

/** @returns its path */
export async function newNetns(t: { teardown(fn: () => unknown): void }): Promise<string> {
  const name = `nst${randomBytes(3).toString('hex')}`
  const made = await run('ip', ['netns', 'add', name])
  if (made.exitCode !== 0) throw new Error(made.stderr)
  t.teardown(() => run('ip', ['netns', 'del', name]))
  return `/run/netns/${name}`
}
