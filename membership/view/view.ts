// The membership view: Serf's members, with contradictions resolved the same way on every host.

import type { PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { isSameRecord, readMember, type Foreign } from './serf-member.ts'

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

type Reduced = { readonly view: MembershipView; readonly changes: readonly MemberChange[] }

/** What a record was read as. */
type Reading = { readonly record: unknown; readonly read: ReturnType<typeof readMember> }

/** By name: those of the last full list, and those read since, null for one that has gone. */
type Readings = {
  readonly full: ReadonlyMap<unknown, Reading>
  readonly since: ReadonlyMap<unknown, Reading | null>
  /** How many records there are. */
  readonly size: number
}

/** The records of each view: those that did not change are not parsed again. */
const readings = new WeakMap<MembershipView, Readings>()
/** Where each peer is in a list; lists of the same peers in the same order share it. */
const positions = new WeakMap<readonly Member[], ReadonlyMap<PeerId, number>>()

/** The member with this peer id. O(members) at the first call for other peers than before. */
export function memberOf({ members }: MembershipView, peer: PeerId): Member | undefined {
  let known = positions.get(members)
  if (known === undefined) positions.set(members, (known = new Map(members.map(({ peerId }, at) => [peerId, at]))))
  const at = known.get(peer)
  return at === undefined ? undefined : members[at]
}

/**
 * Reduces all of Serf's records to the next view. Pure and total; O(records), of which only changed ones are parsed.
 * @returns the same view when nothing changed
 */
export function reduceView(view: MembershipView, records: readonly unknown[]): Reduced {
  const known = readings.get(view)
  const full = new Map<unknown, Reading>()
  let unchanged = known?.size === records.length
  const read = records.map(record => {
    const name = nameOf(record)
    const since = known?.since.get(name)
    const last = since === undefined ? known?.full.get(name) : since
    const same = last !== undefined && last !== null && isSameRecord(record, last.record)
    const reading = same ? last : { record, read: readMember(record) }
    if (!same) unchanged = false
    full.set(name, reading)
    return reading.read
  })
  const reduced = unchanged && full.size === records.length ? { view, changes: [] } : reduce(view, read)
  readings.set(reduced.view, { full, since: new Map(), size: records.length })
  return reduced
}

/**
 * The same from the records of these names alone, of which all are given: what is missing has gone. O(names) besides the copy
 * of the list. Pure and total. @returns null when only all records can tell, as with foreign members or a peer under two names
 */
export function patchView(
  view: MembershipView,
  names: ReadonlySet<string>,
  records: readonly unknown[]
): Reduced | null {
  const fresh = new Map<unknown, Reading & { readonly read: { readonly kind: 'member' } }>()
  const arrived = new Set<PeerId>()
  for (const record of records) {
    const read = readMember(record)
    const name = nameOf(record)
    if (read.kind === 'foreign' || !names.has(read.member.name) || arrived.has(read.member.peerId)) return null
    if (fresh.has(name)) return null
    arrived.add(read.member.peerId)
    fresh.set(name, { record, read })
  }
  const known = readings.get(view)
  if (view.foreign.length > 0 || known === undefined) return null
  const changes: MemberChange[] = []
  const since = new Map(known.since)
  let { members } = view
  for (const name of names) {
    const at = placeOf(name, members)
    const [before, next] = members.slice(at, at + 2).filter(member => member.name === name)
    const reading = fresh.get(name)
    const after = reading?.read.member
    if (next !== undefined) return null
    if (after !== undefined && memberOf(view, after.peerId) !== before) return null
    since.set(name, reading ?? null)
    if (before === undefined && after === undefined) continue
    const list = members
    if (before === undefined && after !== undefined) {
      changes.push({ kind: 'appeared', after })
      members = list.toSpliced(at, 0, after)
    } else if (before !== undefined && after === undefined) {
      changes.push({ kind: 'vanished', before })
      members = list.toSpliced(at, 1)
    } else if (before !== undefined && after !== undefined && !same(before, after)) {
      changes.push({ kind: 'changed', before, after })
      members = list.with(at, after)
      const places = positions.get(list)
      if (places !== undefined) positions.set(members, places)
    }
  }
  const patched = changes.length === 0 ? view : { revision: view.revision + 1, members, foreign: [] }
  const grown = changes.reduce((sum, { kind }) => sum + (kind === 'appeared' ? 1 : kind === 'vanished' ? -1 : 0), 0)
  readings.set(patched, { full: known.full, since, size: known.size + grown })
  return { view: patched, changes }
}

/** The first place whose name is not before this one. */
function placeOf(name: string, members: readonly Member[]): number {
  let [low, high] = [0, members.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((members[middle]?.name ?? '') < name) low = middle + 1
    else high = middle
  }
  return low
}

function nameOf(record: unknown): unknown {
  return typeof record === 'object' && record !== null && 'Name' in record ? record.Name : undefined
}

function reduce(view: MembershipView, read: readonly Reading['read'][]): Reduced {
  const foreign = read.flatMap(r => (r.kind === 'foreign' ? [r.foreign] : []))
  const { members, duplicates } = onePerPeer(
    read.flatMap(r => (r.kind === 'member' ? [r.member] : [])),
    view
  )
  const changes = compare(view, members)
  // Serf lists its members in arbitrary order.
  const allForeign = [...foreign, ...duplicates].sort((a, b) => byText(a.name, b.name) || byText(a.reason, b.reason))
  if (changes.length === 0 && same(view.foreign, allForeign)) return { view, changes }
  return { view: { revision: view.revision + 1, members, foreign: allForeign }, changes }
}

/**
 * Keeps one member per peer id: a renamed host leaves its old name behind as failed. The liveliest member wins, then the
 * name that sorts first; the others are reported as foreign.
 */
function onePerPeer(
  all: readonly Member[],
  before: MembershipView
): { members: readonly Member[]; duplicates: readonly Foreign[] } {
  const byPeer = new Map(all.map(member => [member.peerId, member]))
  if (byPeer.size === all.length) return { members: sorted(byPeer, before), duplicates: [] }
  const best = new Map<PeerId, Member>()
  const duplicates: Foreign[] = []
  for (const member of [...all].sort((a, b) => rank(a) - rank(b) || byName(a, b))) {
    const other = best.get(member.peerId)
    if (other === undefined) best.set(member.peerId, member)
    else duplicates.push({ name: member.name, reason: `has the peer id of ${other.name}` })
  }
  return { members: [...best.values()].sort(byName), duplicates }
}

/** By name. Starts from the order of the view before, since sorting a list that is almost sorted is O(n). */
function sorted(members: ReadonlyMap<PeerId, Member>, before: MembershipView): readonly Member[] {
  const kept = before.members.flatMap(({ peerId }) => members.get(peerId) ?? [])
  const added = [...members.values()].filter(({ peerId }) => memberOf(before, peerId) === undefined)
  return [...kept, ...added.sort(byName)].sort(byName)
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

function compare(before: MembershipView, after: readonly Member[]): MemberChange[] {
  const changes: MemberChange[] = []
  let stayed = 0
  for (const member of after) {
    const was = memberOf(before, member.peerId)
    if (was === undefined) changes.push({ kind: 'appeared', after: member })
    else stayed += 1
    if (was !== undefined && !same(was, member)) changes.push({ kind: 'changed', before: was, after: member })
  }
  if (stayed === before.members.length) return changes
  const here = new Set(after.map(({ peerId }) => peerId))
  for (const member of before.members) if (!here.has(member.peerId)) changes.push({ kind: 'vanished', before: member })
  return changes
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b)
}
