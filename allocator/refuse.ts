// Refusals: outcomes too, the same on every replica.

import type { Outcome } from '#model/command.ts'
import type { ErrorCode } from '#model/errors.ts'

export function refuse(code: ErrorCode, message: string, field?: string): Outcome {
  return { ok: false, error: field === undefined ? { code, message } : { code, message, field } }
}

export function noNetwork(name: string): Outcome {
  return refuse('ERR_NETWORK_NOT_FOUND', `there is no network ${name}`, 'network')
}
