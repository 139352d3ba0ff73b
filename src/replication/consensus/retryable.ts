// Which failures of a request to the cluster another server, or the same one a little later, may answer differently. Pure.

import type { ErrorCode } from '#model/errors.ts'

const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  'ERR_PEER',
  'ERR_TIMEOUT',
  'ERR_NOT_LEADER',
  'ERR_NO_QUORUM',
  'ERR_BUSY'
])

export function isRetryable({ code }: { readonly code: ErrorCode }): boolean {
  return RETRYABLE.has(code)
}
