// The membership view: what Serf's members come to, with contradictions resolved the same way everywhere.

import type { HostName, PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { readMember, type Foreign } from './serf-member.ts'

export type MembershipView = {
  /** Counts changes. */
  readonly revision: number
  /** By name, ascending; one a peer id. */
  readonly members: readonly Member[]
  readonly foreign: readonly Foreign[]
}

export type MemberChange = {
  readonly name: HostName
  readonly peerId: PeerId
  readonly kind: 'appeared' | 'changed' | 'vanished'
}

export const EMPTY_VIEW: MembershipView = { revision: 0, members: [], foreign: [] }

/** The next view from a list of Serf's records, and what is different in it. Pure and total. */
export function reduceView(
  view: MembershipView,
  records: readonly unknown[]
): { readonly view: MembershipView; readonly changes: readonly MemberChange[] } {
  const read = records.map(readMember)
  const foreign = read.flatMap(r => (r.kind === 'foreign' ? [r.foreign] : []))
  const { members, doubles } = onePerPeer(read.flatMap(r => (r.kind === 'member' ? [r.member] : [])))
  const changes = compare(view.members, members)
  // Serf lists its members in no order.
  const allForeign = [...foreign, ...doubles].sort((a, b) => byText(a.name, b.name) || byText(a.reason, b.reason))
  if (changes.length === 0 && same(view.foreign, allForeign)) return { view, changes }
  return { view: { revision: view.revision + 1, members, foreign: allForeign }, changes }
}

/**
 * Two names with one peer id: a renamed host leaves its old name behind as failed. The live one counts, then the name
 * that sorts first; the other is reported.
 */
function onePerPeer(all: readonly Member[]): { members: readonly Member[]; doubles: readonly Foreign[] } {
  const best = new Map<PeerId, Member>()
  const doubles: Foreign[] = []
  for (const member of [...all].sort((a, b) => rank(a) - rank(b) || byName(a, b))) {
    const other = best.get(member.peerId)
    if (other === undefined) best.set(member.peerId, member)
    else doubles.push({ name: member.name, reason: `has the peer id of ${other.name}` })
  }
  return { members: [...best.values()].sort(byName), doubles }
}

/** A name is one member's in Serf; should it not be, the order is still the same everywhere. */
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
    if (was === undefined) changes.push({ name: member.name, peerId: member.peerId, kind: 'appeared' })
    else if (!same(was, member)) changes.push({ name: member.name, peerId: member.peerId, kind: 'changed' })
  }
  for (const { name, peerId } of old.values()) changes.push({ name, peerId, kind: 'vanished' })
  return changes
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
