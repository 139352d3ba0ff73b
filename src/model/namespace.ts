// A Kubernetes namespace as the replicated state knows it: which networks its pods are in. Not a kernel's namespace, which
// is called netns everywhere.

import type { NamespaceName, NetworkName } from './ids.ts'
import { formatSubnet, SUBNET_PREFIX_MAX, type Subnet } from './ipv4.ts'
import { invalid } from './errors.ts'

export type Namespace = {
  readonly name: NamespaceName
  /** Where its pods are unless they choose. */
  readonly network: NetworkName
  /** What they may choose besides; ascending, without `network`. */
  readonly grants: readonly NetworkName[]
}

/** Networks that one namespace may choose from besides its own. */
export const GRANTS_MAX = 64

/** From where a namespace that is mapped to nothing gets a network of its own. */
export type NamespaceRange = {
  readonly range: Subnet
  /** Of each network. */
  readonly prefixLength: number
}

/** Bits between the range's prefix and a network's: 65,536 networks. */
export const RANGE_BITS_MAX = 16

/** @throws ERR_INVALID naming the field */
export function checkRange({ range, prefixLength }: NamespaceRange, field = 'prefixLength'): void {
  const most = Math.min(range.prefixLength + RANGE_BITS_MAX, SUBNET_PREFIX_MAX)
  if (!Number.isInteger(prefixLength) || prefixLength < range.prefixLength || prefixLength > most) {
    throw invalid(field, `must be ${range.prefixLength} to ${most} with the range ${formatSubnet(range)}`)
  }
}

/** Each once, ascending, without the namespace's own: two lists that grant the same are the same. */
export function grantsOf(network: NetworkName, others: readonly NetworkName[]): readonly NetworkName[] {
  return [...new Set(others)].filter(name => name !== network).sort()
}
