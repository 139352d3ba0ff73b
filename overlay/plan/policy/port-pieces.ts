// Ranges of ports as prefixes, for tables that find the longest one. Pure.

export const PORT_BITS = 16

export type Interval = { readonly first: number; readonly last: number }

/** The highest `portBits` of `port` count. */
export type PortPrefix = { readonly port: number; readonly portBits: number }

/** The fewest prefixes that cover exactly this interval: 30 at most. */
export function prefixesOf({ first, last }: Interval): readonly PortPrefix[] {
  const prefixes: PortPrefix[] = []
  for (let port = first; port <= last;) {
    let size = 1
    while (port % (size * 2) === 0 && port + size * 2 - 1 <= last) size *= 2
    prefixes.push({ port, portBits: PORT_BITS - Math.log2(size) })
    port += size
  }
  return prefixes
}

/** All ports, cut wherever an interval begins or ends: inside a piece, the same intervals hold everywhere. Ascending. */
export function piecesOf(intervals: readonly Interval[]): readonly Interval[] {
  const starts = new Set([0])
  for (const { first, last } of intervals) {
    starts.add(first)
    if (last + 1 < 2 ** PORT_BITS) starts.add(last + 1)
  }
  const ascending = [...starts].sort((a, b) => a - b)
  return ascending.map((first, at) => ({ first, last: (ascending[at + 1] ?? 2 ** PORT_BITS) - 1 }))
}
