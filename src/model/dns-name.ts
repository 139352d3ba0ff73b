// The names by which the containers of a network find an endpoint (docs/names.md): its own name, and its container id. Pure.

import type { Endpoint } from './endpoint.ts'
import { invalid } from './errors.ts'
import { quote } from './ids.ts'

/** Longest name of a zone or search domain, so that NAME.NETWORK.ZONE has room for a name. */
const DOMAIN_MAX = 120
/** Bytes of a whole name as text (RFC 1035 section 2.3.4). */
export const FULL_NAME_MAX = 253

/** Of host names, and with "_", which names of containers often have. */
const LABELS = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/
const RANDOM_ID = /^[0-9a-f]{64}$/
/** Of a random id, as container engines show it. */
const SHORT_ID = 12

/**
 * In lower case, relative to the network: `web`, or `web-0.shop` for the pod web-0 of the Kubernetes namespace shop, whose endpoint
 * is named `shop/web-0`. Null if the endpoint has no name, or one that is no DNS name.
 */
export function ownNameOf({ name }: Pick<Endpoint, 'name'>): string | null {
  const [namespace = '', pod, ...more] = name.toLowerCase().split('/')
  if (pod === undefined) return labels(namespace)
  return more.length > 0 || namespace.includes('.') ? null : labels(`${pod}.${namespace}`)
}

/** The container id in lower case, of a random one the first 12 digits; null if it is no DNS name. */
export function idNameOf({ containerId }: Pick<Endpoint, 'containerId'>): string | null {
  const id = containerId.toLowerCase()
  return labels(RANDOM_ID.test(id) ? id.slice(0, SHORT_ID) : id)
}

/** A zone or a search domain, in lower case, without the dot at its end. @throws ERR_INVALID naming the field */
export function parseDomain(text: string, field = 'domain'): string {
  const domain = text.toLowerCase().replace(/\.$/, '')
  if (domain.length <= DOMAIN_MAX && LABELS.test(domain)) return domain
  throw invalid(
    field,
    `must be a domain like vxmesh or corp.example, at most ${DOMAIN_MAX} characters, got ${quote(text)}`
  )
}

function labels(text: string): string | null {
  return text.length <= FULL_NAME_MAX && LABELS.test(text) ? text : null
}
