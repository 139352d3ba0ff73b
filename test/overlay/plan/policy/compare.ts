// The compiled form against what the policies mean, for generated networks and packets. Loaded anew with each mutant.

import fc from 'fast-check'
import { compile } from '#overlay/plan/policy/compile.ts'
import { PolicyTables, type Packet } from '#overlay/plan/policy/evaluate.ts'
import { network, packets } from './arbitraries.ts'
import { mayEnter, mayLeave, type Network } from './reference.ts'

export type Comparison = {
  readonly packets: number
  /** How many of them were denied by an endpoint's policies. */
  readonly denied: number
  /** The first one. */
  readonly difference: { readonly network: Network; readonly packet: Packet; readonly what: string } | null
}

/** Networks generated in one go. */
const CHUNK = 40

/** @param runs how many networks, each with so many packets. Ends at the first difference */
export function compare(p: { readonly seed: number; readonly runs: number; readonly packetsEach: number }): Comparison {
  const counts = { packets: 0, denied: 0 }
  const each = network.chain(one => packets(one, p.packetsEach).map(all => ({ one, all })))
  for (let run = 0; run < p.runs; run += CHUNK) {
    for (const { one, all } of fc.sample(each, { seed: p.seed + run, numRuns: Math.min(CHUNK, p.runs - run) })) {
      const difference = firstDifference(one, all, counts)
      if (difference !== null) return { ...counts, difference }
    }
  }
  return { ...counts, difference: null }
}

function firstDifference(
  one: Network,
  all: readonly Packet[],
  counts: { packets: number; denied: number }
): Comparison['difference'] {
  const tables = new PolicyTables(compile({ ...one, isSubject: () => true }))
  for (const packet of all) {
    counts.packets++
    const { egress, ingress } = tables.judge(packet)
    if (!egress.allowed || !ingress.allowed) counts.denied++
    const wrong = [
      ...(egress.allowed === mayLeave(one, packet) ? [] : ['egress']),
      ...(ingress.allowed === mayEnter(one, packet) ? [] : ['ingress'])
    ]
    if (wrong.length > 0) return { network: one, packet, what: wrong.join(' and ') }
  }
  return null
}
