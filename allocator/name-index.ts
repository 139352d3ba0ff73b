// The endpoints of one network by the names that resolve to them. Built when a name of the network is first asked for, since most
// hosts resolve the names of few networks, and kept up to date from then on. Pure.

import { idNameOf, ownNameOf } from '#model/dns-name.ts'
import type { Endpoint } from '#model/endpoint.ts'

/** One endpoint is held without a set around it: almost every name has one. */
type Named = Endpoint | Set<Endpoint>
type Rows = Map<string, Named>

export class NameIndex {
  readonly #own: Rows = new Map()
  readonly #ids: Rows = new Map()

  /** O(endpoints) */
  constructor(endpoints: Iterable<Endpoint>) {
    for (const endpoint of endpoints) this.add(endpoint)
  }

  /** Those of that name, or else those whose container has that id. @param name in lower case */
  find(name: string): readonly Endpoint[] {
    const held = this.#own.get(name) ?? this.#ids.get(name)
    if (held === undefined) return []
    return held instanceof Set ? [...held] : [held]
  }

  /** Pairs of a name and an endpoint. O(names) */
  get size(): number {
    const held = [...this.#own.values(), ...this.#ids.values()]
    return held.reduce((sum, one) => sum + (one instanceof Set ? one.size : 1), 0)
  }

  add(endpoint: Endpoint): void {
    addTo(this.#own, ownNameOf(endpoint), endpoint)
    addTo(this.#ids, idNameOf(endpoint), endpoint)
  }

  remove(endpoint: Endpoint): void {
    removeFrom(this.#own, ownNameOf(endpoint), endpoint)
    removeFrom(this.#ids, idNameOf(endpoint), endpoint)
  }
}

function addTo(rows: Rows, name: string | null, endpoint: Endpoint): void {
  if (name === null) return
  const held = rows.get(name)
  if (held instanceof Set) held.add(endpoint)
  else rows.set(name, held === undefined ? endpoint : new Set([held, endpoint]))
}

function removeFrom(rows: Rows, name: string | null, endpoint: Endpoint): void {
  if (name === null) return
  const held = rows.get(name)
  if (held === endpoint) rows.delete(name)
  if (!(held instanceof Set)) return
  held.delete(endpoint)
  if (held.size === 0) rows.delete(name)
}
