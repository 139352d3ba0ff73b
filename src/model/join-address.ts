// The address of another host's Serf agent, as `serf join` takes it: an IP address, and a port if it is not the usual one.

import { isIpv4, type Ip } from './ip.ts'
import { bracketed, formatSocketAddress, parsePortless } from './socket-address.ts'

/** Returns IPv4 unchanged, and IPv6 as Serf takes it: in brackets. @throws ERR_INVALID naming the field */
export function parseJoinAddress(text: string, field = 'join'): string {
  const { address, port } = parsePortless(text, field)
  if (isIpv4(address)) return text
  return port === null ? bracketed(address) : formatSocketAddress({ address, port })
}

/** The host's part of a join address. @throws ERR_INVALID */
export function joinIp(text: string): Ip {
  return parsePortless(text, 'join').address
}
