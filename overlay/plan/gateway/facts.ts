// Everything that can be wrong with a router, as a list of facts. The same facts are computed from the desired state and
// read from the kernel; those that differ are repaired. Pure.

import { formatIp, formatSubnet, type Ip } from '#model/ip.ts'
import { NEXT_HOP, OUTSIDE_GROUP, type DesiredRouter } from './desired-gateway.ts'
import { OVERLAY_GROUP } from '../network/names.ts'
import type { Carrier } from '../network/switch.ts'

/** Values by the name of the fact. */
export type Facts = ReadonlyMap<string, string>

/** The only fact that belongs to no device: are the rules the ones we installed? */
export const RULES = 'router rules'

/** A device as the kernel reports it. An absent device has no facts. */
export type DeviceFacts = {
  readonly alias: string
  readonly group: number
  readonly mtu: number
  readonly mac: string | null
  readonly up: boolean
  readonly addresses: readonly string[]
  /** Is its peer where it should be? */
  readonly paired: boolean
}

/** The router port's flags. Isolation blocks traffic between it and the tunnel, so that each host uses its own router. */
export const ROUTER_PORT = { learning: false, unicastFlood: false, neighSuppress: false, isolated: true } as const

export const SYSCTLS = {
  /** On the host's end of the uplink. Strict reverse-path filtering accepts only the router's own address there. */
  host: { forwarding: '1', rp_filter: '1', accept_redirects: '0', send_redirects: '0' },
  /** On both devices of the router. */
  router: { forwarding: '1', accept_redirects: '0', send_redirects: '0' }
} as const

/** @param carrier for anything but a bridge, port membership is the switch's business and no fact of the router */
export function desiredFacts(router: DesiredRouter, carrier: Carrier = 'bridge'): Facts {
  const { alias, mtu } = router
  const common = { mtu, up: true, paired: true }
  const facts = new Map<string, string>()
  addDevice(facts, 'port', { ...common, alias, group: OVERLAY_GROUP, mac: null, addresses: [] })
  addDevice(facts, 'outside', { ...common, alias, group: OUTSIDE_GROUP, mac: router.outsideMac, addresses: [] })
  const within = { ...common, alias: '', group: 0 }
  const gateway = `${formatIp(router.gateway)}/${router.subnet.prefixLength}`
  const transit = `${formatIp(router.transit)}/32`
  addDevice(facts, 'router inside', { ...within, mac: router.gatewayMac, addresses: [gateway] })
  addDevice(facts, 'router outside', { ...within, mac: router.transitMac, addresses: [transit] })
  if (carrier === 'userspace-switch') facts.set('router inside checksums', 'finished')
  if (carrier === 'bridge') {
    facts.set('port bridge', router.bridge)
    facts.set('port flags', flagsText(ROUTER_PORT))
    facts.set('port entry', router.gatewayMac)
    facts.set('tunnel isolated', 'true')
  }
  facts.set('outside route', formatIp(router.transit))
  facts.set('outside neighbour', neighbourText(router.transit, router.transitMac))
  facts.set('router subnet route', formatSubnet(router.subnet))
  facts.set('router default route', formatIp(NEXT_HOP))
  facts.set('router neighbour', neighbourText(NEXT_HOP, router.outsideMac))
  facts.set(RULES, 'right')
  facts.set('router egress rate', 'right')
  addSysctls(facts, 'outside', SYSCTLS.host)
  for (const device of ['router inside', 'router outside']) addSysctls(facts, device, SYSCTLS.router)
  return facts
}

/** The names of the desired facts that the observed ones lack or contradict. */
export function differing(desired: Facts, observed: Facts): readonly string[] {
  return [...desired].filter(([fact, value]) => observed.get(fact) !== value).map(([fact]) => fact)
}

export function addDevice(facts: Map<string, string>, name: string, device: DeviceFacts): void {
  facts.set(`${name} pair`, String(device.paired))
  facts.set(`${name} alias`, device.alias)
  facts.set(`${name} group`, String(device.group))
  facts.set(`${name} MTU`, String(device.mtu))
  facts.set(`${name} up`, String(device.up))
  facts.set(`${name} addresses`, [...device.addresses].sort().join(' '))
  if (device.mac !== null) facts.set(`${name} MAC`, device.mac)
}

export function addSysctls(facts: Map<string, string>, device: string, values: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(values)) facts.set(`${device} ${key}`, value)
}

export function flagsText(flags: {
  readonly learning: boolean | null
  readonly unicastFlood: boolean | null
  readonly isolated: boolean | null
}): string {
  return `learning ${flags.learning}, flood ${flags.unicastFlood}, isolated ${flags.isolated}`
}

export function neighbourText(address: Ip, mac: string): string {
  return `${formatIp(address)} ${mac}`
}
