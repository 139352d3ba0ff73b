// The name servers of resolv.conf(5). Pure.

import { isPort } from '#model/socket-address.ts'

/** A resolver of the host or of the configuration. The address is text: a link-local one of IPv6 has a zone. */
export type Upstream = { readonly address: string; readonly port: number }

/** As the C library does, the first three count. */
const MAX_SERVERS = 3
const ADDRESS = /^[0-9a-fA-F:.]{2,45}(%[A-Za-z0-9_.-]{1,15})?$/

export function nameServersIn(text: string): readonly Upstream[] {
  const servers = text.split('\n').flatMap(line => {
    const [, address] = /^nameserver[ \t]+(\S+)/.exec(line) ?? []
    return address !== undefined && ADDRESS.test(address) ? [{ address, port: 53 }] : []
  })
  return servers.slice(0, MAX_SERVERS)
}

/** ADDRESS:PORT or [ADDRESS]:PORT, as src/config has checked it. */
export function upstreamOf(text: string): Upstream {
  const at = text.lastIndexOf(':')
  const port = text.slice(at + 1)
  return { address: text.slice(0, at).replace(/^\[|\]$/g, ''), port: isPort(port) ? Number(port) : 53 }
}
