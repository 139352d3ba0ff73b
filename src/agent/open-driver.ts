// Opens the overlay driver that the configuration selects, with the programs of the guard where the kernel can run them.

import type { Config } from '#config/schema.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { isIpv4 } from '#model/ip.ts'
import type { Datapath } from '#overlay/bpf/datapath.ts'
import { openDatapath } from '#overlay/bpf/open.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { OvsDriver } from '#overlay/ovs/driver.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import type { Clock } from '#platform/clock.ts'

const NOT_OVER_IPV6 = 'the eBPF programs take an underlay of IPv4, and overlay.vtep is an IPv6 address'

/** @throws ERR_CONFIG naming `overlay.guard` or `overlay.driver`, ERR_UNSUPPORTED naming `overlay.driver` or `overlay.guard`, ERR_NETNS, ERR_KERNEL */
export async function openDriver(overlay: Config['overlay'], clock: Clock): Promise<OverlayDriver> {
  const { driver, guard, vtep, port, ovs } = overlay
  if (driver === 'bpf' && (guard === 'nft' || guard === 'off')) {
    throw misconfigured('must be auto or bpf: the programs of driver bpf are its guard')
  }
  if (guard === 'bpf' && isUserspaceSwitch(overlay)) {
    throw misconfigured('must not be bpf: the userspace datapath takes packets before any program at the device')
  }
  if (!isIpv4(vtep) && driver === 'bpf') throw misconfigured(`must not be bpf: ${NOT_OVER_IPV6}`, 'overlay.driver')
  if (!isIpv4(vtep) && guard === 'bpf') throw misconfigured(`must not be bpf: ${NOT_OVER_IPV6}`)
  const programs = openPrograms(overlay)
  const options = { underlay: vxlanUnderlay(vtep), clock, programs }
  if (driver === 'ovs') return OvsDriver.open({ ...options, port, ...ovs })
  if (driver === 'linux' || programs === null || typeof programs === 'string') return LinuxDriver.open(options)
  return LinuxDriver.openFast({ ...options, programs })
}

/** @returns why they cannot run; null if they are not to */
function openPrograms(overlay: Config['overlay']): Datapath | string | null {
  const { driver, guard, vtep } = overlay
  if (guard === 'nft' || guard === 'off' || isUserspaceSwitch(overlay)) return null
  if (!isIpv4(vtep)) return NOT_OVER_IPV6
  try {
    return openDatapath(null)
  } catch (err) {
    const { code, message } = asVxmeshError(err)
    if (code !== 'ERR_UNSUPPORTED') throw err
    const field = driver === 'bpf' ? 'overlay.driver' : 'overlay.guard'
    if (driver !== 'bpf' && guard !== 'bpf') return message
    throw new VxmeshError('ERR_UNSUPPORTED', `${field}: this host cannot run bpf: ${message}`, { field, cause: err })
  }
}

function isUserspaceSwitch({ driver, ovs }: Config['overlay']): boolean {
  return driver === 'ovs' && ovs.datapath === 'netdev'
}

function misconfigured(why: string, field = 'overlay.guard'): VxmeshError {
  return new VxmeshError('ERR_CONFIG', `${field}: ${why}`, { field })
}
