// Finds the networks whose subnets overlap a given one. Two subnets overlap exactly when one contains the other, so sorted by
// base and prefix length, the inner ones follow the given one, and the outer ones are found by one search a prefix length.

import { compareIp, familyOf, lastAddress, networkOf, SUBNET_PREFIXES, type Ip, type Subnet } from '#model/ip.ts'
import type { NetworkName } from '#model/ids.ts'

type Row = { readonly name: NetworkName; readonly subnet: Subnet }

export class SubnetIndex {
  /** By base, then prefix length; rows of one subnet are neighbours, in the order in which they came. */
  readonly #rows: Row[] = []
  /** Pairs of networks that overlap. */
  #overlaps = 0

  /** No two networks overlap. */
  get isDisjoint(): boolean {
    return this.#overlaps === 0
  }

  /** How many subnets it has. */
  get size(): number {
    return this.#rows.length
  }

  add(name: NetworkName, subnets: readonly Subnet[]): void {
    for (const subnet of subnets) {
      this.#overlaps += this.overlapping(subnet).length
      this.#rows.splice(this.#after(subnet), 0, { name, subnet })
    }
  }

  /** Absent ones are ignored. */
  remove(name: NetworkName, subnets: readonly Subnet[]): void {
    for (const subnet of subnets) this.#remove({ name, subnet })
  }

  #remove({ name, subnet }: Row): void {
    for (let at = this.#after(subnet) - 1; at >= 0; at--) {
      const row = this.#rows[at]
      if (row === undefined || order(row.subnet, subnet) !== 0) return
      if (row.name !== name) continue
      this.#rows.splice(at, 1)
      this.#overlaps -= this.overlapping(subnet).length
      return
    }
  }

  /** In the order of their bases, outer ones first. O(prefix lengths x log networks + overlapping networks) */
  overlapping(subnet: Subnet): readonly NetworkName[] {
    const found: NetworkName[] = []
    const [shortest] = SUBNET_PREFIXES[familyOf(subnet.base)]
    for (let prefixLength = shortest; prefixLength < subnet.prefixLength; prefixLength++) {
      const outer = { base: networkOf(subnet.base, prefixLength), prefixLength }
      for (let at = this.#first(outer); isSame(this.#rows[at], outer); at++) push(found, this.#rows[at])
    }
    const last = lastAddress(subnet)
    for (let at = this.#first(subnet); isUpTo(this.#rows[at], last); at++) push(found, this.#rows[at])
    return found
  }

  /** Index of the first row that is not before this subnet. */
  #first(subnet: Subnet): number {
    return this.#search(row => order(row.subnet, subnet) < 0)
  }

  /** Index behind the last row of this subnet. */
  #after(subnet: Subnet): number {
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

function order(a: Subnet, b: Subnet): number {
  return compareIp(a.base, b.base) || a.prefixLength - b.prefixLength
}

function isUpTo(row: Row | undefined, last: Ip): boolean {
  return row !== undefined && compareIp(row.subnet.base, last) <= 0
}

function isSame(row: Row | undefined, subnet: Subnet): boolean {
  return row !== undefined && order(row.subnet, subnet) === 0
}

function push(found: NetworkName[], row: Row | undefined): void {
  if (row !== undefined) found.push(row.name)
}
