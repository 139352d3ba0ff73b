// Pages of the lists: a page ends at a row, and its token says which. The next page begins after it, whether or not that row
// still exists. A page costs the rows that it holds, and for lists without an index a comparison for each row. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { PageRange } from '#model/agent-port.ts'
import { mirroredBy } from '#model/addresses.ts'
import { labelsOf, type Endpoint } from '#model/endpoint.ts'
import { invalid, type VxmeshError } from '#model/errors.ts'
import { familyOf, isIpv4, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { matches, type Selector } from '#model/labels.ts'
import type { Network } from '#model/network.ts'
import type { PageView } from '#model/views.ts'

/** Where a row is in its list: compared part by part. */
type Place = readonly (number | string)[]

/** By VNI. */
export function networkPage(state: ClusterState, range: PageRange): PageView<Network> {
  const [vni = -1] = placeIn(range, [asNumber])
  return pageOf(state.networksFrom(vni + 1), range, { place: network => [network.vni] })
}

/** Most rows that a page looks at: some milliseconds. With a selector it may end there with few rows, or none. */
const MAX_LOOKED_AT = 10_000

/** By VNI and address; of one network or of all, and those that the selector chooses. O(networks) when most are empty. */
export function endpointPage(
  state: ClusterState,
  range: PageRange,
  p: { readonly only?: Network | null; readonly selector?: Selector | undefined } = {}
): PageView<Endpoint> {
  const { only = null, selector = [] } = p
  const [vni = -1, after] = placeIn(range, [asNumber, asAddress])
  const networks = only === null ? state.networksFrom(vni) : only.vni < vni ? [] : [only]
  function* endpoints(): Generator<Endpoint> {
    for (const network of networks) {
      const last = network.vni === vni && after !== undefined ? addressIn(network, after) : null
      for (const endpoint of state.endpointsFrom(network.name, last)) if (endpoint.address !== last) yield endpoint
    }
  }
  return pageOf(endpoints(), range, {
    place: endpoint => [endpoint.vni, endpoint.address],
    isChosen: endpoint => matches(selector, labelsOf(endpoint))
  })
}

/** As its rows have it, which may have got an IPv4 subnet; null when it is another network by now, of another family. */
function addressIn(network: Network, after: Ip): Ip | null {
  if (familyOf(after) === familyOf(network.subnet.base)) return after
  return isIpv4(after) ? null : mirroredBy(network, after)
}

/** By name, and by `id` among rows of one name. O(rows) */
export function namedPage<Row>(
  rows: Iterable<Row>,
  range: PageRange,
  key: (row: Row) => readonly [name: string, id: string]
): PageView<Row> {
  const [name, id = ''] = placeIn(range, [asText, asText])
  const later: Row[] = []
  for (const row of rows) if (name === undefined || compare(key(row), [name, id]) > 0) later.push(row)
  // One row more than asked for shows whether there is a next page.
  return pageOf(
    smallest(later, (a, b) => compare(key(a), key(b)), range.limit + 1),
    range,
    { place: key }
  )
}

function pageOf<Row>(
  rows: Iterable<Row>,
  { limit }: PageRange,
  { place, isChosen = () => true }: { readonly place: (row: Row) => Place; readonly isChosen?: (row: Row) => boolean }
): PageView<Row> {
  const items: Row[] = []
  let last: Row | undefined
  let lookedAt = 0
  for (const row of rows) {
    const isFull = items.length >= limit || lookedAt >= MAX_LOOKED_AT
    if (last !== undefined && isFull) return { items, continue: tokenOf(place(last)) }
    if (isChosen(row)) items.push(row)
    last = row
    lookedAt += 1
  }
  return { items, continue: null }
}

/** The `count` smallest rows, sorted; keeps no more than twice as many. */
function smallest<Row>(rows: readonly Row[], order: (a: Row, b: Row) => number, count: number): readonly Row[] {
  let kept: Row[] = []
  let limit: Row | undefined
  const settle = (): void => {
    kept = kept.sort(order).slice(0, count)
    if (kept.length === count) limit = kept.at(-1)
  }
  for (const row of rows) {
    if (limit !== undefined && order(row, limit) > 0) continue
    kept.push(row)
    if (kept.length >= 2 * count) settle()
  }
  settle()
  return kept
}

function compare(a: Place, b: Place): number {
  for (const [at, one] of a.entries()) {
    const other = b[at] ?? ''
    if (one !== other) return one < other ? -1 : 1
  }
  return 0
}

function tokenOf(place: Place): string {
  return Buffer.from(JSON.stringify(place)).toString('base64url')
}

/** Empty for the first page. @throws ERR_INVALID when it is no token of such a list */
function placeIn<Parts extends readonly unknown[] | []>(
  range: PageRange,
  parsers: { readonly [At in keyof Parts]: (part: unknown) => Parts[At] }
): Partial<Parts> {
  if (range.continue === null) return [] as unknown as Partial<Parts>
  const place = parse(range.continue)
  if (!Array.isArray(place) || place.length !== parsers.length) throw noToken()
  return parsers.map((parser, at) => parser(place[at])) as unknown as Partial<Parts>
}

function asNumber(part: unknown): number {
  if (typeof part === 'number' && Number.isSafeInteger(part) && part >= 0) return part
  throw noToken()
}

function asText(part: unknown): string {
  if (typeof part === 'string') return part
  throw noToken()
}

function asAddress(part: unknown): Ip {
  if (typeof part === 'string') return parseIpv6(part, 'continue')
  const number = asNumber(part)
  if (number > 0xffffffff) throw noToken()
  return number as Ipv4
}

function noToken(): VxmeshError {
  return invalid('continue', 'is not what a page of this list gave')
}

function parse(token: string): unknown {
  try {
    return JSON.parse(Buffer.from(token, 'base64url').toString())
  } catch {
    return null
  }
}
