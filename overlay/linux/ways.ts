// By which device the kernel routes VXLAN to another host. Our programs wrap only what leaves by the underlay's device.

import type { Ip } from '#model/ip.ts'
import { ipv4Of } from '#model/ip.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { decodeRouteTo, getRouteTo } from '../netlink/address.ts'

/** The route is missing, or forbidden by the administrator. */
const NO_WAY: readonly (string | null)[] = ['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL']

export class Ways {
  readonly #socket: NetlinkSocket
  readonly #own: { readonly vtep: Ip; readonly port: number }
  /** What the kernel said since it was last asked about all. */
  readonly #devices = new Map<Ip, number | null>()

  /** @param own this host's tunnel address, and the UDP port of VXLAN */
  constructor(socket: NetlinkSocket, own: { readonly vtep: Ip; readonly port: number }) {
    this.#socket = socket
    this.#own = own
  }

  forget(): void {
    this.#devices.clear()
  }

  /** The ifindex of the device by which VXLAN to a VTEP leaves; null while there is none. @throws ERR_KERNEL */
  deviceTo(vtep: Ip): number | null {
    const known = this.#devices.get(vtep)
    if (known !== undefined) return known
    const found = this.#ask(vtep)
    this.#devices.set(vtep, found)
    return found
  }

  #ask(vtep: Ip): number | null {
    const { vtep: from, port } = this.#own
    try {
      const request = getRouteTo({ to: ipv4Of(vtep), from: ipv4Of(from), port })
      const [answer] = this.#socket.request(request, 'look up a route')
      return answer === undefined ? null : decodeRouteTo(answer)
    } catch (err) {
      if (NO_WAY.includes(errnoOf(err))) return null
      throw err
    }
  }
}
