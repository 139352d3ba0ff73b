// An IP address with a port, as text: 192.0.2.1:7946 or [fd00::1]:7946 (RFC 3986 section 3.2.2).

import { invalid } from './errors.ts'
import { quote } from './ids.ts'
import { formatIp, isIpv4, parseIp, type Ip } from './ip.ts'

export type SocketAddress = { readonly address: Ip; readonly port: number }

/** An address, and the port if one follows it. An IPv6 address with a port is in brackets. */
const PARTS = /^(?:\[([^[\]]*)\]|([^:[\]]*))(?::([^:]*))?$/

/** @throws ERR_INVALID naming the field */
export function parseSocketAddress(text: string, field: string): SocketAddress {
  const { address, port } = split(text, field)
  if (port !== null && isPort(port)) return { address, port: Number(port) }
  throw invalid(field, `must be ADDRESS:PORT, got ${quote(text)}`)
}

/** The same where the port may be missing: then an IPv6 address needs no brackets. @throws ERR_INVALID naming the field */
export function parsePortless(text: string, field: string): { readonly address: Ip; readonly port: number | null } {
  const { address, port } = split(text, field)
  if (port === null) return { address, port }
  if (isPort(port)) return { address, port: Number(port) }
  throw invalid(field, `must be ADDRESS or ADDRESS:PORT, got ${quote(text)}`)
}

function split(text: string, field: string): { readonly address: Ip; readonly port: string | null } {
  const [, inBrackets, plain = text, port = null] = PARTS.exec(text) ?? []
  const address = parseIp(inBrackets ?? plain, field)
  if (inBrackets !== undefined && isIpv4(address)) throw invalid(field, `only IPv6 has brackets, got ${quote(text)}`)
  return { address, port }
}

export function formatSocketAddress({ address, port }: SocketAddress): string {
  return `${bracketed(address)}:${port}`
}

/** As it stands before a port. */
export function bracketed(address: Ip): string {
  return isIpv4(address) ? formatIp(address) : `[${address}]`
}

/** Whether the text is a port number, 1 to 65,535, without leading zeros. */
export function isPort(text: string): boolean {
  return /^[1-9][0-9]{0,4}$/.test(text) && Number(text) <= 65_535
}
