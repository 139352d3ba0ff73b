// The verdicts of one ruleset in one direction, for identities and for blocks: what each of them is judged by, port by port. Pure.

import { isLabelPeer, POLICY_PROTOCOLS, type PolicyProtocol, type PolicyRule, type PortRange } from '#model/policy.ts'
import { formatPeer } from '#model/policy-text.ts'
import { NO_RANK, NO_RULE, STRANGER, type Block, type Identity, type Verdict } from './compiled.ts'
import type { PeerSet } from './identities.ts'
import { piecesOf, prefixesOf, type Interval, type PortPrefix } from './port-pieces.ts'

/** A rule, ready to be compared. */
export type Judge = {
  /** Of those of the same rank the first decides, so that explanations are the same everywhere. */
  readonly at: number
  readonly isForAnyone: boolean
  /** Of its peers. */
  readonly selectors: readonly string[]
  readonly cidrs: readonly string[]
  readonly ports: readonly PortRange[]
  readonly verdict: Verdict
}

export type JudgedPorts = { readonly protocol: PolicyProtocol | null } & PortPrefix & Verdict

export function judgeOf({ action, priority, peers, ports }: PolicyRule, p: { at: number; reason: number }): Judge {
  const allowed = action === 'allow'
  // A deny comes before an allow of the same priority.
  const rank = priority * 2 + (allowed ? 0 : 1)
  return {
    at: p.at,
    isForAnyone: peers.length === 0,
    selectors: peers.filter(isLabelPeer).map(formatPeer),
    cidrs: peers.filter(peer => !isLabelPeer(peer)).map(formatPeer),
    ports,
    verdict: { allowed, rank, reason: p.reason }
  }
}

/** By selectors and by rules for anyone. None for an identity that is judged as a STRANGER is. */
export function identityVerdicts(
  judges: readonly Judge[],
  p: { readonly isClosed: boolean; readonly identities: ReadonlyMap<Identity, PeerSet> }
): ReadonlyMap<Identity, readonly JudgedPorts[]> {
  const fallback: Verdict = { allowed: !p.isClosed, rank: NO_RANK, reason: NO_RULE }
  const judged = new Map<Identity, readonly JudgedPorts[]>()
  const forAnyone = judges.filter(({ isForAnyone }) => isForAnyone)
  const bySelector = byText(judges, ({ selectors }) => selectors)
  for (const [identity, met] of p.identities) {
    const own = thoseOf(bySelector, met)
    if (identity !== STRANGER && own.length === 0) continue
    judged.set(identity, judgedPorts([...forAnyone, ...own], fallback))
  }
  return judged
}

/** By CIDRs alone. */
export function blockVerdicts(
  judges: readonly Judge[],
  blocks: ReadonlyMap<Block, PeerSet>
): ReadonlyMap<Block, readonly JudgedPorts[]> {
  const byCidr = byText(judges, ({ cidrs }) => cidrs)
  return new Map([...blocks].map(([block, inside]) => [block, judgedPorts(thoseOf(byCidr, inside), null)]))
}

/** There may be thousands of each. */
function byText(
  judges: readonly Judge[],
  textsOf: (judge: Judge) => readonly string[]
): ReadonlyMap<string, readonly Judge[]> {
  const found = new Map<string, Judge[]>()
  for (const judge of judges)
    for (const text of textsOf(judge)) {
      const some = found.get(text) ?? []
      found.set(text, some)
      some.push(judge)
    }
  return found
}

function thoseOf(known: ReadonlyMap<string, readonly Judge[]>, texts: PeerSet): readonly Judge[] {
  return [...new Set([...texts].flatMap(text => known.get(text) ?? []))]
}

/** Prefixes that do not differ from the shorter one around them are left out. @param fallback where no rule holds; null: nothing */
function judgedPorts(judges: readonly Judge[], fallback: Verdict | null): readonly JudgedPorts[] {
  const forAll = highest(judges.filter(({ ports }) => ports.length === 0)) ?? fallback
  const judged: JudgedPorts[] = forAll === null ? [] : [{ protocol: null, port: 0, portBits: 0, ...forAll }]
  for (const protocol of POLICY_PROTOCOLS) {
    const ranges = judges.flatMap(({ ports }) => ports.filter(range => range.protocol === protocol))
    if (ranges.length === 0) continue
    const pieces = piecesOf(ranges).map(piece => {
      const holding = judges.filter(
        ({ ports }) => ports.length === 0 || ports.some(range => holds(range, protocol, piece.first))
      )
      return { ...piece, verdict: highest(holding) ?? fallback }
    })
    for (const { verdict, ...interval } of merged(pieces)) {
      if (verdict === null || isSame(verdict, forAll)) continue
      judged.push(...prefixesOf(interval).map(prefix => ({ protocol, ...prefix, ...verdict })))
    }
  }
  return judged
}

function holds(range: PortRange, protocol: PolicyProtocol, port: number): boolean {
  return range.protocol === protocol && range.first <= port && port <= range.last
}

function highest(judges: readonly Judge[]): Verdict | null {
  let found: Judge | null = null
  for (const judge of judges) if (found === null || isBefore(judge, found)) found = judge
  return found?.verdict ?? null
}

function isBefore(a: Judge, b: Judge): boolean {
  return a.verdict.rank === b.verdict.rank ? a.at < b.at : a.verdict.rank > b.verdict.rank
}

type Piece = Interval & { readonly verdict: Verdict | null }

function merged(pieces: readonly Piece[]): readonly Piece[] {
  const result: Piece[] = []
  for (const piece of pieces) {
    const before = result.at(-1)
    if (before !== undefined && isSame(before.verdict, piece.verdict))
      result.splice(-1, 1, { ...piece, first: before.first })
    else result.push(piece)
  }
  return result
}

/** A rule has one verdict; without one, all are the same. */
function isSame(a: Verdict | null, b: Verdict | null): boolean {
  return a?.reason === b?.reason
}
