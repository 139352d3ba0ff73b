// Refusals. They are outcomes too: the same on every replica, and remembered for retries.

import type { Refusal } from '#model/command.ts'
import type { ErrorCode } from '#model/errors.ts'
import type { NetworkName } from '#model/ids.ts'

/** @param field the invalid input field, by its name in the API */
export function refuse(code: ErrorCode, message: string, field: string): Refusal {
  return { ok: false, error: { code, message, field } }
}

/** @param field `name` where the command is about the network, `network` where it refers to it */
export function noNetwork(name: NetworkName, field: 'name' | 'network'): Refusal {
  return refuse('ERR_NETWORK_NOT_FOUND', `there is no network ${name}`, field)
}
