// Errors in the format of the CNI specification. Codes below 100 are the specification's, others are ours (docs/cni.md).

import { asVxmeshError, type ErrorCode } from '#model/errors.ts'

export const CNI_CODES = {
  version: 1,
  unsupported: 2,
  environment: 4,
  io: 5,
  undecodable: 6,
  config: 7,
  tryAgain: 11,
  unavailable: 50,
  unknownNetwork: 100,
  exhausted: 101,
  dataPath: 103,
  addressInUse: 104,
  notGranted: 105,
  exists: 106,
  differs: 107,
  internal: 999
} as const

export type CniCode = keyof typeof CNI_CODES

export class CniError extends Error {
  override readonly name = 'CniError'
  readonly code: CniCode
  readonly details: string

  constructor(code: CniCode, message: string, details = '') {
    super(message)
    this.code = code
    this.details = details
  }
}

/** An agent's error as a CNI error; `details` holds the agent's own code. */
export function asCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown
  const { code, message } = asVxmeshError(thrown)
  return new CniError(codeOf(code), message, code)
}

function codeOf(code: ErrorCode): CniCode {
  switch (code) {
    case 'ERR_NETNS':
      return 'environment'
    case 'ERR_INVALID':
    case 'ERR_CONFIG':
      return 'config'
    case 'ERR_NETWORK_NOT_FOUND':
    case 'ERR_NAMESPACE_NOT_FOUND':
      return 'unknownNetwork'
    case 'ERR_SUBNET_EXHAUSTED':
    case 'ERR_VNI_EXHAUSTED':
    case 'ERR_LIMIT_REACHED':
      return 'exhausted'
    case 'ERR_NO_QUORUM':
    case 'ERR_NOT_LEADER':
    case 'ERR_SESSION_EXPIRED':
    case 'ERR_HOST_NOT_REGISTERED':
    case 'ERR_BUSY':
    case 'ERR_TIMEOUT':
      return 'tryAgain'
    case 'ERR_KERNEL':
      return 'dataPath'
    case 'ERR_ADDRESS_IN_USE':
    case 'ERR_MAC_IN_USE':
      return 'addressInUse'
    case 'ERR_NOT_GRANTED':
    case 'ERR_NOT_ALLOWED':
      return 'notGranted'
    case 'ERR_ENDPOINT_EXISTS':
    case 'ERR_IFNAME_IN_USE':
      return 'exists'
    case 'ERR_CHECK_FAILED':
    case 'ERR_ENDPOINT_NOT_FOUND':
      return 'differs'
    case 'ERR_UNSUPPORTED':
    case 'ERR_DELAY_UNSUPPORTED':
      return 'unsupported'
    case 'ERR_STORAGE':
      return 'io'
    default:
      return 'internal'
  }
}
