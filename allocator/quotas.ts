// How much of each thing the cluster's state holds at most: far above honest use, and low enough that no host that
// requests without end takes the memory of all. About 5 KB a network, 0.5 KB an endpoint (2.5 KB with all
// the labels that it may have), 0.3 KB an answer. Pure.

import { OWN_BUSINESS, type Refusal } from '#model/command.ts'
import { refuse } from './refuse.ts'

/** More than the 65,536 namespaces of the largest range, each with a network of its own. */
export const MAX_NETWORKS = 100_000
/** Kubernetes goes to some hundreds of pods a node; a host's kernel to some thousands of bridge ports. */
export const MAX_ENDPOINTS_PER_HOST = 65_536
/** A whole /14. */
export const MAX_ENDPOINTS_PER_NETWORK = 262_144
/** Serf is known to work with 10,000 members. */
export const MAX_HOSTS = 16_384
/** As many as networks can be mapped from the largest range. */
export const MAX_NAMESPACES = 65_536
/** What one host's programs and one page of a list have room for. */
export const MAX_SERVICES_PER_NETWORK = 1_000
/** With all the backends that they may have, about 0.5 GB; as they are used, some 50 MB. */
export const MAX_SERVICES = 65_536
/** Each may have the rules of several teams; what all of them say together is bounded anew on each host (docs/adr/0067). */
export const MAX_POLICIES_PER_NETWORK = 250
/** With all the rules that they may have, about 0.5 GB; as they are used, some 20 MB. */
export const MAX_POLICIES = 32_768
/** An agent opens one at each start; the others are of earlier starts. */
export const MAX_SESSIONS_PER_HOST = 64
/** Twice what two agents of one host, the old and the new, have in flight. */
export const MAX_ANSWERS_PER_HOST = 8_192

/** The refusal of one more; null while there is room, and for requests by rules that had no quotas. */
export function whyFull(
  rules: number,
  p: { readonly count: number; readonly max: number; readonly what: string; readonly field: string }
): Refusal | null {
  if (rules < OWN_BUSINESS || p.count < p.max) return null
  return refuse('ERR_LIMIT_REACHED', `${p.field}: there are ${p.count} ${p.what}, and ${p.max} are the most`, p.field)
}
