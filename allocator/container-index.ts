// Endpoints by container and interface, a pair that is unique in the cluster. Most containers have one interface, which
// is held without a map of its own: that saves 200 MB at a million endpoints. The index is in shards, because a map that
// grows moves all of its entries at once: 50 ms at half a million.

import type { Endpoint } from '#model/endpoint.ts'
import type { ContainerId, IfName } from '#model/ids.ts'

type Rows = Map<ContainerId, Endpoint | Map<IfName, Endpoint>>

const SHARDS = 64
/** Characters of an id that choose its shard: runtimes draw ids at random. */
const SHARD_CHARACTERS = 16

export class ContainerIndex {
  readonly #shards: (Rows | undefined)[] = []
  #size = 0

  /** Number of endpoints. */
  get size(): number {
    return this.#size
  }

  get(containerId: ContainerId, ifname: IfName): Endpoint | undefined {
    const held = this.#shards[shardOf(containerId)]?.get(containerId)
    if (held instanceof Map) return held.get(ifname)
    return held?.ifname === ifname ? held : undefined
  }

  /** All endpoints of a container, oldest first. */
  of(containerId: ContainerId): readonly Endpoint[] {
    const held = this.#shards[shardOf(containerId)]?.get(containerId)
    if (held instanceof Map) return [...held.values()]
    return held === undefined ? [] : [held]
  }

  /** @throws Error when the pair exists: a broken invariant */
  add(endpoint: Endpoint): void {
    const { containerId, ifname } = endpoint
    const shard = this.#shard(containerId)
    const held = shard.get(containerId)
    const rows = held instanceof Map ? held : held === undefined ? null : new Map([[held.ifname, held]])
    if (rows?.has(ifname) === true) throw new Error(`endpoint ${containerId}/${ifname} already exists`)
    if (rows === null) shard.set(containerId, endpoint)
    else shard.set(containerId, rows.set(ifname, endpoint))
    this.#size += 1
  }

  /** Replaces the row of a container interface. @throws Error when `before` is not in the index: a broken invariant */
  replace(before: Endpoint, after: Endpoint): void {
    const { containerId, ifname } = before
    if (this.get(containerId, ifname) !== before) throw new Error(`endpoint ${containerId}/${ifname} does not exist`)
    const shard = this.#shard(containerId)
    const held = shard.get(containerId)
    if (held instanceof Map) held.set(ifname, after)
    else shard.set(containerId, after)
  }

  /** @throws Error when it is not in the index: a broken invariant */
  remove(endpoint: Endpoint): void {
    const { containerId, ifname } = endpoint
    if (this.get(containerId, ifname) !== endpoint) throw new Error(`endpoint ${containerId}/${ifname} does not exist`)
    const shard = this.#shard(containerId)
    const held = shard.get(containerId)
    if (held instanceof Map && held.size > 1) held.delete(ifname)
    else shard.delete(containerId)
    this.#size -= 1
  }

  #shard(containerId: ContainerId): Rows {
    const at = shardOf(containerId)
    const shard = this.#shards[at] ?? new Map<ContainerId, Endpoint | Map<IfName, Endpoint>>()
    this.#shards[at] = shard
    return shard
  }
}

function shardOf(containerId: ContainerId): number {
  let hash = 0
  const { length } = containerId
  for (let at = 0; at < length && at < SHARD_CHARACTERS; at++) {
    hash = (Math.imul(hash, 31) + containerId.charCodeAt(at)) | 0
  }
  return (hash ^ (hash >>> 7)) & (SHARDS - 1)
}
