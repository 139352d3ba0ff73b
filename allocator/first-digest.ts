// The digest of snapshots of format 1, for reading them. Hosts compare theirs by digest.ts.

import type { Outcome, Result } from '#model/command.ts'
import { hashCursors, hexOf } from './digest.ts'
import {
  endpointInto,
  Hasher,
  hostInto,
  namespaceInto,
  networkInto,
  policyInto,
  serviceInto,
  SetHash,
  type Hash
} from './row-hash.ts'
import type { Sessions } from './sessions.ts'
import type { ClusterState } from './state-machine.ts'

/** O(networks + answers) */
export function firstDigestOf({ appliedIndex, tables, sessions }: ClusterState): string {
  const all = new Hasher().number(appliedIndex)
  for (const part of [tables.hash.value, hashCursors(tables), hashSessions(sessions)]) addTo(all, part)
  return hexOf(all.finish())
}

function hashSessions(sessions: Sessions): Hash {
  const all = new Hasher().number(sessions.size)
  for (const [id, { lastUsed, settledBelow, answers }] of sessions.entries()) {
    const sum = new SetHash()
    for (const [seq, { outcome }] of answers) sum.add(hashAnswer(seq, outcome))
    addTo(all.text(id).number(lastUsed).number(settledBelow), sum.value)
  }
  return all.finish()
}

function hashAnswer(seq: number, outcome: Outcome): Hash {
  const hasher = new Hasher().text('answer').number(seq)
  if (outcome.ok) return resultInto(hasher, outcome.result).finish()
  const { code, message, field } = outcome.error
  return hasher.text(code).text(message).optionalText(field).finish()
}

function resultInto(hasher: Hasher, result: Result): Hasher {
  hasher.text(result.kind)
  switch (result.kind) {
    case 'session':
      return hasher
    case 'network':
      return networkInto(hasher, result.network)
    case 'endpoint':
      return endpointInto(hasher.number(result.created ? 1 : 0), result.endpoint)
    case 'endpoint-released':
      return endpointInto(hasher, result.endpoint)
    case 'host':
      return hostInto(hasher, result.host)
    case 'host-removed':
      return hostInto(hasher.number(result.released), result.host)
    case 'namespace':
      return namespaceInto(hasher, result.namespace)
    case 'service':
      return serviceInto(hasher.number(result.created ? 1 : 0), result.service)
    case 'policy':
      return policyInto(hasher.number(result.created ? 1 : 0), result.policy)
  }
}

/** The words as unsigned numbers. */
function addTo(hasher: Hasher, { a, b }: Hash): void {
  hasher.number(a >>> 0).number(b >>> 0)
}
