// One agent per data directory: flock(2) on a file, which the kernel releases when the holder dies. The file names the holder
// by pid and start time, which is all that agents of earlier versions check and hold.

import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import { readIfExists } from './files.ts'
import { readStartTime } from './host-facts.ts'
import { errnoName, tryFlock } from './libc.ts'
import { storageError } from './storage-error.ts'

export type Lock = { release(): Promise<void> }

const FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW
/** How often a lock file that its holder is deleting is opened again. */
const ATTEMPTS = 100

/** @throws ERR_CONFIG naming dataDir when another live process holds it; ERR_STORAGE */
export async function lockDirectory(dir: string): Promise<Lock> {
  const path = join(dir, 'agent.lock')
  const startTime = await readStartTime(process.pid)
  const fd = openLocked(dir, path)
  if (fd === null) throw inUse(dir, holderOf(await readIfExists(path)).pid)
  try {
    const holder = holderOf(await readIfExists(path))
    if (holder.startTime !== '' && (await readStartTime(Number(holder.pid))) === holder.startTime) {
      throw inUse(dir, holder.pid)
    }
    write(path, fd, `${process.pid} ${startTime ?? ''}\n`)
  } catch (err) {
    closeSync(fd)
    throw err
  }
  return { release: () => release(path, fd) }
}

/** The descriptor of the locked file; null when another process has locked it. @throws ERR_STORAGE */
function openLocked(dir: string, path: string): number | null {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const fd = open(dir, path)
    const { value, errno } = tryFlock(fd)
    if (value === 0 && fstatSync(fd).nlink > 0) return fd
    closeSync(fd)
    if (value !== 0) {
      if (errnoName(errno) === 'EAGAIN') return null
      throw storageError(`cannot lock ${dir}`, new Error(errnoName(errno)))
    }
    // The holder deleted the file between our open and its release.
  }
  return null
}

function open(dir: string, path: string): number {
  try {
    return openSync(path, FLAGS, 0o600)
  } catch (err) {
    throw storageError(`cannot lock ${dir}`, err)
  }
}

function write(path: string, fd: number, content: string): void {
  try {
    ftruncateSync(fd)
    writeSync(fd, content, 0)
  } catch (err) {
    throw storageError(`cannot write ${path}`, err)
  }
}

/** Deletes the file while it is locked: no other process can have taken it. */
async function release(path: string, fd: number): Promise<void> {
  await rm(path, { force: true })
  closeSync(fd)
}

function holderOf(content: Buffer | null): { readonly pid: string; readonly startTime: string } {
  const [pid = '', startTime = ''] = (content?.toString() ?? '').trim().split(' ')
  return { pid, startTime }
}

function inUse(dir: string, pid: string): VxmeshError {
  const holder = pid === '' ? 'is being locked by another agent' : `is in use by the agent with pid ${pid}`
  return new VxmeshError('ERR_CONFIG', `dataDir: ${dir} ${holder}`, { field: 'dataDir' })
}
