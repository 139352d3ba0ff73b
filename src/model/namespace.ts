// A Kubernetes namespace in the replicated state: the networks that its pods may use. Kernel network namespaces are
// called netns throughout.

import type { NamespaceName, NetworkName } from './ids.ts'
import { formatSubnet, isIpv4, SUBNET_PREFIXES, type Subnet } from './ip.ts'
import { invalid } from './errors.ts'

export type Namespace = {
  readonly name: NamespaceName
  /** The network of its pods by default. */
  readonly network: NetworkName
  /** Other networks that a pod may choose; ascending, without `network`. */
  readonly grants: readonly NetworkName[]
}

/** Most grants of one namespace. */
export const GRANTS_MAX = 64

/** The range from which an unmapped namespace gets a network of its own. */
export type NamespaceRange = {
  readonly range: Subnet
  /** Of each such network. */
  readonly prefixLength: number
}

/** Largest difference between the prefix length of a network and that of the range: 65,536 networks. */
export const RANGE_BITS_MAX = 16

/** @throws ERR_INVALID naming the field */
export function checkRange({ range, prefixLength }: NamespaceRange, field = 'prefixLength'): void {
  if (!isIpv4(range.base)) throw invalid('range', `${formatSubnet(range)} is not an IPv4 range`)
  const most = Math.min(range.prefixLength + RANGE_BITS_MAX, SUBNET_PREFIXES.ipv4[1])
  if (!Number.isInteger(prefixLength) || prefixLength < range.prefixLength || prefixLength > most) {
    throw invalid(field, `must be ${range.prefixLength} to ${most} with the range ${formatSubnet(range)}`)
  }
}

/** The canonical form of grants: ascending, without duplicates and without the namespace's own network. */
export function grantsOf(network: NetworkName, others: readonly NetworkName[]): readonly NetworkName[] {
  return [...new Set(others)].filter(name => name !== network).sort()
}
