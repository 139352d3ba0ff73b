// Parses /proc/<pid>/mountinfo (proc_pid_mountinfo(5)). Pure.

export type Mount = {
  /** Unique id of the mount; two processes that see the same id see the same mounts. */
  readonly id: string
  /** Member of a peer group: mounts below it propagate to the other mount namespaces. */
  readonly shared: boolean
}

/** The mounts at a mount point, in the order of the file. The path must not contain characters that the kernel escapes. */
export function mountsAt(mountinfo: string, mountPoint: string): readonly Mount[] {
  return mountinfo.split('\n').flatMap(line => {
    const [id = '', , , , at, , ...rest] = line.split(' ')
    if (at !== mountPoint) return []
    const optionalFields = rest.slice(0, rest.indexOf('-'))
    return [{ id, shared: optionalFields.some(field => field.startsWith('shared:')) }]
  })
}
