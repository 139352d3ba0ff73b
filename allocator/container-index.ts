// Endpoints by container and interface, a pair that is unique in the cluster. Most containers have one interface, which
// is held without a map of its own: that saves 200 MB at a million endpoints.

import type { Endpoint } from '#model/endpoint.ts'
import type { ContainerId, IfName } from '#model/ids.ts'

export class ContainerIndex {
  readonly #rows = new Map<ContainerId, Endpoint | Map<IfName, Endpoint>>()
  #size = 0

  /** Number of endpoints. */
  get size(): number {
    return this.#size
  }

  get(containerId: ContainerId, ifname: IfName): Endpoint | undefined {
    const held = this.#rows.get(containerId)
    if (held instanceof Map) return held.get(ifname)
    return held?.ifname === ifname ? held : undefined
  }

  /** All endpoints of a container, oldest first. */
  of(containerId: ContainerId): readonly Endpoint[] {
    const held = this.#rows.get(containerId)
    if (held instanceof Map) return [...held.values()]
    return held === undefined ? [] : [held]
  }

  /** @throws Error when the pair exists: a broken invariant */
  add(endpoint: Endpoint): void {
    const { containerId, ifname } = endpoint
    const held = this.#rows.get(containerId)
    const rows = held instanceof Map ? held : held === undefined ? null : new Map([[held.ifname, held]])
    if (rows?.has(ifname) === true) throw new Error(`endpoint ${containerId}/${ifname} already exists`)
    if (rows === null) this.#rows.set(containerId, endpoint)
    else this.#rows.set(containerId, rows.set(ifname, endpoint))
    this.#size += 1
  }

  /** Replaces the row of a container interface. @throws Error when `before` is not in the index: a broken invariant */
  replace(before: Endpoint, after: Endpoint): void {
    const { containerId, ifname } = before
    if (this.get(containerId, ifname) !== before) throw new Error(`endpoint ${containerId}/${ifname} does not exist`)
    const held = this.#rows.get(containerId)
    if (held instanceof Map) held.set(ifname, after)
    else this.#rows.set(containerId, after)
  }

  /** @throws Error when it is not in the index: a broken invariant */
  remove(endpoint: Endpoint): void {
    const { containerId, ifname } = endpoint
    if (this.get(containerId, ifname) !== endpoint) throw new Error(`endpoint ${containerId}/${ifname} does not exist`)
    const held = this.#rows.get(containerId)
    if (held instanceof Map && held.size > 1) held.delete(ifname)
    else this.#rows.delete(containerId)
    this.#size -= 1
  }
}
