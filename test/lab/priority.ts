// The priority of a session: of its scheduling group (sched_autogroup), and of each of its processes for kernels without
// such groups.

import { existsSync, writeFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { sessionOf } from './session.ts'

/** Processes that are started later inherit it. */
export function prioritize(leader: number, nice: number): void {
  const group = `/proc/${leader}/autogroup`
  if (existsSync(group)) tolerate(() => writeFileSync(group, `${nice}`))
  const done = new Set<number>()
  const left = (): number[] => sessionOf(leader).filter(pid => !done.has(pid))
  // A process may have been started by one whose turn had not come yet.
  for (let pids = left(); pids.length > 0; pids = left()) {
    for (const pid of pids) tolerate(() => setPriority(pid, nice))
    for (const pid of pids) done.add(pid)
  }
}

/** Ignores a process that has just ended or that we may not change: the suite only becomes slower. */
function tolerate(change: () => void): void {
  try {
    change()
  } catch {
    return
  }
}
