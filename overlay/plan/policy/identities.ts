// The identities of a network's endpoints: which selectors of the policies' peers they meet. Pure.

import type { Ip } from '#model/ip.ts'
import { isLabelPeer, type Policy } from '#model/policy.ts'
import { MAX_IDENTITIES, STRANGER, tooMany, type Identity, type PolicyEndpoint } from './compiled.ts'
import { LabelClasses } from './label-classes.ts'
import { numbersOf } from './numbers.ts'

/** Texts of peers (policy-text.ts), each of which says which it is. */
export type PeerSet = ReadonlySet<string>

export type Identities = {
  readonly members: ReadonlyMap<Ip, Identity>
  /** The selectors that each meets, the STRANGER's among them. */
  readonly peers: ReadonlyMap<Identity, PeerSet>
}

/** The same numbers on every host. @throws ERR_LIMIT_REACHED */
export function identitiesOf(policies: readonly Policy[], endpoints: readonly PolicyEndpoint[]): Identities {
  const peers = policies.flatMap(({ rules }) => rules.flatMap(rule => rule.peers)).filter(isLabelPeer)
  const classes = new LabelClasses(peers.map(({ select }) => select))
  const met = classes.isEmpty
    ? []
    : endpoints.map(({ labels, addresses }) => ({ addresses, texts: classes.of(labels) }))
  const names = new Map([...new Set(met.map(({ texts }) => texts))].map(texts => [texts, texts.toSorted().join('\n')]))
  const numbers = numbersOf([...names.values()].filter(name => name !== ''))
  if (numbers.size > MAX_IDENTITIES) throw tooMany('identities', { count: numbers.size, max: MAX_IDENTITIES })
  const identityOf = (texts: readonly string[]): Identity => numbers.get(names.get(texts) ?? '') ?? STRANGER
  const members = met.flatMap(({ addresses, texts }) => {
    return texts.length === 0 ? [] : addresses.map(address => [address, identityOf(texts)] as const)
  })
  const sets = [...names.keys()].map(texts => [identityOf(texts), new Set(texts)] as const)
  return { members: new Map(members), peers: new Map([[STRANGER, new Set()], ...sets]) }
}
