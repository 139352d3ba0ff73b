// Network namespaces by path. The process's main thread enters one only for a synchronous stretch: what is opened there
// (a socket) stays bound to it and works from anywhere afterwards.

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

/** The namespace that the calling thread is in. */
export const OWN_NETNS = '/proc/thread-self/ns/net'

/** PID_MAX_LIMIT of linux/threads.h: process ids are below it. */
export const PID_LIMIT = 2 ** 22
const NSFS_MAGIC = 0x6e736673
const SOL_SOCKET = 1
const SO_NETNS_COOKIE = 71

/** `dev:inode`: equal for two paths exactly when they are the same namespace, while either is open. */
export type NetnsId = string

/**
 * Runs with the namespace open as a file descriptor, which is closed afterwards.
 * @throws ERR_NETNS naming `field`: not absolute, missing, not a namespace, not a network namespace, not permitted
 */
export function withNetns<T>(path: string, use: (fd: number, id: NetnsId) => T, field = 'netns'): T {
  const fd = openNetns(path, field)
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
 * What a namespace is known by when nobody holds it open any more. The kernel gives an inode to the next namespace, often
 * at once; its cookie (socket(7), SO_NETNS_COOKIE) to none until the next boot. Before Linux 5.14 there is none: `dev:inode`.
 * @returns `dev:inode:cookie`
 * @throws ERR_NETNS
 */
export function lastingNetnsId(path: string): string {
  return withNetns(path, (fd, id) => {
    const cookie = netnsCookie(fd, path)
    return cookie === null ? id : `${id}:${cookie}`
  })
}

/** Is the namespace at the path the one that had this lasting id, also one of an earlier release without a cookie? @throws ERR_NETNS */
export function isNetns(path: string, lastingId: string): boolean {
  const [dev = '', inode = '', cookie] = lastingId.split(':')
  return withNetns(path, (fd, id) => {
    return id === `${dev}:${inode}` && (cookie === undefined || String(netnsCookie(fd, path)) === cookie)
  })
}

/**
 * Checks that the path is a network namespace that a container can be in: not this process's own and none of `hosts`.
 * @throws ERR_NETNS naming `field`
 */
export function checkContainerNetns(path: string, hosts: readonly string[] = [], field = 'netns'): NetnsId {
  const id = checkNetns(path, field)
  if ([OWN_NETNS, ...hosts].some(host => checkNetns(host) === id)) {
    throw netnsError(path, "is the host's own network namespace, not a container's", { field })
  }
  return id
}

/** The path of a process's network namespace; whether the process exists is not checked. @throws ERR_NETNS naming `pid` */
export function netnsOfPid(pid: number): string {
  if (!Number.isInteger(pid) || pid < 1 || pid >= PID_LIMIT) {
    throw new VxmeshError('ERR_NETNS', `pid: must be a process id, got ${String(pid)}`, { field: 'pid' })
  }
  return `/proc/${pid}/ns/net`
}

/** Is a namespace there, of whatever kind? It is not opened for that. @throws Error of the file system */
export function isNamespace(path: string): boolean {
  return statfsSync(path).type === NSFS_MAGIC
}

/**
 * Runs a synchronous function inside a namespace. If the way back is barred the process ends: every later call would
 * act on the wrong host. @throws ERR_NETNS
 */
export function inNetns<T>(path: string, run: () => T, field = 'netns'): T {
  return withNetns(path, fd => away(() => setNetns(fd), run, { path, field }), field)
}

/** Runs a synchronous function inside a new, empty namespace, which lasts as long as what was opened there. @throws ERR_NETNS */
export function inScratchNetns<T>(run: () => T): T {
  return away(unshareNetns, run, { path: 'a new namespace', field: 'netns' })
}

/** Runs with the path of a new, empty namespace that ends with it. @throws ERR_NETNS */
export async function withScratchNetns<T>(use: (path: string) => Promise<T>): Promise<T> {
  const fd = inScratchNetns(() => openSync(OWN_NETNS, constants.O_RDONLY))
  try {
    return await use(`/proc/${process.pid}/fd/${fd}`)
  } finally {
    closeSync(fd)
  }
}

/** Writes settings below /proc/sys as the namespace (null: the process's own) has them. @throws ERR_NETNS, ERR_KERNEL */
export function writeSysctls(netns: string | null, settings: readonly { key: string; value: string }[]): void {
  const write = (): void => {
    for (const { key, value } of settings) writeFileSync(`/proc/sys/${key}`, value)
  }
  try {
    if (netns === null) write()
    else inNetns(netns, write)
  } catch (err) {
    if (err instanceof VxmeshError) throw err
    const code = err instanceof Error && 'code' in err ? String(err.code) : 'EIO'
    const keys = settings.map(({ key }) => key).join(', ')
    throw new VxmeshError('ERR_KERNEL', `cannot write ${keys} (${code})`, { cause: err, context: { errno: code } })
  }
}

/** Reads settings below /proc/sys as the namespace has them; null for one that is not there. @throws ERR_NETNS */
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

/** Can this setting be written (it exists, and /proc/sys is not read-only)? @throws ERR_NETNS */
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

function away<T>(leave: () => { errno: number }, run: () => T, where: { path: string; field: string }): T {
  const home = openSync(OWN_NETNS, constants.O_RDONLY)
  try {
    const { errno } = leave()
    if (errno !== 0) {
      const why = `${errnoText(errno)} (${errnoName(errno)})`
      throw netnsError(where.path, `cannot be entered: ${why}`, { field: where.field, cause: new Error(why) })
    }
    try {
      const result = run()
      if (result instanceof Promise) throw new Error('a stretch inside a namespace must be synchronous')
      return result
    } finally {
      if (setNetns(home).errno !== 0) process.abort()
    }
  } finally {
    closeSync(home)
  }
}

function netnsCookie(netnsFd: number, path: string): bigint | null {
  const opened = away(
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

function openNetns(path: string, field: string): number {
  if (!path.startsWith('/') || path.includes('\0')) throw netnsError(path, 'must be an absolute path', { field })
  let fd: number
  try {
    // Asked before it is opened: opening a FIFO or a device would have effects of its own.
    if (!isNamespace(path)) throw netnsError(path, 'is not a namespace', { field })
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (err) {
    if (err instanceof VxmeshError) throw err
    const code = err instanceof Error && 'code' in err ? String(err.code) : 'unknown'
    throw netnsError(path, `cannot be opened (${code})`, { field, cause: err })
  }
  if (namespaceKind(fd).value === CLONE_NEWNET) return fd
  closeSync(fd)
  throw netnsError(path, 'is not a network namespace', { field })
}

function netnsError(path: string, problem: string, options: { field: string; cause?: unknown }): VxmeshError {
  const shown = JSON.stringify(path).slice(0, 200)
  return new VxmeshError('ERR_NETNS', `${options.field}: ${shown} ${problem}`, {
    field: options.field,
    ...(options.cause === undefined ? {} : { cause: options.cause })
  })
}
