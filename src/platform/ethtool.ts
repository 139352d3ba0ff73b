// Transmit checksum offload of a device (linux/ethtool.h), by ioctl in the namespace of a netlink socket.

import { ethtoolValue } from './libc.ts'
import { kernelError } from './netlink-error.ts'
import type { NetlinkSocket } from './netlink-socket.ts'

const [ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM] = [0x16, 0x17] as const

/**
 * Makes the kernel complete the checksums of packets that the device sends, which also disables segmentation offload: for
 * a userspace switch, which forwards packets as it receives them. @throws ERR_KERNEL
 */
export function disableChecksumOffload(socket: NetlinkSocket, device: string): void {
  const { errno } = ethtoolValue(socket.fd, device, { command: ETHTOOL_STXCSUM, value: 0 })
  if (errno !== 0) throw kernelError(`disable checksum offload of ${device}`, errno)
}

/** Does the device leave checksums for a network card to complete? @throws ERR_KERNEL */
export function hasChecksumOffload(socket: NetlinkSocket, device: string): boolean {
  const { errno, value } = ethtoolValue(socket.fd, device, { command: ETHTOOL_GTXCSUM, value: 0 })
  if (errno !== 0) throw kernelError(`read checksum offload of ${device}`, errno)
  return value !== 0
}
