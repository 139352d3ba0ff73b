// Network namespaces under a name, as ip-netns(8) keeps them: a file in /run/netns on which the namespace is mounted. They
// are mounted in the mount namespace of pid 1: a service manager may have given this process one of its own, and a name
// made there would die with it.

import { closeSync, constants, mkdirSync, openSync, readFileSync, readdirSync, unlinkSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import { withScratchNetns } from './netns.ts'
import { listPids, run } from './process.ts'

/** Fixed by ip(8). */
const DIRECTORY = '/run/netns'

export function namedNetns(name: string): string {
  return `${DIRECTORY}/${name}`
}

/** Every name, also of files on which nothing is mounted. */
export function listNetnsNames(): readonly string[] {
  try {
    return readdirSync(DIRECTORY)
  } catch {
    return []
  }
}

/**
 * A new namespace, prepared by `prepare` before its name can be seen: a crash before that leaves nothing.
 * @throws ERR_KERNEL, also when the name is taken
 */
export async function createNamedNetns(name: string, prepare: (path: string) => Promise<void>): Promise<void> {
  await withScratchNetns(async path => {
    await prepare(path)
    await publish(path, name)
  })
}

/** Takes the name away, and with it the namespace unless somebody is in it. Absent is success. @throws ERR_KERNEL */
export async function removeNamedNetns(name: string): Promise<void> {
  const file = namedNetns(name)
  if (!listNetnsNames().includes(name)) return
  const unmounted = await inInitMountNs('umount', ['--lazy', file])
  try {
    // A file that is still mounted upon would be taken away from under its namespace.
    if (isMounted(file)) throw new VxmeshError('ERR_KERNEL', `cannot unmount ${file}: ${unmounted.stderr.trim()}`)
    unlinkSync(file)
  } catch (err) {
    if (!isCode(err, 'ENOENT')) throw err
  }
}

async function publish(path: string, name: string): Promise<void> {
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o755 })
  // Seen from every mount namespace, those that exist already too, as ip-netns(8) does it.
  if (!mountLine(DIRECTORY).includes(' shared:')) {
    if (mountLine(DIRECTORY) === '') await mount(['--bind', DIRECTORY, DIRECTORY])
    await mount(['--make-shared', DIRECTORY])
  }
  const file = namedNetns(name)
  try {
    closeSync(openSync(file, constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL, 0o444))
  } catch (err) {
    throw new VxmeshError('ERR_KERNEL', `cannot name a namespace ${name}: ${String(err)}`, { cause: err })
  }
  try {
    // Not canonicalized: the link's text is no path.
    await mount(['--no-canonicalize', '--bind', path, file])
  } catch (err) {
    unlinkSync(file)
    throw err
  }
}

async function mount(args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await inInitMountNs('mount', args)
  if (exitCode !== 0) throw new VxmeshError('ERR_KERNEL', `mount ${args.join(' ')}: ${stderr.trim()}`)
}

/** Runs a program in the mount namespace of pid 1. */
async function inInitMountNs(file: string, args: readonly string[]): Promise<{ exitCode: number; stderr: string }> {
  const home = openInitMountNs()
  if (home === null) return run(file, args)
  try {
    return await run('nsenter', [`--mount=/proc/${process.pid}/fd/${home}`, '--', file, ...args])
  } finally {
    closeSync(home)
  }
}

/**
 * Opens the mount namespace of pid 1, by any process in it: pid 1 itself may be closed to us. Null when this process is
 * in it, or there is no way to it: then a name lasts as long as this process's own mount namespace.
 */
function openInitMountNs(): number | null {
  const wanted = rootMount(1)
  if (wanted === null || rootMount(process.pid) === wanted) return null
  for (const pid of [1, ...listPids()]) {
    if (rootMount(pid) !== wanted) continue
    try {
      return openSync(`/proc/${pid}/ns/mnt`, constants.O_RDONLY)
    } catch {
      // It has ended, or is not ours to look into.
    }
  }
  return null
}

/** The id of a process's root mount: equal for two processes exactly when they see the same mounts. */
function rootMount(pid: number): string | null {
  try {
    return linesAt('/', pid)[0]?.split(' ')[0] ?? null
  } catch {
    return null
  }
}

/** The lines of pid 1's mounts at a place; empty when nothing is mounted there. */
function mountLine(place: string): string {
  return linesAt(place, 1).join('\n')
}

function linesAt(place: string, pid: number): readonly string[] {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n')
  return lines.filter(line => line.split(' ')[4] === place)
}

function isMounted(file: string): boolean {
  return mountLine(file) !== ''
}

function isCode(err: unknown, code: string): boolean {
  return err instanceof Error && 'code' in err && err.code === code
}
