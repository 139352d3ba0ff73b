// The request that an entry holds. It is parsed once, when the entry or the proposal arrives, so that one that no replica can
// apply is refused. The parsed request is kept until the entry is applied.

import type { Request } from '#model/command.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { parseRequest } from '#model/parse-request.ts'
import type { Entry } from '#raft/types.ts'
import { configurationFrom } from '../codec/meta-codec.ts'
import { decodeRequest } from '../codec/request-codec.ts'

/** By an entry's data, from its arrival until it is applied. */
const parsed = new WeakMap<Uint8Array, Request>()

/** @throws ERR_PEER when no replica can apply it */
export function checkEntry({ index, kind, data }: Entry): void {
  if (kind === 'config') configurationFrom(data)
  if (kind !== 'command') return
  try {
    parseProposal(data)
  } catch (cause) {
    const why = asVxmeshError(cause).message
    throw new VxmeshError('ERR_PEER', `entry ${index} cannot be applied: ${why}`, { cause })
  }
}

/**
 * Decodes a proposal, which becomes an entry's data as it is. @throws ERR_INVALID, ERR_PEER when no replica can apply it
 */
export function parseProposal(data: Uint8Array): Request {
  const request = parseRequest(decodeRequest(data))
  parsed.set(data, request)
  return request
}

/** The request of a command. @throws ERR_INVALID, ERR_PEER when it holds none */
export function requestOf({ data }: Entry): Request {
  const known = parsed.get(data)
  parsed.delete(data)
  return known ?? parseRequest(decodeRequest(data))
}
