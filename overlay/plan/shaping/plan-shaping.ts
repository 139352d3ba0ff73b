// Shaping of one endpoint: desired against observed gives the changes of its queues. Into the container: a queue on the
// host's end of the veth. Out of it: what that end receives is redirected to an IFB device, whose queue it passes before
// it goes on to the bridge. Pure.

import type { Shaping } from '#model/endpoint.ts'
import type { QdiscInfo } from '../../netlink/tc-info.ts'
import { handleOf, type QdiscSpec } from '../../netlink/tc.ts'
import { TC_H_ROOT } from '../../netlink/tc-constants.ts'
import { packetRate, queueFor, type Chain, type ShapingSupport } from './queue.ts'

/** "vx": the priority of our filter, and the first of the handles by which our qdiscs are known. */
export const OUR_PRIORITY = 0x7678

/** One handle a kind: the kernel changes no qdisc into another kind under the same handle. */
const HANDLES = {
  tbf: handleOf(0x7678),
  netem: handleOf(0x7679),
  fq_codel: handleOf(0x767a),
  bfifo: handleOf(0x767b)
} as const satisfies Record<QdiscSpec['kind'], number>

/** The queue of one device: our qdiscs from the root down, as far as they can be read. */
export type ObservedQueue = readonly QdiscInfo[]

/** Where our filter sends what the veth receives: an ifindex, nowhere because there is none, or something odd. */
export type ObservedRedirect = number | 'none' | 'odd'

/** The two devices of an endpoint. */
export type ObservedEndpointShaping = {
  readonly into: ObservedQueue
  readonly redirect: ObservedRedirect
  /** Null: there is no IFB device. */
  readonly ifb: { readonly ifindex: number; readonly out: ObservedQueue } | null
}

export type Side = 'veth' | 'ifb'

export type ShapingChange =
  /** Makes the IFB device, and sets it up. */
  | { readonly kind: 'ifb-create' }
  /** `replace` loses what waits in the old one, `change` nothing. */
  | {
      readonly kind: 'queue-replace' | 'queue-change'
      readonly side: Side
      readonly parent: number
      readonly handle: number
      readonly spec: QdiscSpec
    }
  | { readonly kind: 'queue-delete'; readonly side: Side; readonly parent: number; readonly handle: number }
  | { readonly kind: 'redirect-set'; readonly replace: boolean }
  | { readonly kind: 'redirect-delete' }

export type ShapingPlan = {
  readonly changes: readonly ShapingChange[]
  /** Is an IFB device needed afterwards? */
  readonly ifb: boolean
}

/** The changes that make an endpoint's shaping as desired; none when it is. A queue is there before traffic reaches it. */
export function planShaping(p: {
  readonly want: Shaping
  readonly mtu: number
  readonly support: ShapingSupport
  readonly observed: ObservedEndpointShaping
}): ShapingPlan {
  const { observed, mtu, support } = p
  const { ingressRate, egressRate, delayUs } = p.want
  const into = queueFor({ rate: ingressRate, delayUs, mtu, support })
  const out = queueFor({ rate: egressRate, delayUs, mtu, support })
  const changes = [...planQueue('veth', into, observed.into)]
  if (out.length > 0) {
    if (observed.ifb === null) changes.push({ kind: 'ifb-create' })
    changes.push(...planQueue('ifb', out, observed.ifb?.out ?? []))
    if (observed.redirect !== observed.ifb?.ifindex) {
      changes.push({ kind: 'redirect-set', replace: observed.redirect !== 'none' })
    }
  } else if (observed.redirect !== 'none') {
    changes.push({ kind: 'redirect-delete' })
  }
  return { changes, ifb: out.length > 0 }
}

/** What the kernel enforces now. A rate that differs from the asked one by no more than rounding is the asked one. */
export function installedShaping(p: {
  readonly observed: ObservedEndpointShaping
  readonly mtu: number
  readonly asked: Shaping
}): Shaping {
  const { observed, mtu, asked } = p
  const out = observed.ifb !== null && observed.redirect === observed.ifb.ifindex ? observed.ifb.out : []
  const near = (rate: number, want: number): number => (Math.abs(rate - want) <= 8 ? want : rate)
  return {
    ingressRate: near(rateOf(observed.into, mtu), asked.ingressRate),
    egressRate: near(rateOf(out, mtu), asked.egressRate),
    delayUs: Math.min(delayOf(observed.into), delayOf(out))
  }
}

/** Of all qdiscs of one device our own from the root down; a root that is not ours hides whatever is below. */
export function ourQueue(qdiscs: readonly QdiscInfo[]): ObservedQueue {
  const chain: QdiscInfo[] = []
  let parent = TC_H_ROOT
  // Each level takes another kind's handle, so there are no more levels than kinds.
  while (chain.length < Object.keys(HANDLES).length) {
    const next = qdiscs.find(qdisc => qdisc.parent === parent && isOurs(qdisc))
    if (next === undefined) break
    chain.push(next)
    parent = childPlace(next.handle)
  }
  return chain
}

/** The place of a qdisc's only child: class 1. */
export function childPlace(handle: number): number {
  return (handle | 1) >>> 0
}

function isOurs({ kind, handle }: QdiscInfo): boolean {
  return Object.entries(HANDLES).some(([name, ours]) => name === kind && ours === handle)
}

function planQueue(side: Side, want: Chain, have: ObservedQueue): readonly ShapingChange[] {
  const changes: ShapingChange[] = []
  let parent = TC_H_ROOT
  let replacing = false
  let blocked = false
  for (const [level, spec] of want.entries()) {
    const handle = HANDLES[spec.kind]
    const found: QdiscInfo | undefined = replacing ? undefined : have[level]
    if (!replacing && (found?.handle !== handle || !canChange(found, spec))) {
      replacing = true
      changes.push(...vacate(side, { below: have.slice(level), handle }))
    }
    if (replacing) changes.push({ kind: 'queue-replace', side, parent, handle, spec })
    else if (blocked) changes.push(...anew({ side, parent, handle, spec }))
    else if (!isSame(spec, found?.spec ?? null)) changes.push({ kind: 'queue-change', side, parent, handle, spec })
    blocked = mayBlock(spec, found?.spec ?? null)
    parent = childPlace(handle)
  }
  const surplus = replacing ? undefined : have[want.length]
  if (surplus !== undefined) changes.push({ kind: 'queue-delete', side, parent, handle: surplus.handle })
  return changes
}

/** The kernel moves no qdisc: what has the handle further down goes first, and what is above it goes on without it. */
function vacate(side: Side, { below, handle }: { below: ObservedQueue; handle: number }): readonly ShapingChange[] {
  const above = below[below.findIndex(qdisc => qdisc.handle === handle) - 1]
  return above === undefined ? [] : [{ kind: 'queue-delete', side, parent: childPlace(above.handle), handle }]
}

/** A GSO packet that waits already would never pass a burst that has become smaller than itself. */
function mayBlock(want: QdiscSpec, have: QdiscSpec | null): boolean {
  return (
    want.kind === 'tbf' &&
    have?.kind === 'tbf' &&
    want.burst < GSO_BYTES_MAX &&
    !isSame(want, have) &&
    want.burst < have.burst
  )
}

/** Deleted first: under its own handle a qdisc is only changed. */
function anew(place: {
  readonly side: Side
  readonly parent: number
  readonly handle: number
  readonly spec: QdiscSpec
}): readonly ShapingChange[] {
  const { side, parent, handle, spec } = place
  return [
    { kind: 'queue-delete', side, parent, handle },
    { kind: 'queue-replace', side, parent, handle, spec }
  ]
}

/** The number of flow queues is fixed when they are made. */
function canChange(found: QdiscInfo, spec: QdiscSpec): boolean {
  return spec.kind !== 'fq_codel' || (found.spec?.kind === 'fq_codel' && found.spec.flows === spec.flows)
}

/** The kernel keeps times in ticks of 64 ns or of 1.024 us, and a burst as a time: what comes back is a little less. */
function isSame(want: QdiscSpec, have: QdiscSpec | null): boolean {
  if (have === null) return false
  return Object.entries(want).every(([name, value]) => {
    const other = (have as Readonly<Record<string, unknown>>)[name]
    if (typeof value !== 'number' || typeof other !== 'number') return value === other
    return ROUNDED.includes(name) ? Math.abs(value - other) <= 3 + value * 0.001 : value === other
  })
}

/** The largest packet that a container sends at once: 64 KiB and its headers. */
const GSO_BYTES_MAX = 66_000

const ROUNDED: readonly string[] = ['burst', 'targetUs', 'intervalUs']

function rateOf(queue: ObservedQueue, mtu: number): number {
  for (const { spec } of queue) if (spec?.kind === 'tbf') return packetRate(spec, mtu)
  return 0
}

function delayOf(queue: ObservedQueue): number {
  for (const { spec } of queue) if (spec?.kind === 'netem') return spec.delayUs
  return 0
}
