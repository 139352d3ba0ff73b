// Switches forwarding of IPv6 on or off. The kernel forwards on all devices of a namespace or on none, by
// net.ipv6.conf.all.forwarding; the setting of a single device only tells whether it acts as a router there, and then it takes
// no router advertisement (unless accept_ra is 2). So each device keeps, or gets back, its own: the host's default route, if
// it learned it from a router, stays, and is renewed.

import { readSysctls, writeSysctls } from '#platform/netns.ts'
import { readLinks, type Kernel } from '../kernel/kernel.ts'
import { getLinks } from '../netlink/link.ts'

export type ForwardingV6 = {
  /** Does the host forward? */
  readonly forwards: boolean
  /** It does, and new devices are set to it as well: so an administrator leaves it, who makes a host a router, and vxmesh does not. */
  readonly isRouter: boolean
}

type Change = { readonly key: string; readonly value: string }

const keyOf = (device: string, name: string): string => `net/ipv6/conf/${device}/${name}`
/** Writing `all` writes each of them. `force_forwarding` exists from Linux 6.17 on. */
const OVERWRITTEN = ['forwarding', 'force_forwarding'] as const

export function readForwardingV6({ netns }: Kernel): ForwardingV6 {
  const [all, fresh] = readSysctls(netns, [keyOf('all', 'forwarding'), keyOf('default', 'forwarding')])
  return { forwards: all === '1', isRouter: all === '1' && fresh === '1' }
}

/** @throws ERR_KERNEL */
export function switchForwardingV6({ socket, netns }: Kernel, on: boolean): void {
  const devices = ['default', ...readLinks(socket, getLinks()).map(({ name }) => name)]
  const read = (name: string, of = devices): readonly Change[] => {
    const keys = of.map(device => keyOf(device, name))
    return readSysctls(netns, keys).flatMap((value, at) => (value === null ? [] : [{ key: keys[at] ?? '', value }]))
  }
  const before = OVERWRITTEN.flatMap(name => read(name))
  const routing = new Set(before.filter(({ value }) => value !== '0').map(({ key }) => key))
  const hosts = devices.filter(device => !routing.has(keyOf(device, 'forwarding')))
  // Enabled anywhere, forwarding deletes all default routes learned from routers, except of devices with 2.
  const following = read('accept_ra', hosts).filter(({ value }) => value === '1')
  writeSysctls(
    netns,
    following.map(({ key }) => ({ key, value: '2' }))
  )
  writeSysctls(netns, [{ key: keyOf('all', 'forwarding'), value: on ? '1' : '0' }])
  const after = new Map(OVERWRITTEN.flatMap(name => read(name)).map(({ key, value }) => [key, value]))
  // A device may have gone meanwhile.
  writeSysctls(
    netns,
    before.filter(({ key, value }) => after.has(key) && after.get(key) !== value)
  )
  const left = new Set(read('accept_ra', hosts).map(({ key }) => key))
  writeSysctls(
    netns,
    following.filter(({ key }) => left.has(key))
  )
}
