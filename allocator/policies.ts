// The policies of all networks. Rows are never changed in place. Changed by tables.ts and apply-policy.ts alone. Pure.

import type { NetworkName, PolicyName } from '#model/ids.ts'
import type { Policy } from '#model/policy.ts'
import { hashPolicy, type SetHash } from './row-hash.ts'

export class Policies {
  /** Networks without any have no entry. */
  readonly #byNetwork = new Map<NetworkName, Map<PolicyName, Policy>>()
  readonly #hash: SetHash
  #count = 0

  /** @param hash the sum over all rows of the state, to which theirs are added */
  constructor(hash: SetHash) {
    this.#hash = hash
  }

  get count(): number {
    return this.#count
  }

  countOf(network: NetworkName): number {
    return this.#byNetwork.get(network)?.size ?? 0
  }

  /** In no particular order. */
  *all(): Generator<Policy> {
    for (const policies of this.#byNetwork.values()) yield* policies.values()
  }

  /** In no particular order. */
  of(network: NetworkName): readonly Policy[] {
    return [...(this.#byNetwork.get(network)?.values() ?? [])]
  }

  get(network: NetworkName, name: PolicyName): Policy | undefined {
    return this.#byNetwork.get(network)?.get(name)
  }

  /** @throws Error when there is one of that name */
  add(policy: Policy): void {
    const policies = this.#byNetwork.get(policy.network) ?? new Map<PolicyName, Policy>()
    if (policies.has(policy.name)) throw new Error(`policy ${policy.name} already exists`)
    this.#byNetwork.set(policy.network, policies.set(policy.name, policy))
    this.#count += 1
    this.#hash.add(hashPolicy(policy))
  }

  remove(policy: Policy): void {
    const policies = this.#byNetwork.get(policy.network)
    if (policies?.delete(policy.name) !== true) return
    if (policies.size === 0) this.#byNetwork.delete(policy.network)
    this.#count -= 1
    this.#hash.remove(hashPolicy(policy))
  }

  /** All of a network that is removed. */
  removeOf(network: NetworkName): void {
    for (const policy of this.of(network)) this.remove(policy)
  }

  /** The networks that have any. */
  networks(): readonly NetworkName[] {
    return [...this.#byNetwork.keys()]
  }
}
