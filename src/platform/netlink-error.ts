// Refusals by the kernel, of a netlink message or a system call, as errors.

import { VxmeshError } from '#model/errors.ts'
import { errnoName, errnoText } from './libc.ts'

/** Why the kernel refused a message. */
export type NetlinkRefusal = { readonly errno: string; readonly message: string }

/** `text` is the kernel's own explanation (NLMSGERR_ATTR_MSG), empty without one. */
export function refusal(errno: number, text: string): NetlinkRefusal {
  const name = errnoName(errno)
  const description = `${errnoText(errno)} (${name})`
  return { errno: name, message: text === '' ? description : `${text}: ${description}` }
}

/** The error for a refused message. */
export function refusalError(doing: string, refused: NetlinkRefusal): VxmeshError {
  return new VxmeshError('ERR_KERNEL', `${doing}: ${refused.message}`, { context: { errno: refused.errno } })
}

/** The error for a refused system call or request. */
export function kernelError(doing: string, errno: number, text = ''): VxmeshError {
  return refusalError(doing, refusal(errno, text))
}

/** The errno name, such as `EEXIST`, of an ERR_KERNEL error; null for any other error. */
export function errnoOf(err: unknown): string | null {
  const errno = err instanceof VxmeshError ? err.context['errno'] : undefined
  return typeof errno === 'string' ? errno : null
}
