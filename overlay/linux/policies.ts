// Has the host any IPsec policies (ip-xfrm(8))? They judge packets in the host's stack, which packets that our programs wrap
// and unwrap do not pass. So a host that has any leaves both to the VXLAN devices.

import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { decodePolicyCounts, getPolicyCounts, NETLINK_XFRM } from '../netlink/xfrm.ts'

export class Policies {
  /** Null: a kernel without IPsec. */
  readonly #socket: NetlinkSocket | null
  #last = false

  private constructor(socket: NetlinkSocket | null) {
    this.#socket = socket
  }

  /** @param netns null: the process's own @throws ERR_NETNS, ERR_KERNEL */
  static open(netns: string | null): Policies {
    try {
      return new Policies(NetlinkSocket.open(netns, [], NETLINK_XFRM))
    } catch (err) {
      if (errnoOf(err) === 'EPROTONOSUPPORT') return new Policies(null)
      throw err
    }
  }

  get supported(): boolean {
    return this.#socket !== null
  }

  /** @throws ERR_KERNEL */
  exist(): boolean {
    this.#last = this.#read()
    return this.#last
  }

  /** Is the answer another one by now? @throws ERR_KERNEL */
  changed(): boolean {
    return this.#read() !== this.#last
  }

  close(): void {
    this.#socket?.close()
  }

  #read(): boolean {
    const answers = this.#socket?.request(getPolicyCounts(), 'count IPsec policies') ?? []
    const counts = answers.map(decodePolicyCounts)
    return counts.some(found => found !== null && found.arriving + found.leaving + found.forwarded > 0)
  }
}
