// Waits for notifications that devices are gone. The kernel unlists a device, notifies, and only then frees it: the request
// to delete returns after a grace period (18 ms), the notification comes within one. From then on the device
// cannot be found, and its name is free.

import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { RTM_DELLINK, RTNLGRP_LINK } from '../netlink/constants.ts'
import { decodeLink } from '../netlink/link-info.ts'

export class Departures {
  readonly #netns: string | null
  readonly #expected = new Map<number, () => void>()
  #stop: (() => void) | null = null

  constructor(netns: string | null) {
    this.#netns = netns
  }

  /**
   * To be called before the deletion is requested. Resolves at the notification; never, when that is lost: wait for the
   * deletion itself as well, and then call `forget`.
   */
  expect(ifindex: number): Promise<void> {
    this.#stop ??= this.#listen()
    return new Promise(resolve => this.#expected.set(ifindex, resolve))
  }

  forget(ifindex: number): void {
    this.#expected.delete(ifindex)
    if (this.#expected.size === 0) this.close()
  }

  close(): void {
    this.#stop?.()
    this.#stop = null
  }

  /** The socket is open only while a departure is expected: otherwise its buffer would fill up. */
  #listen(): () => void {
    const socket = NetlinkSocket.open(this.#netns, [RTNLGRP_LINK])
    const unwatch = socket.watch(() => {
      socket.drain(({ type, payload }) => {
        // A port that leaves its bridge sends RTM_DELLINK, too, of family AF_BRIDGE; the device itself sends AF_UNSPEC (0).
        if (type === RTM_DELLINK && payload[0] === 0) this.#expected.get(decodeLink(payload)?.ifindex ?? 0)?.()
        return false
      })
    })
    return () => {
      unwatch()
      socket.close()
    }
  }
}
