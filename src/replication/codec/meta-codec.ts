// Snapshot metadata as a msgpack array: [last index, last term, configuration]. Files, Raft streams and catch-up share
// this encoding.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, Term } from '#model/ids.ts'
import { decodeConfiguration, encodeConfiguration } from '#raft/configuration.ts'
import type { Configuration, SnapshotMeta } from '#raft/types.ts'
import { isCount, malformed } from './entry-codec.ts'

type MetaTuple = readonly [lastIndex: number, lastTerm: number, configuration: Uint8Array]

export function metaToTuple({ lastIndex, lastTerm, configuration }: SnapshotMeta): MetaTuple {
  return [lastIndex, lastTerm, encodeConfiguration(configuration)]
}

/** @throws ERR_PEER on anything that metaToTuple does not produce */
export function metaFromTuple(value: unknown): SnapshotMeta {
  const [lastIndex, lastTerm, bytes] = Array.isArray(value) ? (value as unknown[]) : []
  if (!isCount(lastIndex) || !isCount(lastTerm) || !(bytes instanceof Uint8Array)) throw malformed('snapshot head')
  return { lastIndex: lastIndex as LogIndex, lastTerm: lastTerm as Term, configuration: configurationFrom(bytes) }
}

/** @throws ERR_PEER */
export function configurationFrom(bytes: Uint8Array): Configuration {
  try {
    return decodeConfiguration(bytes)
  } catch (cause) {
    throw new VxmeshError('ERR_PEER', 'a malformed configuration', { cause })
  }
}
