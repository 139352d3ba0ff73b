// Hears from the kernel that devices are gone. Each is taken off its namespace's list, told of, and only then freed: a
// deletion comes back after a grace period (18 ms), its notification within one. From then on nobody can find the device,
// and its name is free.

import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { RTM_DELLINK, RTNLGRP_LINK } from '../netlink/constants.ts'
import { decodeLink } from '../netlink/link-info.ts'

export class Departures {
  readonly #netns: string | null
  readonly #waiting = new Map<number, () => void>()
  #stop: (() => void) | null = null

  constructor(netns: string | null) {
    this.#netns = netns
  }

  /**
   * To be called before the deletion is asked for. Resolves when the kernel tells of it; never, when the notification is
   * lost: wait for the deletion itself as well, and then `forget`.
   */
  expect(ifindex: number): Promise<void> {
    this.#stop ??= this.#listen()
    return new Promise(resolve => this.#waiting.set(ifindex, resolve))
  }

  forget(ifindex: number): void {
    this.#waiting.delete(ifindex)
    if (this.#waiting.size === 0) this.close()
  }

  close(): void {
    this.#stop?.()
    this.#stop = null
  }

  /** Open only while somebody waits: there is nothing to be read by nobody. */
  #listen(): () => void {
    const socket = NetlinkSocket.open(this.#netns, [RTNLGRP_LINK])
    const unwatch = socket.watch(() => {
      socket.drain(({ type, payload }) => {
        // A bridge tells of a port that leaves it in the same words, of its own family; AF_UNSPEC is of the device.
        if (type === RTM_DELLINK && payload[0] === 0) this.#waiting.get(decodeLink(payload)?.ifindex ?? 0)?.()
        return false
      })
    })
    return () => {
      unwatch()
      socket.close()
    }
  }
}
