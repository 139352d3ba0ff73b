// Opens the overlay driver that the configuration selects, with the programs of the guard where the kernel can run them.

import type { Config } from '#config/schema.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Datapath } from '#overlay/bpf/datapath.ts'
import { openDatapath } from '#overlay/bpf/open.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { OvsDriver } from '#overlay/ovs/driver.ts'
import { ipv4Underlay } from '#overlay/plan/underlay/underlay.ts'
import type { Clock } from '#platform/clock.ts'

/** @throws ERR_CONFIG naming `overlay.guard`, ERR_UNSUPPORTED naming `overlay.driver` or `overlay.guard`, ERR_NETNS, ERR_KERNEL */
export async function openDriver(overlay: Config['overlay'], clock: Clock): Promise<OverlayDriver> {
  const { driver, guard, vtep, port, ovs } = overlay
  if (driver === 'bpf' && (guard === 'nft' || guard === 'off')) {
    throw misconfigured('must be auto or bpf: the programs of driver bpf are its guard')
  }
  if (guard === 'bpf' && isUserspaceSwitch(overlay)) {
    throw misconfigured('must not be bpf: the userspace datapath takes packets before any program at the device')
  }
  const programs = openPrograms(overlay)
  const options = { underlay: ipv4Underlay(vtep), clock, programs }
  if (driver === 'ovs') return OvsDriver.open({ ...options, port, ...ovs })
  if (driver === 'linux' || programs === null || typeof programs === 'string') return LinuxDriver.open(options)
  return LinuxDriver.openFast({ ...options, programs })
}

/** @returns why they cannot run; null if they are not to */
function openPrograms(overlay: Config['overlay']): Datapath | string | null {
  const { driver, guard } = overlay
  if (guard === 'nft' || guard === 'off' || isUserspaceSwitch(overlay)) return null
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

function misconfigured(why: string): VxmeshError {
  return new VxmeshError('ERR_CONFIG', `overlay.guard: ${why}`, { field: 'overlay.guard' })
}
