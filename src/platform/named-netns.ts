// Named network namespaces as ip-netns(8) keeps them: the namespace is bind-mounted on a file in /run/netns. The mount is
// made in the mount namespace of pid 1: a service manager may run this process in a private one, and a mount made there
// would vanish with the process.

import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, readdirSync, unlinkSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import { tryFlock } from './libc.ts'
import { isErrno } from './storage-error.ts'
import { mountsAt, type Mount } from './mountinfo.ts'
import { withScratchNetns } from './netns.ts'
import { listPids } from './pids.ts'
import { run } from './process.ts'

/** Fixed by ip(8). */
const DIRECTORY = '/run/netns'

export function namedNetns(name: string): string {
  return `${DIRECTORY}/${name}`
}

/** All names, including files on which nothing is mounted. */
export function listNetnsNames(): readonly string[] {
  try {
    return readdirSync(DIRECTORY)
  } catch {
    return []
  }
}

/**
 * Creates a namespace, which gets its name only after `prepare` has set it up: a crash before that leaves nothing behind.
 * @param names in order of preference; another process may take one at any time
 * @returns the name it got, the first that did not exist
 * @throws ERR_KERNEL, also when all names exist
 */
export async function createNamedNetns(
  names: readonly string[],
  prepare: (path: string) => Promise<void>
): Promise<string> {
  return withScratchNetns(async path => {
    await prepare(path)
    await shareDirectory()
    for (const name of names) if (await publish(path, name)) return name
    throw new VxmeshError('ERR_KERNEL', `cannot name a namespace: ${names.join(' and ')} exist already`)
  })
}

/** Removes the name, and with it the namespace unless it is still in use. Absent is success. @throws ERR_KERNEL */
export async function removeNamedNetns(name: string): Promise<void> {
  const file = namedNetns(name)
  if (!listNetnsNames().includes(name)) return
  const lock = openSync(DIRECTORY, constants.O_RDONLY)
  try {
    tryFlock(lock, 'shared')
    const unmounted = await inInitMountNs('umount', ['--lazy', file])
    // Unlinking a file that is still a mount point would detach the namespace.
    if (mountsOf(1, file).length > 0)
      throw new VxmeshError('ERR_KERNEL', `cannot unmount ${file}: ${unmounted.stderr.trim()}`)
    unlinkSync(file)
  } catch (err) {
    if (!isErrno(err, 'ENOENT')) throw err
  } finally {
    closeSync(lock)
  }
}

/**
 * Is there a file of this name that no live process is about to mount a namespace on, or to unlink? The first has locked the
 * file, the second the directory, before the file was to be seen.
 */
export function isAbandonedName(name: string): boolean {
  const file = namedNetns(name)
  return !isLocked(file) && !isLocked(DIRECTORY) && existsSync(file)
}

function isLocked(path: string): boolean {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY)
  } catch {
    return false
  }
  try {
    return tryFlock(fd).value !== 0
  } finally {
    closeSync(fd)
  }
}

async function shareDirectory(): Promise<void> {
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o755 })
  // A shared mount propagates to all mount namespaces, existing ones included, as with ip-netns(8).
  const mounts = mountsOf(1, DIRECTORY)
  if (!mounts.some(({ shared }) => shared)) {
    if (mounts.length === 0) await mount(['--bind', DIRECTORY, DIRECTORY])
    await mount(['--make-shared', DIRECTORY])
  }
}

/** False when the name exists. @throws ERR_KERNEL */
async function publish(path: string, name: string): Promise<boolean> {
  const file = namedNetns(name)
  let fd: number
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL, 0o444)
  } catch (err) {
    if (isErrno(err, 'EEXIST')) return false
    throw new VxmeshError('ERR_KERNEL', `cannot name a namespace ${name}: ${String(err)}`, { cause: err })
  }
  try {
    tryFlock(fd)
    // Not canonicalized: the link's target is not a path.
    await mount(['--no-canonicalize', '--bind', path, file])
  } catch (err) {
    unlinkSync(file)
    throw err
  } finally {
    closeSync(fd)
  }
  return true
}

async function mount(args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await inInitMountNs('mount', args)
  if (exitCode !== 0) throw new VxmeshError('ERR_KERNEL', `mount ${args.join(' ')}: ${stderr.trim()}`)
}

/** Runs a program in the mount namespace of pid 1. */
async function inInitMountNs(file: string, args: readonly string[]): Promise<{ exitCode: number; stderr: string }> {
  const initNs = openInitMountNs()
  if (initNs === null) return run(file, args)
  try {
    return await run('nsenter', [`--mount=/proc/${process.pid}/fd/${initNs}`, '--', file, ...args])
  } finally {
    closeSync(initNs)
  }
}

/**
 * Opens the mount namespace of pid 1 through any process in it, since pid 1 itself may be inaccessible. Null when this
 * process is in it already, or when it cannot be opened: then a name lasts as long as the mount namespace of this process.
 */
function openInitMountNs(): number | null {
  const initRoot = rootMountId(1)
  if (initRoot === null || rootMountId(process.pid) === initRoot) return null
  for (const pid of [1, ...listPids()]) {
    if (rootMountId(pid) !== initRoot) continue
    try {
      return openSync(`/proc/${pid}/ns/mnt`, constants.O_RDONLY)
    } catch {
      // It has exited, or may not be inspected.
    }
  }
  return null
}

/** The id of a process's root mount, or null when the process cannot be inspected. */
function rootMountId(pid: number): string | null {
  try {
    return mountsOf(pid, '/')[0]?.id ?? null
  } catch {
    return null
  }
}

function mountsOf(pid: number, mountPoint: string): readonly Mount[] {
  return mountsAt(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'), mountPoint)
}
