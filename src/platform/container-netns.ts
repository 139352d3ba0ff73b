// A container's network namespace, named by a path from outside. The path is resolved and opened once. All later steps
// use the descriptor, so replacing what the path leads to has no effect on them.

import { closeSync, readlinkSync } from 'node:fs'
import { posix } from 'node:path'
import { isErrno } from './storage-error.ts'
import { lastingIdOf, netnsError, openNetns } from './netns.ts'

/** A process's namespace: the only path that may be a magic link of procfs. */
const OF_PROCESS = /^\/proc\/[1-9][0-9]{0,6}\/ns\/net$/
/** Links from one name to another: a runtime's to another's, an administrator's to a process. */
const MAX_LINKS = 4

export type HeldNetns = {
  /** As the caller named it. */
  readonly path: string
  /** Names this very namespace within this process, until it is closed. */
  readonly held: string
  /** See lastingNetnsId. */
  readonly id: string
  readonly close: () => void
}

/**
 * Opens the namespace of a container.
 * @param directories folders of namespace names (/run stands for /var/run, too). The path, and whatever it links to, must
 *   be a name directly below one of them or /proc/PID/ns/net: only their owners can change what is there.
 * @throws ERR_NETNS naming `field`
 */
export function holdContainerNetns(path: string, directories: readonly string[], field = 'netns'): HeldNetns {
  const resolved = resolve(path, directories, field)
  const fd = openNetns(resolved, { field, follow: OF_PROCESS.test(resolved) })
  try {
    return {
      path,
      held: `/proc/${process.pid}/fd/${fd}`,
      id: lastingIdOf(fd, path),
      close: () => closeSync(fd)
    }
  } catch (err) {
    closeSync(fd)
    throw err
  }
}

function resolve(path: string, directories: readonly string[], field: string): string {
  const named = runPath(path)
  let at = named
  for (let links = 0; links <= MAX_LINKS; links++) {
    if (OF_PROCESS.test(at)) return at
    const name = posix.basename(at)
    const allowed = directories.some(directory => at === `${directory}/${name}`) && !['', '.', '..'].includes(name)
    if (!allowed || at.includes('\0')) {
      const where = `must be below ${directories.join(', ')} or /proc/PID/ns/net (netns.paths)`
      throw netnsError(path, at === named ? where : `links to ${JSON.stringify(at).slice(0, 200)}, which ${where}`, {
        field
      })
    }
    const target = linkAt(at, path, field)
    if (target === null) return at
    at = runPath(posix.resolve(posix.dirname(at), target))
  }
  throw netnsError(path, `is behind more than ${MAX_LINKS} symbolic links`, { field })
}

/** /var/run is /run on every current distribution, and runtimes use either name. */
function runPath(path: string): string {
  return path.replace(/^\/var\/run\//, '/run/')
}

/** Null: not a symbolic link. */
function linkAt(at: string, path: string, field: string): string | null {
  try {
    return readlinkSync(at)
  } catch (err) {
    if (isErrno(err, 'EINVAL')) return null
    const code = err instanceof Error && 'code' in err ? String(err.code) : 'unknown'
    throw netnsError(path, `cannot be opened (${code})`, { field, cause: err })
  }
}
