// The address of another host's Serf agent: `address` or `address:port`, as `serf join` takes it.

import { invalid } from './errors.ts'
import { quote } from './ids.ts'
import { parseIp, type Ip } from './ip.ts'

/** Returns the text unchanged. @throws ERR_INVALID naming the field */
export function parseJoinAddress(text: string, field = 'join'): string {
  const [address = '', port, ...rest] = text.split(':')
  if (rest.length > 0 || (port !== undefined && !isPort(port))) {
    throw invalid(field, `must be ADDRESS or ADDRESS:PORT, got ${quote(text)}`)
  }
  parseIp(address, field)
  return text
}

/** The host's part of a join address. @throws ERR_INVALID */
export function joinIp(text: string): Ip {
  return parseIp(text.split(':')[0] ?? '', 'join')
}

/** Whether the text is a port number, 1 to 65,535, without leading zeros. */
export function isPort(text: string): boolean {
  return /^[1-9][0-9]{0,4}$/.test(text) && Number(text) <= 65_535
}
