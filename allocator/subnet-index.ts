// Finds the networks whose subnets overlap a given one. Two subnets overlap exactly when one contains the other, so sorted by
// base and prefix length, the inner ones follow the given one, and the outer ones are found by one search a prefix length.

import { ipv4SubnetOf, SUBNET_PREFIX_MIN, type Subnet } from '#model/ip.ts'
import { broadcastAddress, networkAddress, type Ipv4Subnet } from '#model/ipv4.ts'
import type { NetworkName } from '#model/ids.ts'

type Given = { readonly name: NetworkName; readonly subnet: Subnet }
type Row = { readonly name: NetworkName; readonly subnet: Ipv4Subnet }

export class SubnetIndex {
  /** By base, then prefix length; rows of one subnet are neighbours, in the order in which they came. */
  readonly #rows: Row[] = []
  /** Pairs of networks that overlap. */
  #overlaps = 0

  /** No two networks overlap. */
  get isDisjoint(): boolean {
    return this.#overlaps === 0
  }

  add(given: Given): void {
    const { name } = given
    const subnet = ipv4SubnetOf(given.subnet)
    this.#overlaps += this.overlapping(given.subnet).length
    this.#rows.splice(this.#after(subnet), 0, { name, subnet })
  }

  /** An absent one is ignored. */
  remove(given: Given): void {
    const { name } = given
    const subnet = ipv4SubnetOf(given.subnet)
    for (let at = this.#after(subnet) - 1; at >= 0; at--) {
      const row = this.#rows[at]
      if (row === undefined || order(row.subnet, subnet) !== 0) return
      if (row.name !== name) continue
      this.#rows.splice(at, 1)
      this.#overlaps -= this.overlapping(given.subnet).length
      return
    }
  }

  /** In the order of their bases, outer ones first. O(prefix lengths x log networks + overlapping networks) */
  overlapping(asked: Subnet): readonly NetworkName[] {
    const subnet = ipv4SubnetOf(asked)
    const found: NetworkName[] = []
    for (let prefixLength = SUBNET_PREFIX_MIN; prefixLength < subnet.prefixLength; prefixLength++) {
      const outer = { base: networkAddress(subnet.base, prefixLength), prefixLength }
      for (let at = this.#first(outer); isSame(this.#rows[at], outer); at++) push(found, this.#rows[at])
    }
    const last = broadcastAddress(subnet)
    for (let at = this.#first(subnet); (this.#rows[at]?.subnet.base ?? Infinity) <= last; at++)
      push(found, this.#rows[at])
    return found
  }

  /** Index of the first row that is not before this subnet. */
  #first(subnet: Ipv4Subnet): number {
    return this.#search(row => order(row.subnet, subnet) < 0)
  }

  /** Index behind the last row of this subnet. */
  #after(subnet: Ipv4Subnet): number {
    return this.#search(row => order(row.subnet, subnet) <= 0)
  }

  #search(isBefore: (row: Row) => boolean): number {
    let [low, high] = [0, this.#rows.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      const row = this.#rows[middle]
      if (row !== undefined && isBefore(row)) low = middle + 1
      else high = middle
    }
    return low
  }
}

function order(a: Ipv4Subnet, b: Ipv4Subnet): number {
  return a.base - b.base || a.prefixLength - b.prefixLength
}

function isSame(row: Row | undefined, subnet: Ipv4Subnet): boolean {
  return row !== undefined && order(row.subnet, subnet) === 0
}

function push(found: NetworkName[], row: Row | undefined): void {
  if (row !== undefined) found.push(row.name)
}
