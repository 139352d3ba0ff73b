// Reads what `nft -j list table` tells: the elements of our set, and the shape of all the rest as one text. nft words a
// rule in its own way, so shapes are compared with one that the same nft has listed (filter/guard.ts).

import { parseElement, type Element } from './element.ts'
import type { FilterTable } from './ruleset.ts'

export type ObservedTable = {
  readonly shape: string
  readonly elements: Map<string, Element>
}

/** @throws SyntaxError when it is no JSON */
export function parseListing(table: FilterTable, text: string): ObservedTable {
  const listing = JSON.parse(text) as { nftables?: readonly Readonly<Record<string, unknown>>[] }
  const elements = new Map<string, Element>()
  const shape: unknown[] = []
  for (const entry of listing.nftables ?? []) {
    if ('metainfo' in entry) continue
    const set = entry['set'] as { name?: string; elem?: readonly unknown[] } | undefined
    if (set?.name !== table.set) {
      shape.push(withoutCounts(entry))
      continue
    }
    const { elem = [], ...rest } = set
    const odd = elem.filter(listed => {
      const element = parseElement(table, listed)
      if (element !== null) elements.set(element.text, element)
      return element === null
    })
    shape.push(withoutCounts({ ...rest, odd }))
  }
  return { shape: JSON.stringify(shape), elements }
}

/** Without the handles, which are new each time, and without what the counters say. */
function withoutCounts(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutCounts)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'handle')
      .map(([key, inner]) => [key, key === 'counter' ? null : withoutCounts(inner)])
  )
}
