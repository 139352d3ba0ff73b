// One agent per data directory: a lock file with the holder's pid and start time, so that the lock of a crashed agent is
// recognised as stale.

import { writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import { isErrno, readIfExists } from './files.ts'
import { readStartTime } from './host-facts.ts'

export type Lock = { release(): Promise<void> }

/** @throws ERR_CONFIG naming dataDir when another live process holds it; ERR_STORAGE */
export async function lockDirectory(dir: string): Promise<Lock> {
  const path = join(dir, 'agent.lock')
  const content = `${process.pid} ${(await readStartTime(process.pid)) ?? ''}\n`
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      // Synchronous, so that no other caller in this process sees the file empty.
      writeFileSync(path, content, { flag: 'wx', mode: 0o600 })
      return { release: () => rm(path, { force: true }) }
    } catch (err) {
      if (!isErrno(err, 'EEXIST'))
        throw new VxmeshError('ERR_STORAGE', `cannot lock ${dir}: ${String(err)}`, { cause: err })
    }
    const holder = (await readIfExists(path))?.toString() ?? ''
    const [pid = '', startTime = ''] = holder.trim().split(' ')
    if (startTime !== '' && (await readStartTime(Number(pid))) === startTime) {
      throw new VxmeshError('ERR_CONFIG', `dataDir: ${dir} is in use by the agent with pid ${pid}`, {
        field: 'dataDir'
      })
    }
    await rm(path, { force: true })
  }
  throw new VxmeshError('ERR_CONFIG', `dataDir: ${dir} is being locked by another agent`, { field: 'dataDir' })
}
