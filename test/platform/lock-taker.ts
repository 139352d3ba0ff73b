// A process that locks a directory so many times. Whoever holds the lock makes a folder beside it, which fails if another
// process is inside, and leaves a stale lock file when it ends.

import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { VxmeshError } from '#model/errors.ts'
import { lockDirectory, type Lock } from '#platform/lock.ts'

const [dir = '', times = ''] = process.argv.slice(2)
const inside = join(dir, 'inside')

for (let taken = 0; taken < Number(times);) {
  const lock = await tryLock()
  if (lock === null) continue
  taken++
  mkdirSync(inside)
  await nextTurn()
  rmdirSync(inside)
  await lock.release()
  leaveStaleLock()
}

async function tryLock(): Promise<Lock | null> {
  try {
    return await lockDirectory(dir)
  } catch (err) {
    if (err instanceof VxmeshError && err.code === 'ERR_CONFIG') return null
    throw err
  }
}

/** Unless the other process has the lock by now. */
function leaveStaleLock(): void {
  try {
    writeFileSync(join(dir, 'agent.lock'), '999999999 12345\n', { flag: 'wx' })
  } catch {
    return
  }
}
