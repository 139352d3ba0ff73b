// Parses the output of `nft -j list table` or `list ruleset`: of a table, the elements of our sets, and the shape of everything
// else as one string. nft rewrites rules when listing them, so a shape is only compared with one listed by the same nft
// (filter/guard.ts). Pure.

import { parseElement, type Element } from './element.ts'
import { setsOf, type FilterTable } from './ruleset.ts'

export type ObservedTable = {
  readonly shape: string
  readonly elements: Map<string, Element>
}

/** @throws SyntaxError when the text is not JSON */
export function parseListing(table: FilterTable, text: string): ObservedTable {
  const listing = JSON.parse(text) as { nftables?: readonly Readonly<Record<string, unknown>>[] }
  const elements = new Map<string, Element>()
  const shape: unknown[] = []
  for (const entry of listing.nftables ?? []) {
    if (!isOf(table, entry)) continue
    const set = entry['set'] as { name?: string; elem?: readonly unknown[] } | undefined
    if (set === undefined) {
      shape.push(withoutCounts(entry))
      continue
    }
    const { elem = [], ...rest } = set
    const name = setsOf(table).find(ours => ours === set.name)
    // The kernel itself fills the others: they hold a bucket for each source.
    if (name === undefined) {
      shape.push(withoutCounts(rest))
      continue
    }
    const odd = elem.filter(listed => {
      const element = parseElement(name, listed)
      if (element !== null) elements.set(element.text, element)
      return element === null
    })
    shape.push(withoutCounts({ ...rest, odd }))
  }
  return { shape: JSON.stringify(shape), elements }
}

/** An entry is an object under the name of its kind. That of the whole listing is of no table. */
function isOf({ family, name }: FilterTable, entry: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(entry).some(([kind, object]) => {
    const { family: itsFamily, table, name: itsName } = object as Readonly<Record<string, unknown>>
    return itsFamily === family && (kind === 'table' ? itsName : table) === name
  })
}

/** Drops handles, which change with every load, and counter values. */
function withoutCounts(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutCounts)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'handle')
      .map(([key, inner]) => [key, key === 'counter' ? null : withoutCounts(inner)])
  )
}
