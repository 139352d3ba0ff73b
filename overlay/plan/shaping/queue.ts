// The queue for a rate and a delay: a chain of qdiscs from the root down (docs/adr/0015). Pure.

import type { FifoSpec, FqCodelSpec, NetemSpec, QdiscSpec, TbfSpec } from '../../netlink/tc.ts'

/** What this kernel supports; probed, never assumed. */
export type ShapingSupport = {
  /** tbf, IFB devices, u32 filters and redirection. */
  readonly rate: boolean
  readonly fqCodel: boolean
  readonly delay: boolean
}

export type QueueRequest = {
  /** bits/s; 0 is unlimited. */
  readonly rate: number
  readonly delayUs: number
  readonly mtu: number
  readonly support: ShapingSupport
}

/** Root first; each qdisc is the only child of the previous one. Empty: no shaping. */
export type Chain = readonly QdiscSpec[]

const ETHERNET_HEADER_BYTES = 14

/** The burst covers late timers, and exceeds the rate by at most 1 % in the first second. */
const BURST_SECONDS = 0.01
/** At low rates a burst of two frames: one is sent while tokens accumulate for the next. */
const BURST_FRAMES_MIN = 2
const BURST_BYTES_MAX = 64 * 1024 * 1024

/**
 * How long a full queue takes to drain. A longer queue adds latency for every flow and longer gaps in a TCP stream once it
 * overflows; a shorter one starves senders that are scheduled late.
 */
const QUEUE_SECONDS = 0.025
/** Room for an initial TCP window of ten segments. */
const QUEUE_FRAMES_MIN = 12
const QUEUE_BYTES_MAX = 256 * 1024 * 1024

/** RFC 8289 section 4.2; at low rates a target of one and a half frames, as RFC 8290 section 5.2.6 advises. */
const CODEL_TARGET_US = 5_000
const CODEL_INTERVAL_US = 100_000
const CODEL_TARGET_FRAMES = 1.5
/** Flow queues of 64 bytes each, twice an endpoint. The kernel's default of 1,024 would take 700 MB at 5,000 endpoints. */
const CODEL_FLOWS = 128
const CODEL_PACKETS = 10_240

/** Capacity of a delay line: small packets at the endpoint's rate, or at 10 Gbit/s when it is unlimited. */
const DELAY_PACKET_BYTES = 256
const DELAY_RATE = 10e9
const DELAY_PACKETS_MIN = 1_000
const DELAY_PACKETS_MAX = 100_000

export function queueFor(request: QueueRequest): Chain {
  const { rate, delayUs, support } = request
  const delay = delayUs > 0 && support.delay ? [delayLine(rate, delayUs)] : []
  return rate > 0 && support.rate ? [...delay, tokenBucket(request), leafQueue(request)] : delay
}

/** Converts a rate in bits/s of full-sized IP packets, as users configure it (ADR 15), to bits/s of Ethernet frames. */
export function frameRate(rate: number, mtu: number): number {
  return Math.round((rate * frameBytes(mtu)) / mtu / 8) * 8
}

/** The inverse of `frameRate`: the rate of IP packets that a token bucket enforces. */
export function packetRate(bucket: TbfSpec, mtu: number): number {
  return Math.round((bucket.rate * mtu) / frameBytes(mtu))
}

function tokenBucket({ rate, mtu }: QueueRequest): TbfSpec {
  const burst = clamp((rate / 8) * BURST_SECONDS, BURST_FRAMES_MIN * frameBytes(mtu), BURST_BYTES_MAX)
  return { kind: 'tbf', rate: frameRate(rate, mtu), burst, limit: queueBytes(rate, mtu) }
}

function leafQueue({ rate, mtu, support }: QueueRequest): FifoSpec | FqCodelSpec {
  if (!support.fqCodel) return { kind: 'bfifo', limit: queueBytes(rate, mtu) }
  const frameUs = (frameBytes(mtu) * 8e6) / rate
  const targetUs = Math.max(CODEL_TARGET_US, Math.round(frameUs * CODEL_TARGET_FRAMES))
  const intervalUs = Math.max(CODEL_INTERVAL_US, targetUs * 2)
  return { kind: 'fq_codel', targetUs, intervalUs, limit: CODEL_PACKETS, flows: CODEL_FLOWS }
}

function delayLine(rate: number, delayUs: number): NetemSpec {
  const packets = ((rate === 0 ? DELAY_RATE : rate) * delayUs) / 8e6 / DELAY_PACKET_BYTES
  return { kind: 'netem', delayUs, limit: clamp(packets, DELAY_PACKETS_MIN, DELAY_PACKETS_MAX) }
}

function queueBytes(rate: number, mtu: number): number {
  return clamp((rate / 8) * QUEUE_SECONDS, QUEUE_FRAMES_MIN * frameBytes(mtu), QUEUE_BYTES_MAX)
}

function frameBytes(mtu: number): number {
  return mtu + ETHERNET_HEADER_BYTES
}

function clamp(value: number, min: number, max: number): number {
  return Math.round(Math.min(Math.max(value, min), max))
}
