// The membership view: Serf's members, with contradictions resolved the same way on every host.

import type { PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { readMember, type Foreign } from './serf-member.ts'

export type MembershipView = {
  /** Grows by one with every change. */
  readonly revision: number
  /** Sorted by name; one per peer id. */
  readonly members: readonly Member[]
  readonly foreign: readonly Foreign[]
}

/** The difference in one member, by its peer id. */
export type MemberChange =
  | { readonly kind: 'appeared'; readonly after: Member }
  | { readonly kind: 'changed'; readonly before: Member; readonly after: Member }
  | { readonly kind: 'vanished'; readonly before: Member }

export const EMPTY_VIEW: MembershipView = { revision: 0, members: [], foreign: [] }

/** Reduces Serf's records to the next view. Pure and total. @returns the same view when nothing changed */
export function reduceView(
  view: MembershipView,
  records: readonly unknown[]
): { readonly view: MembershipView; readonly changes: readonly MemberChange[] } {
  const read = records.map(readMember)
  const foreign = read.flatMap(r => (r.kind === 'foreign' ? [r.foreign] : []))
  const { members, duplicates } = onePerPeer(read.flatMap(r => (r.kind === 'member' ? [r.member] : [])))
  const changes = compare(view.members, members)
  // Serf lists its members in arbitrary order.
  const allForeign = [...foreign, ...duplicates].sort((a, b) => byText(a.name, b.name) || byText(a.reason, b.reason))
  if (changes.length === 0 && same(view.foreign, allForeign)) return { view, changes }
  return { view: { revision: view.revision + 1, members, foreign: allForeign }, changes }
}

/**
 * Keeps one member per peer id: a renamed host leaves its old name behind as failed. The liveliest member wins, then the
 * name that sorts first; the others are reported as foreign.
 */
function onePerPeer(all: readonly Member[]): { members: readonly Member[]; duplicates: readonly Foreign[] } {
  const best = new Map<PeerId, Member>()
  const duplicates: Foreign[] = []
  for (const member of [...all].sort((a, b) => rank(a) - rank(b) || byName(a, b))) {
    const other = best.get(member.peerId)
    if (other === undefined) best.set(member.peerId, member)
    else duplicates.push({ name: member.name, reason: `has the peer id of ${other.name}` })
  }
  return { members: [...best.values()].sort(byName), duplicates }
}

/** Names are unique in Serf. Should they not be, the order is still the same on every host. */
function byName(a: Member, b: Member): number {
  return byText(a.name, b.name) || byText(a.peerId, b.peerId)
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function rank(member: Member): number {
  return ['alive', 'leaving', 'failed', 'left'].indexOf(member.status)
}

function compare(before: readonly Member[], after: readonly Member[]): MemberChange[] {
  const old = new Map(before.map(m => [m.peerId, m]))
  const changes: MemberChange[] = []
  for (const member of after) {
    const was = old.get(member.peerId)
    old.delete(member.peerId)
    if (was === undefined) changes.push({ kind: 'appeared', after: member })
    else if (!same(was, member)) changes.push({ kind: 'changed', before: was, after: member })
  }
  for (const member of old.values()) changes.push({ kind: 'vanished', before: member })
  return changes
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
