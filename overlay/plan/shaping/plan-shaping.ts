// Plans the shaping of one endpoint: diffs desired against observed queues. Traffic to the container passes a queue on the
// host's end of the veth. Traffic from it is redirected to an IFB device on arrival and passes that device's queue before
// it reaches the bridge. Pure.

import type { Shaping } from '#model/endpoint.ts'
import type { QdiscInfo } from '../../netlink/tc-info.ts'
import { handleOf, type QdiscSpec } from '../../netlink/tc.ts'
import { TC_H_ROOT } from '../../netlink/tc-constants.ts'
import { packetRate, queueFor, type Chain, type ShapingSupport } from './queue.ts'

/** "vx": the priority of our filter, and the first of the handles that identify our qdiscs. */
export const OUR_PRIORITY = 0x7678

/** One handle a kind: the kernel cannot change the kind of a qdisc under the same handle. */
const HANDLES = {
  tbf: handleOf(0x7678),
  netem: handleOf(0x7679),
  fq_codel: handleOf(0x767a),
  bfifo: handleOf(0x767b)
} as const satisfies Record<QdiscSpec['kind'], number>

/** The queue of one device: our qdiscs from the root down. */
export type ObservedQueue = readonly QdiscInfo[]

/** The target of our redirect filter: an ifindex, none because there is no filter, or odd because it is not as we make it. */
export type ObservedRedirect = number | 'none' | 'odd'

/** The two devices of an endpoint. */
export type ObservedEndpointShaping = {
  readonly into: ObservedQueue
  readonly redirect: ObservedRedirect
  /** Null: the IFB device does not exist. */
  readonly ifb: { readonly ifindex: number; readonly out: ObservedQueue } | null
}

export type Side = 'veth' | 'ifb'

/** A change of one device's queue. `replace` drops the packets queued in the old qdisc, `change` keeps them. */
export type QueueChange = { readonly side: Side; readonly parent: number; readonly handle: number } & (
  { readonly kind: 'queue-replace' | 'queue-change'; readonly spec: QdiscSpec } | { readonly kind: 'queue-delete' }
)

export type ShapingChange =
  /** Creates the IFB device and brings it up. */
  | { readonly kind: 'ifb-create' }
  | QueueChange
  | { readonly kind: 'redirect-set'; readonly replace: boolean }
  | { readonly kind: 'redirect-delete' }

export type ShapingPlan = {
  readonly changes: readonly ShapingChange[]
  /** Is the IFB device needed after the changes? */
  readonly ifb: boolean
}

/** The changes that bring an endpoint's shaping into the desired state. A queue is set up before traffic is redirected to it. */
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
  const changes: ShapingChange[] = [...planQueue('veth', into, observed.into)]
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

/** What the kernel enforces now. A rate within rounding error of the requested one is reported as the requested one. */
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

/** Selects our qdiscs of one device, from the root down. A foreign qdisc hides whatever is below it. */
export function ourQueue(qdiscs: readonly QdiscInfo[]): ObservedQueue {
  const chain: QdiscInfo[] = []
  let parent = TC_H_ROOT
  // Each level has a different kind's handle, so there are at most as many levels as kinds.
  while (chain.length < Object.keys(HANDLES).length) {
    const next = qdiscs.find(qdisc => qdisc.parent === parent && isOurs(qdisc))
    if (next === undefined) break
    chain.push(next)
    parent = childParent(next.handle)
  }
  return chain
}

/** The parent handle of a qdisc's only child: class 1. */
export function childParent(handle: number): number {
  return (handle | 1) >>> 0
}

function isOurs({ kind, handle }: QdiscInfo): boolean {
  return Object.entries(HANDLES).some(([name, ours]) => name === kind && ours === handle)
}

/** The changes that bring one device's queue into the desired state. */
export function planQueue(side: Side, want: Chain, have: ObservedQueue): readonly QueueChange[] {
  const changes: QueueChange[] = []
  let parent = TC_H_ROOT
  let replacing = false
  let blocked = false
  for (const [level, spec] of want.entries()) {
    const handle = HANDLES[spec.kind]
    const found: QdiscInfo | undefined = replacing ? undefined : have[level]
    if (!replacing && (found?.handle !== handle || !canChange(found, spec))) {
      replacing = true
      changes.push(...freeHandle(side, { below: have.slice(level), handle }))
    }
    if (replacing) changes.push({ kind: 'queue-replace', side, parent, handle, spec })
    else if (blocked) changes.push(...recreate({ side, parent, handle, spec }))
    else if (!isSame(spec, found?.spec ?? null)) changes.push({ kind: 'queue-change', side, parent, handle, spec })
    blocked = mayBlock(spec, found?.spec ?? null)
    parent = childParent(handle)
  }
  const surplus = replacing ? undefined : have[want.length]
  if (surplus !== undefined) changes.push({ kind: 'queue-delete', side, parent, handle: surplus.handle })
  return changes
}

/** The kernel cannot move a qdisc: one that has the handle further down is deleted first. */
function freeHandle(side: Side, { below, handle }: { below: ObservedQueue; handle: number }): readonly QueueChange[] {
  const above = below[below.findIndex(qdisc => qdisc.handle === handle) - 1]
  return above === undefined ? [] : [{ kind: 'queue-delete', side, parent: childParent(above.handle), handle }]
}

/** A queued GSO packet larger than the new burst would block the queue for ever. */
function mayBlock(want: QdiscSpec, have: QdiscSpec | null): boolean {
  return (
    want.kind === 'tbf' &&
    have?.kind === 'tbf' &&
    want.burst < GSO_BYTES_MAX &&
    !isSame(want, have) &&
    want.burst < have.burst
  )
}

/** Deletes it first: the kernel treats a replacement under the same handle as a change. */
function recreate(qdisc: {
  readonly side: Side
  readonly parent: number
  readonly handle: number
  readonly spec: QdiscSpec
}): readonly QueueChange[] {
  const { side, parent, handle, spec } = qdisc
  return [
    { kind: 'queue-delete', side, parent, handle },
    { kind: 'queue-replace', side, parent, handle, spec }
  ]
}

/** The number of flow queues is fixed at creation. */
function canChange(found: QdiscInfo, spec: QdiscSpec): boolean {
  return spec.kind !== 'fq_codel' || (found.spec?.kind === 'fq_codel' && found.spec.flows === spec.flows)
}

/** The kernel stores times in ticks of 64 ns or 1.024 us, and a burst as a time: it reports slightly smaller values. */
function isSame(want: QdiscSpec, have: QdiscSpec | null): boolean {
  if (have === null) return false
  return Object.entries(want).every(([name, value]) => {
    const other = (have as Readonly<Record<string, unknown>>)[name]
    if (typeof value !== 'number' || typeof other !== 'number') return value === other
    return ROUNDED.includes(name) ? Math.abs(value - other) <= 3 + value * 0.001 : value === other
  })
}

/** The largest packet that a container can send: 64 KiB and its headers. */
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
