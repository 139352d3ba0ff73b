// Network namespaces by path. The main thread enters one only for a synchronous call; a socket opened there stays in that
// namespace and can be used from anywhere afterwards.

import { accessSync, closeSync, constants, fstatSync, openSync, readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import {
  AF_NETLINK,
  CLONE_NEWNET,
  errnoName,
  errnoText,
  getsockopt,
  namespaceKind,
  setNetns,
  SOCK_RAW_CLOEXEC,
  socket,
  unshareNetns
} from './libc.ts'

/** The namespace of the calling thread. */
export const OWN_NETNS = '/proc/thread-self/ns/net'
const INIT_NETNS = '/proc/1/ns/net'

/** PID_MAX_LIMIT of linux/threads.h: process ids are below it. */
export const PID_LIMIT = 2 ** 22
const NSFS_MAGIC = 0x6e736673
const SOL_SOCKET = 1
const SO_NETNS_COOKIE = 71

/** `dev:inode`: identifies a namespace as long as it exists. */
type NetnsId = string

/**
 * Opens the namespace, runs `use` with its file descriptor, and closes it.
 * @throws ERR_NETNS naming `field`: not absolute, missing, not a namespace, not a network namespace, not permitted
 */
export function withNetns<T>(path: string, use: (fd: number, id: NetnsId) => T, field = 'netns'): T {
  const fd = openNetns(path, { field, follow: true })
  try {
    const { dev, ino } = fstatSync(fd)
    return use(fd, `${dev}:${ino}`)
  } finally {
    closeSync(fd)
  }
}

/** Checks that the path is a network namespace. @throws ERR_NETNS naming `field` */
export function checkNetns(path: string, field = 'netns'): NetnsId {
  return withNetns(path, (_fd, id) => id, field)
}

/**
 * An id that stays unique after the namespace is gone. The kernel reuses inodes, often at once, but never reuses a cookie
 * (socket(7), SO_NETNS_COOKIE) before the next boot.
 * @returns `dev:inode:cookie`, or `dev:inode` before Linux 5.14, which has no cookie
 * @throws ERR_NETNS
 */
export function lastingNetnsId(path: string): string {
  return withNetns(path, fd => lastingIdOf(fd, path))
}

/** The same of an open namespace. @param path for the error */
export function lastingIdOf(fd: number, path: string): string {
  const { dev, ino } = fstatSync(fd)
  const cookie = netnsCookie(fd, path)
  return cookie === null ? `${dev}:${ino}` : `${dev}:${ino}:${cookie}`
}

/** Does the namespace at the path have this lasting id, with or without a cookie? @throws ERR_NETNS */
export function isNetns(path: string, lastingId: string): boolean {
  return withNetns(path, fd => isSameNetns(lastingIdOf(fd, path), lastingId))
}

/** An id that was noted by a kernel without cookies is compared without. */
export function isSameNetns(id: string, noted: string): boolean {
  return id === noted || (noted.split(':').length === 2 && id.startsWith(`${noted}:`))
}

/**
 * Checks that an open namespace is a container's: neither this process's own, nor that of pid 1, nor one of `hosts`.
 * @param path for the error
 * @throws ERR_NETNS naming `field`
 */
export function checkContainerNetns(
  fd: number,
  { path, hosts = [], field = 'netns' }: { path: string; hosts?: readonly string[]; field?: string }
): void {
  const { dev, ino } = fstatSync(fd)
  const isOf = (host: string): boolean => checkNetns(host) === `${dev}:${ino}`
  if (isOf(OWN_NETNS) || hosts.some(isOf) || initNetns() === `${dev}:${ino}`) {
    throw netnsError(path, "is the host's own network namespace, not a container's", { field })
  }
}

/** The namespace of pid 1; null where this process may not look at it. */
function initNetns(): NetnsId | null {
  try {
    return checkNetns(INIT_NETNS)
  } catch {
    return null
  }
}

/** The path of a process's network namespace; whether the process exists is not checked. @throws ERR_NETNS naming `pid` */
export function netnsOfPid(pid: number): string {
  if (!Number.isInteger(pid) || pid < 1 || pid >= PID_LIMIT) {
    throw new VxmeshError('ERR_NETNS', `pid: must be a process id, got ${String(pid)}`, { field: 'pid' })
  }
  return `/proc/${pid}/ns/net`
}

/** Is the path a namespace of any kind? Does not open it. @throws Error of the file system */
export function isNamespace(path: string): boolean {
  return statfsSync(path).type === NSFS_MAGIC
}

/**
 * Runs a synchronous function inside a namespace. The process aborts when it cannot return: every later call would act
 * in the wrong namespace. @throws ERR_NETNS
 */
export function inNetns<T>(path: string, run: () => T, field = 'netns'): T {
  return withNetns(path, fd => runInside(() => setNetns(fd), run, { path, field }), field)
}

/** Runs a synchronous function inside a new, empty namespace, which exists as long as a socket opened there. @throws ERR_NETNS */
export function inScratchNetns<T>(run: () => T): T {
  return runInside(unshareNetns, run, { path: 'a new namespace', field: 'netns' })
}

/** Runs `use` with the path of a new, empty namespace, which is removed afterwards. @throws ERR_NETNS */
export async function withScratchNetns<T>(use: (path: string) => Promise<T>): Promise<T> {
  const fd = inScratchNetns(() => openSync(OWN_NETNS, constants.O_RDONLY))
  try {
    return await use(`/proc/${process.pid}/fd/${fd}`)
  } finally {
    closeSync(fd)
  }
}

/** Writes sysctls of a namespace (null: the process's own). @throws ERR_NETNS, ERR_KERNEL */
export function writeSysctls(netns: string | null, settings: readonly { key: string; value: string }[]): void {
  const write = (): void => {
    for (const { key, value } of settings) writeFileSync(`/proc/sys/${key}`, value)
  }
  try {
    if (netns === null) write()
    else inNetns(netns, write)
  } catch (err) {
    if (err instanceof VxmeshError) throw err
    const code = systemCode(err) ?? 'EIO'
    const keys = settings.map(({ key }) => key).join(', ')
    throw new VxmeshError('ERR_KERNEL', `cannot write ${keys} (${code})`, { cause: err, context: { errno: code } })
  }
}

/** Reads sysctls of a namespace (null: the process's own); an absent one is null. @throws ERR_NETNS */
export function readSysctls(netns: string | null, keys: readonly string[]): readonly (string | null)[] {
  const read = (): readonly (string | null)[] =>
    keys.map(key => {
      try {
        return readFileSync(`/proc/sys/${key}`, 'utf8').trim()
      } catch {
        return null
      }
    })
  return netns === null ? read() : inNetns(netns, read)
}

/** Can this sysctl be written: does it exist, and is /proc/sys not read-only? @throws ERR_NETNS */
export function isSysctlWritable(netns: string | null, key: string): boolean {
  const test = (): boolean => {
    try {
      accessSync(`/proc/sys/${key}`, constants.W_OK)
      return true
    } catch {
      return false
    }
  }
  return netns === null ? test() : inNetns(netns, test)
}

function runInside<T>(enter: () => { errno: number }, run: () => T, where: { path: string; field: string }): T {
  const original = openSync(OWN_NETNS, constants.O_RDONLY)
  try {
    const { errno } = enter()
    if (errno !== 0) {
      const why = `${errnoText(errno)} (${errnoName(errno)})`
      throw netnsError(where.path, `cannot be entered: ${why}`, { field: where.field, cause: new Error(why) })
    }
    try {
      const result = run()
      if (result instanceof Promise) throw new Error('a function inside a namespace must be synchronous')
      return result
    } finally {
      if (setNetns(original).errno !== 0) process.abort()
    }
  } finally {
    closeSync(original)
  }
}

function netnsCookie(netnsFd: number, path: string): bigint | null {
  const opened = runInside(
    () => setNetns(netnsFd),
    () => socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0),
    { path, field: 'netns' }
  )
  if (opened.errno !== 0) {
    const cause = new Error(errnoName(opened.errno))
    throw netnsError(path, `has no socket (${cause.message})`, { field: 'netns', cause })
  }
  try {
    const value = new BigUint64Array(1)
    const bytes = new Uint8Array(value.buffer)
    const { errno } = getsockopt({ fd: opened.value, level: SOL_SOCKET, name: SO_NETNS_COOKIE, value: bytes })
    return errno === 0 ? (value[0] ?? null) : null
  } finally {
    closeSync(opened.value)
  }
}

/** @param p `follow`: the last part of the path may be a symbolic link @throws ERR_NETNS naming `field` */
export function openNetns(path: string, { field, follow }: { field: string; follow: boolean }): number {
  if (!path.startsWith('/') || path.includes('\0')) throw netnsError(path, 'must be an absolute path', { field })
  let fd: number
  try {
    // Checked before it is opened: opening a FIFO or a device has side effects.
    if (!isNamespace(path)) throw netnsError(path, 'is not a namespace', { field })
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | (follow ? 0 : constants.O_NOFOLLOW))
  } catch (err) {
    if (err instanceof VxmeshError) throw err
    const code = systemCode(err) ?? 'unknown'
    throw netnsError(path, `cannot be opened (${code})`, { field, cause: err })
  }
  if (namespaceKind(fd).value === CLONE_NEWNET) return fd
  closeSync(fd)
  throw netnsError(path, 'is not a network namespace', { field })
}

function systemCode(err: unknown): string | null {
  return err instanceof Error && 'code' in err ? String(err.code) : null
}

/** @param options `cause`: none where the path is there, but is not what it should be */
export function netnsError(path: string, problem: string, options: { field: string; cause?: unknown }): VxmeshError {
  const shown = JSON.stringify(path).slice(0, 200)
  return new VxmeshError('ERR_NETNS', `${options.field}: ${shown} ${problem}`, {
    field: options.field,
    ...(options.cause === undefined ? {} : { cause: options.cause })
  })
}
