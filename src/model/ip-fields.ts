// Reads addresses from a value that came from outside: an IPv4 address as a number, an IPv6 one as text. Each function throws
// ERR_INVALID naming the field.

import { invalid } from './errors.ts'
import { text, wholeNumber, type Fields } from './fields.ts'
import type { Ip } from './ip.ts'
import type { Ipv4 } from './ipv4.ts'
import { parseIpv6, type Ipv6 } from './ipv6.ts'

export function ip(f: Fields, key: string): Ip {
  return typeof f[key] === 'string' ? ipv6(f, key) : ipv4(f, key)
}

/** In canonical form, so that equal rows have equal hashes. */
export function ipv6(f: Fields, key: string): Ipv6 {
  return parseIpv6(text(f, key), key)
}

function ipv4(f: Fields, key: string): Ip {
  const n = wholeNumber(f, key)
  if (n > 0xffffffff) throw invalid(key, 'must be an IPv4 address, a 32-bit number')
  return n as Ipv4
}
