// Codec of link counters (if_stats_msg): a dump of counters is a tenth of the size of a dump of links. Pure.

import { attributesOf, viewOf, Writer, type Message } from './bytes.ts'
import { decodeCounters, type LinkCounters } from './link-info.ts'

export const RTM_NEWSTATS = 92
const RTM_GETSTATS = 94
const IFLA_STATS_LINK_64 = 1
const HEADER_BYTES = 12

/** Dump request for the counters of all links. */
export function getStats(): Message {
  // struct if_stats_msg: family, padding, ifindex, mask of requested attributes.
  return new Writer()
    .u32(0)
    .u32(0)
    .u32(1 << (IFLA_STATS_LINK_64 - 1))
    .message(RTM_GETSTATS, 0)
}

export type StatsInfo = { readonly ifindex: number; readonly counters: LinkCounters }

/** Decodes the payload of an RTM_NEWSTATS; null when it holds no counters. */
export function decodeStats(payload: Uint8Array): StatsInfo | null {
  if (payload.length < HEADER_BYTES) return null
  const value = attributesOf(payload, HEADER_BYTES).get(IFLA_STATS_LINK_64)
  const counters = value === undefined ? null : decodeCounters(value)
  return counters === null ? null : { ifindex: viewOf(payload).getInt32(4, true), counters }
}
