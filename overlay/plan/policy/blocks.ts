// The blocks of a ruleset in one direction: which of its CIDRs an address is in follows from the longest prefix around it, of all
// that the CIDRs and their exceptions name. Pure.

import { formatSubnet, networkOf, type Subnet } from '#model/ip.ts'
import { isLabelPeer, type Peer } from '#model/policy.ts'
import { formatPeer } from '#model/policy-text.ts'
import type { Block } from './compiled.ts'
import type { PeerSet } from './identities.ts'

export type Blocks = {
  readonly prefixes: readonly { readonly prefix: Subnet; readonly block: Block }[]
  /** The CIDRs that each block is in, as text. */
  readonly peers: ReadonlyMap<Block, PeerSet>
}

type Named = {
  readonly prefix: Subnet
  /** Peers of which it is the CIDR. */
  readonly holds: string[]
  /** Peers of which it is an exception. */
  readonly excepted: string[]
}

/** O(prefixes × their different lengths) */
export function blocksOf(peers: readonly Peer[]): Blocks {
  const named = namedBy(peers)
  const lengths = [...new Set([...named.values()].map(({ prefix }) => prefix.prefixLength))]
  const blocks = new Map<string, { readonly block: Block; readonly set: PeerSet }>()
  const prefixes = [...named.values()].map(({ prefix }) => {
    const around = lengths.flatMap(length => named.get(textAround(prefix, length)) ?? [])
    const excepted = new Set(around.flatMap(each => each.excepted))
    const set = new Set(around.flatMap(({ holds }) => holds).filter(text => !excepted.has(text)))
    const name = [...set].sort().join('\n')
    const known = blocks.get(name) ?? { block: blocks.size + 1, set }
    blocks.set(name, known)
    return { prefix, block: known.block }
  })
  return { prefixes, peers: new Map([...blocks.values()].map(({ block, set }) => [block, set])) }
}

function namedBy(peers: readonly Peer[]): ReadonlyMap<string, Named> {
  const named = new Map<string, Named>()
  const at = (prefix: Subnet): Named => {
    const text = formatSubnet(prefix)
    const known = named.get(text) ?? { prefix, holds: [], excepted: [] }
    named.set(text, known)
    return known
  }
  for (const peer of peers) {
    if (isLabelPeer(peer)) continue
    at(peer.cidr).holds.push(formatPeer(peer))
    for (const prefix of peer.except) at(prefix).excepted.push(formatPeer(peer))
  }
  return named
}

/** The prefix of that length around another, as text; of a longer one, a text that no prefix has. */
function textAround({ base, prefixLength: longest }: Subnet, prefixLength: number): string {
  return prefixLength > longest ? '' : formatSubnet({ base: networkOf(base, prefixLength), prefixLength })
}
