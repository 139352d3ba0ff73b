// Which changes of a member the overlay's desired state depends on. Pure.

import type { MemberChange } from '#membership/view/view.ts'

/** False for a change of tags alone, such as a cluster id: it needs no reconcile pass. */
export function affectsOverlay(change: MemberChange): boolean {
  if (change.kind !== 'changed') return true
  const { before, after } = change
  return before.status !== after.status || before.vtep !== after.vtep || before.address !== after.address
}

/** Does the set of peers or that of the members' addresses change, besides how a peer is reached? */
export function affectsPeers(change: MemberChange): boolean {
  if (change.kind !== 'changed') return true
  const { before, after } = change
  return before.address !== after.address || (before.status === 'left') !== (after.status === 'left')
}
