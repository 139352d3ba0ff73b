// Opens the overlay driver that the configuration selects.

import type { Config } from '#config/schema.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { OvsDriver } from '#overlay/ovs/driver.ts'
import { ipv4Underlay } from '#overlay/plan/underlay/underlay.ts'
import type { Clock } from '#platform/clock.ts'

/** @throws ERR_UNSUPPORTED naming `overlay.driver`, ERR_NETNS, ERR_KERNEL */
export async function openDriver({ driver, vtep, port, ovs }: Config['overlay'], clock: Clock): Promise<OverlayDriver> {
  const options = { underlay: ipv4Underlay(vtep), clock }
  return driver === 'linux' ? LinuxDriver.open(options) : OvsDriver.open({ ...options, port, ...ovs })
}
