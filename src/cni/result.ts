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
  const family = atLeast(version, '1.0.0') ? {} : { version: '4' }
  const own = { address: endpoint.address, gateway: endpoint.gateway, interface: before.length + 1 }
  return {
    cniVersion: version,
    interfaces: [
      ...before,
      { name: endpoint.hostInterface, ...mtu },
      { name: endpoint.ifname, mac: endpoint.mac, sandbox: netns, ...mtu }
    ],
    ips: [...(ips ?? []), { ...family, ...own }],
    routes: [...(routes ?? []), ...(p.egress ? [{ dst: '0.0.0.0/0', gw: endpoint.gateway }] : [])],
    dns: dns ?? config.dns ?? {}
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
  const addresses = (previous.ips ?? []).filter(ip => (ip.interface ?? at) === at)
  if (!addresses.some(ip => ip.address === endpoint.address)) {
    throw differs(`${endpoint.ifname} has the address ${endpoint.address}`)
  }
}

function differs(what: string): CniError {
  return new CniError('differs', `${what}: not what prevResult says`)
}
