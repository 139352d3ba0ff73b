// The backend of the overlay that the configuration asks for.

import type { Config } from '#config/schema.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { OvsDriver } from '#overlay/ovs/driver.ts'

/** @throws ERR_UNSUPPORTED naming `overlay.driver`, ERR_NETNS, ERR_KERNEL */
export async function openDriver({ driver, vtep: bind, port, ovs }: Config['overlay']): Promise<OverlayDriver> {
  return driver === 'linux' ? LinuxDriver.open({ bind }) : OvsDriver.open({ bind, port, ...ovs })
}
