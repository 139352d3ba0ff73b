// Tells the errors of system calls apart, and wraps those of files. Pure.

import { VxmeshError } from '#model/errors.ts'

export function isErrno(err: unknown, code: string): boolean {
  return err instanceof Error && 'code' in err && err.code === code
}

/** Wraps an error as ERR_STORAGE with a message; one that is ERR_STORAGE already is returned unchanged. */
export function storageError(message: string, cause: unknown): VxmeshError {
  if (cause instanceof VxmeshError && cause.code === 'ERR_STORAGE') return cause
  const detail = cause instanceof Error ? cause.message : String(cause)
  return new VxmeshError('ERR_STORAGE', `${message}: ${detail}`, { cause })
}
