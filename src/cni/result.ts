// Results in the format of the configuration's version, and their comparison for CHECK.

import type { EndpointView } from '#model/views.ts'
import type { CniConfig, PrevResult } from './config.ts'
import { CniError } from './error.ts'
import { atLeast, type CniVersion } from './versions.ts'

/** The result of ADD: the results of earlier plugins in the list, followed by ours. */
export function addResult(p: {
  readonly version: CniVersion
  readonly config: CniConfig
  readonly endpoint: EndpointView
  /** Whether the network reaches the outside. */
  readonly egress: boolean
  readonly netns: string
}): object {
  const { version, config, endpoint, netns } = p
  const { interfaces, ips, routes, dns } = config.prevResult ?? {}
  const before = interfaces ?? []
  const mtu = atLeast(version, '1.1.0') ? { mtu: endpoint.mtu } : {}
  const own = endpoint.addresses.map((address, at) => ({
    ...(atLeast(version, '1.0.0') ? {} : { version: isIpv6(address) ? '6' : '4' }),
    address,
    gateway: endpoint.gateways[at],
    interface: before.length + 1
  }))
  const defaults = endpoint.gateways.map(gw => ({ dst: isIpv6(gw) ? '::/0' : '0.0.0.0/0', gw }))
  return {
    cniVersion: version,
    interfaces: [
      ...before,
      { name: endpoint.hostInterface, ...mtu },
      { name: endpoint.ifname, mac: endpoint.mac, sandbox: netns, ...mtu }
    ],
    ips: [...(ips ?? []), ...own],
    routes: [...(routes ?? []), ...(p.egress ? defaults : [])],
    dns: dns ?? config.dns ?? endpoint.dns ?? {}
  }
}

/** Compares the endpoint with the result of ADD. @throws CniError config if there is none, differs if it does not match */
export function compareResult(p: {
  readonly previous: PrevResult | null | undefined
  readonly endpoint: EndpointView
}): void {
  const { previous, endpoint } = p
  if (previous === undefined || previous === null) throw new CniError('config', 'prevResult: is missing')
  const interfaces = previous.interfaces ?? []
  const at = interfaces.findIndex(one => one.name === endpoint.ifname && (one['sandbox'] ?? '') !== '')
  const found = interfaces[at]
  if (found === undefined) throw differs(`prevResult has no interface ${endpoint.ifname} of a container`)
  const mac = found['mac'] ?? ''
  if (typeof mac !== 'string' || (mac !== '' && mac.toLowerCase() !== endpoint.mac)) {
    throw differs(`${endpoint.ifname} has the MAC ${endpoint.mac}`)
  }
  const addresses = (previous.ips ?? []).filter(ip => (ip.interface ?? at) === at).map(ip => ip.address)
  const isOther = (address: string): boolean =>
    !addresses.includes(address) && addresses.some(other => isIpv6(other) === isIpv6(address))
  // A network may have got its second subnet since: of that family, prevResult has no address.
  const known = endpoint.addresses.filter(address => addresses.includes(address))
  if (known.length === 0 || endpoint.addresses.some(isOther)) {
    throw differs(`${endpoint.ifname} has the address ${endpoint.addresses.join(' and ')}`)
  }
}

function isIpv6(text: string): boolean {
  return text.includes(':')
}

function differs(what: string): CniError {
  return new CniError('differs', `${what}: not what prevResult says`)
}
