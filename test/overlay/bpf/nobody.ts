// Code without privileges, in a process that may have them.

/** Runs a synchronous function as a user who may do nothing; as the user of this process unless that is root. */
export function asNobody<T>(run: () => T): T {
  if (process.getuid?.() !== 0) return run()
  process.seteuid?.(65_534)
  try {
    return run()
  } finally {
    process.seteuid?.(0)
  }
}
