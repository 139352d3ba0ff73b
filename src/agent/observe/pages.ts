// Pages of the lists: a page ends at a row, and its token says which. The next page begins after it, whether or not that row
// still exists. A page costs the rows that it holds, and for lists without an index a comparison for each row. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { PageRange } from '#model/agent-port.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { invalid } from '#model/errors.ts'
import type { Network } from '#model/network.ts'
import type { PageView } from '#model/views.ts'

/** Where a row is in its list: compared part by part. */
type Place = readonly (number | string)[]

/** By VNI. */
export function networkPage(state: ClusterState, range: PageRange): PageView<Network> {
  const [vni = -1] = placeIn(range, ['number'])
  return pageOf(state.networksFrom(Number(vni) + 1), range, network => [network.vni])
}

/** By VNI and address; of one network or of all. O(networks) when most are empty. */
export function endpointPage(state: ClusterState, range: PageRange, only?: Network): PageView<Endpoint> {
  const [vni = -1, address = -1] = placeIn(range, ['number', 'number']).map(Number)
  const networks = only === undefined ? state.networksFrom(vni) : only.vni < vni ? [] : [only]
  function* endpoints(): Generator<Endpoint> {
    for (const network of networks) yield* state.endpointsFrom(network.name, network.vni === vni ? address + 1 : 0)
  }
  return pageOf(endpoints(), range, endpoint => [endpoint.vni, endpoint.address])
}

/** By name, and by `id` among rows of one name. O(rows) */
export function namedPage<Row>(
  rows: Iterable<Row>,
  range: PageRange,
  key: (row: Row) => readonly [name: string, id: string]
): PageView<Row> {
  const after = placeIn(range, ['string', 'string'])
  const later: Row[] = []
  for (const row of rows) if (after.length === 0 || compare(key(row), after) > 0) later.push(row)
  // One row more than asked for shows whether there is a next page.
  return pageOf(
    smallest(later, (a, b) => compare(key(a), key(b)), range.limit + 1),
    range,
    key
  )
}

function pageOf<Row>(rows: Iterable<Row>, { limit }: PageRange, place: (row: Row) => Place): PageView<Row> {
  const items: Row[] = []
  for (const row of rows) {
    const last = items.at(-1)
    if (last !== undefined && items.length >= limit) return { items, continue: tokenOf(place(last)) }
    items.push(row)
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
function placeIn(range: PageRange, types: readonly ('number' | 'string')[]): Place {
  if (range.continue === null) return []
  const place = parse(range.continue)
  if (!Array.isArray(place) || place.length !== types.length)
    throw invalid('continue', 'is not what a page of this list gave')
  return place.map((part: unknown, at) => {
    if (typeof part === 'number' && types[at] === 'number' && Number.isSafeInteger(part) && part >= 0) return part
    if (typeof part === 'string' && types[at] === 'string') return part
    throw invalid('continue', 'is not what a page of this list gave')
  })
}

function parse(token: string): unknown {
  try {
    return JSON.parse(Buffer.from(token, 'base64url').toString())
  } catch {
    return null
  }
}
