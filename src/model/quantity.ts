// Rates and delays, written as tc(8) writes them and held in bits/s and microseconds; and MTUs.

import { invalid } from './errors.ts'
import { quote } from './ids.ts'

const RATE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  bit: 1,
  kbit: 1e3,
  mbit: 1e6,
  gbit: 1e9,
  tbit: 1e12,
  kibit: 1024,
  mibit: 1024 ** 2,
  gibit: 1024 ** 3,
  tibit: 1024 ** 4,
  bps: 8,
  kbps: 8e3,
  mbps: 8e6,
  gbps: 8e9,
  tbps: 8e12
}

const DELAY_UNITS: Readonly<Record<string, number>> = { '': 1, us: 1, usec: 1, ms: 1e3, msec: 1e3, s: 1e6, sec: 1e6 }

/** The highest rate: 1 Tbit/s. */
export const RATE_MAX = 1e12
/** The lowest limit: 8 kbit/s, about one small packet a second. */
export const RATE_MIN = 8e3
/** The longest delay: 60 s. */
export const DELAY_MAX_US = 60e6
/** Bounds of an MTU: RFC 791's minimum, and a jumbo frame of 65,535 less the VXLAN encapsulation. */
export const MTU_MIN = 576
export const MTU_MAX = 65_485
/** A link of IPv6 has this MTU at least (RFC 8200 section 5). */
export const MTU_MIN_IPV6 = 1_280

/** A rate in bits/s; `0` and `none` mean unlimited. A number without a unit is bits/s. @throws ERR_INVALID naming the field */
export function parseRate(text: string, field: string): number {
  if (text.toLowerCase() === 'none') return 0
  const value = parseQuantity({ text, field, units: RATE_UNITS, example: '10mbit' })
  return checkRate(value, field)
}

/** Checks a rate in bits/s. @throws ERR_INVALID naming the field */
export function checkRate(bitsPerSecond: number, field: string): number {
  if (bitsPerSecond === 0) return 0
  if (!Number.isInteger(bitsPerSecond) || bitsPerSecond < RATE_MIN || bitsPerSecond > RATE_MAX) {
    throw invalid(field, 'must be 0 (unlimited) or from 8kbit to 1tbit, in whole bits/s')
  }
  return bitsPerSecond
}

/** A delay in microseconds; `none` is 0. A number without a unit is microseconds. @throws ERR_INVALID naming the field */
export function parseDelay(text: string, field: string): number {
  if (text.toLowerCase() === 'none') return 0
  const value = parseQuantity({ text, field, units: DELAY_UNITS, example: '10ms' })
  return checkDelay(value, field)
}

/** Checks a delay in microseconds. @throws ERR_INVALID naming the field */
export function checkDelay(us: number, field: string): number {
  if (!Number.isInteger(us) || us < 0 || us > DELAY_MAX_US) {
    throw invalid(field, 'must be from 0 to 60s, in whole microseconds')
  }
  return us
}

/** An MTU in bytes, 0 for the underlay's. @throws ERR_INVALID naming the field */
export function checkMtu(bytes: number, field: string): number {
  if (bytes !== 0 && (bytes < MTU_MIN || bytes > MTU_MAX)) {
    throw invalid(field, `must be 0 (auto) or ${MTU_MIN} to ${MTU_MAX}`)
  }
  return bytes
}

/** Bits/s in the largest unit that divides it: 10000000 is `10mbit`; 0 is `unlimited`. */
export function formatRate(bitsPerSecond: number): string {
  if (bitsPerSecond === 0) return 'unlimited'
  for (const unit of ['tbit', 'gbit', 'mbit', 'kbit']) {
    const factor = RATE_UNITS[unit] ?? 1
    if (bitsPerSecond % factor === 0) return `${bitsPerSecond / factor}${unit}`
  }
  return `${bitsPerSecond}bit`
}

function parseQuantity(p: {
  text: string
  field: string
  units: Readonly<Record<string, number>>
  example: string
}): number {
  const match = /^([0-9]{1,15}(?:\.[0-9]{1,6})?)([a-zA-Z]*)$/.exec(p.text)
  const unit = match?.[2]?.toLowerCase() ?? ''
  const factor = match !== null && Object.hasOwn(p.units, unit) ? p.units[unit] : undefined
  if (match === null || factor === undefined) {
    throw invalid(p.field, `must be a number with a unit like ${p.example}, got ${quote(p.text)}`)
  }
  const exact = Number(match[1]) * factor
  const rounded = Math.round(exact)
  // A tiny limit must not round to 0, which means unlimited.
  if (rounded === 0 && exact > 0) throw invalid(p.field, `is too small, got ${quote(p.text)}`)
  return rounded
}
