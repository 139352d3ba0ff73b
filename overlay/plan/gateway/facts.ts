// Everything that can be wrong with a router, as a list of facts. The same facts are computed from the desired state and
// read from the kernel; those that differ are repaired. Pure.

import { formatIp, formatSubnet, singleAddress, type Family, type Ip } from '#model/ip.ts'
import {
  HOST_TRANSIT_V6,
  OUTSIDE_GROUP,
  ROUTER_LINK_LOCAL,
  routerSubnet,
  type DesiredRouter
} from './desired-gateway.ts'
import { OVERLAY_GROUP } from '../network/names.ts'
import type { Carrier } from '../network/switch.ts'

/** Values by the name of the fact. */
export type Facts = ReadonlyMap<string, string>

/** The only fact that belongs to no device: are the rules the ones we installed? */
export const RULES = 'router rules'

/** Which families the router has. One that has more than it should loses traffic by its repair. */
export const FAMILY_FACT = 'router families'

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
  ipv4: {
    /** On the host's end of the uplink. Strict reverse-path filtering accepts only the router's own address there. */
    host: { forwarding: '1', rp_filter: '1', accept_redirects: '0', send_redirects: '0' },
    /** On both devices of the router. */
    router: { forwarding: '1', accept_redirects: '0', send_redirects: '0' }
  },
  /**
   * The host's end forwards by the switch of the whole host (forwarding-v6.ts), and takes no router advertisement. The router
   * tells its containers when its MAC is set, as a repair does.
   */
  ipv6: {
    host: { disable_ipv6: '0', accept_ra: '0', accept_redirects: '0' },
    router: { disable_ipv6: '0', forwarding: '1', accept_ra: '0', accept_redirects: '0', ndisc_notify: '1' }
  }
} as const satisfies Readonly<Record<Family, Readonly<Record<'host' | 'router', Readonly<Record<string, string>>>>>>

/** How the name of a fact tells the family. */
export const MARKS: Readonly<Record<Family, string>> = { ipv4: '', ipv6: 'IPv6 ' }

/** An address of a device. */
export type PlacedAddress = { readonly address: Ip; readonly prefixLength: number }

/** The addresses of each device of a router. */
export function routerAddresses(
  router: DesiredRouter
): Readonly<Record<'outside' | 'routerInside' | 'routerOutside', readonly PlacedAddress[]>> {
  const { subnets } = router
  const hasIpv6 = routerSubnet(router, 'ipv6') !== undefined
  const alone = (address: Ip): PlacedAddress => ({ address, prefixLength: singleAddress(address).prefixLength })
  return {
    outside: hasIpv6 ? [alone(HOST_TRANSIT_V6)] : [],
    routerInside: [
      ...subnets.map(({ gateway, subnet }) => ({ address: gateway, prefixLength: subnet.prefixLength })),
      ...(hasIpv6 ? [ROUTER_LINK_LOCAL] : [])
    ],
    routerOutside: subnets.map(({ transit }) => alone(transit))
  }
}

/** @param carrier for anything but a bridge, port membership is the switch's business and no fact of the router */
export function desiredFacts(router: DesiredRouter, carrier: Carrier = 'bridge'): Facts {
  const { alias, mtu } = router
  const common = { mtu, up: true, paired: true }
  const { outside, routerInside, routerOutside } = routerAddresses(router)
  const facts = new Map<string, string>()
  addDevice(facts, 'port', { ...common, alias, group: OVERLAY_GROUP, mac: null, addresses: [] })
  const end = { ...common, alias, group: OUTSIDE_GROUP, mac: router.outsideMac }
  addDevice(facts, 'outside', { ...end, addresses: outside.map(placedText) })
  const within = { ...common, alias: '', group: 0 }
  addDevice(facts, 'router inside', { ...within, mac: router.gatewayMac, addresses: routerInside.map(placedText) })
  addDevice(facts, 'router outside', { ...within, mac: router.transitMac, addresses: routerOutside.map(placedText) })
  if (carrier === 'userspace-switch') facts.set('router inside checksums', 'finished')
  if (carrier === 'bridge') {
    facts.set('port bridge', router.bridge)
    facts.set('port flags', flagsText(ROUTER_PORT))
    facts.set('port entry', router.gatewayMac)
    facts.set('tunnel isolated', 'true')
  }
  for (const { family, subnet, transit, nextHop } of router.subnets) {
    const mark = MARKS[family]
    facts.set(`outside ${mark}route`, formatIp(transit))
    facts.set(`outside ${mark}neighbour`, neighbourText(transit, router.transitMac))
    facts.set(`router ${mark}subnet route`, formatSubnet(subnet))
    facts.set(`router ${mark}default route`, formatIp(nextHop))
    facts.set(`router ${mark}neighbour`, neighbourText(nextHop, router.outsideMac))
  }
  facts.set(FAMILY_FACT, familiesText(router.subnets.map(({ family }) => family)))
  facts.set(RULES, 'right')
  facts.set('router egress rate', 'right')
  for (const { family } of router.subnets) {
    addSysctls(facts, { device: 'outside', family, values: SYSCTLS[family].host })
    for (const device of ['router inside', 'router outside'])
      addSysctls(facts, { device, family, values: SYSCTLS[family].router })
  }
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

export function addSysctls(
  facts: Map<string, string>,
  p: { readonly device: string; readonly family: Family; readonly values: Readonly<Record<string, string>> }
): void {
  for (const [key, value] of Object.entries(p.values)) facts.set(`${p.device} ${MARKS[p.family]}${key}`, value)
}

export function familiesText(families: readonly Family[]): string {
  return families.join(' ')
}

export function placedText({ address, prefixLength }: PlacedAddress): string {
  return `${formatIp(address)}/${prefixLength}`
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
