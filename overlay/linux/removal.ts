// Removal of devices. Each deletion waits for a grace period of the kernel (16 ms and more), so it is done on another
// thread, and many at once as one device group: then they share one wait. Bridges share nothing (16 ms each even in a
// group, with the kernel's one lock held all the time), so they go last and one by one.

import { errnoOf, NetlinkSocket } from '#platform/netlink-socket.ts'
import { deleteGroup, deleteLink, getLinks, setLink } from '../netlink/link.ts'
import { isMarkedOurs, nameRole, REMOVAL_GROUP } from '../plan/names.ts'
import { readLinks } from './kernel.ts'

/** From so many on, gathering a group costs less than the single waits. */
const GROUP_FROM = 3
/** So many a group: the kernel's lock is held for some 20 ms, and whoever waits for it is let in between. */
const GROUP_DEVICES = 64

export type Going = { readonly ifindex: number; readonly name: string }

export class Removal {
  readonly #socket: NetlinkSocket
  #waiting = new Map<number, Going>()
  #next: Promise<void> | null = null
  #running: Promise<void> = Promise.resolve()

  constructor(netns: string | null) {
    this.#socket = NetlinkSocket.open(netns)
  }

  get portId(): number {
    return this.#socket.portId
  }

  /** Resolves when the devices are gone; one that was gone before is success. @throws ERR_KERNEL */
  remove(devices: Iterable<Going>): Promise<void> {
    for (const device of devices) this.#waiting.set(device.ifindex, device)
    if (this.#waiting.size === 0) return Promise.resolve()
    // All that arrives while a removal runs goes together in the next one.
    this.#next ??= this.#running.then(() => this.#round())
    return this.#next
  }

  async close(): Promise<void> {
    await (this.#next ?? this.#running).catch(() => undefined)
    this.#socket.close()
  }

  #round(): Promise<void> {
    const devices = [...this.#waiting.values()]
    this.#waiting = new Map()
    this.#next = null
    const round = this.#removeAll(devices)
    this.#running = round.catch(() => undefined)
    return round
  }

  async #removeAll(devices: readonly Going[]): Promise<void> {
    const bridges = devices.filter(device => nameRole(device.name)?.role === 'bridge')
    const others = devices.filter(device => !bridges.includes(device))
    const single: Going[] = []
    for (let i = 0; i < others.length; i += GROUP_DEVICES) {
      const some = others.slice(i, i + GROUP_DEVICES)
      if (some.length >= GROUP_FROM && this.#gather(some)) {
        await absentIsSuccess(this.#socket.requestAsync(deleteGroup(REMOVAL_GROUP), 'delete devices'))
      } else {
        single.push(...some)
      }
    }
    const failures: unknown[] = []
    for (const { ifindex, name } of [...single, ...bridges]) {
      try {
        await absentIsSuccess(this.#socket.requestAsync(deleteLink(ifindex), `delete device ${name}`))
      } catch (err) {
        failures.push(err)
      }
    }
    if (failures.length > 0) throw failures[0]
  }

  /** Puts them into the group; false when a device that is not ours is in it: then nothing may be deleted by group. */
  #gather(devices: readonly Going[]): boolean {
    const moves = devices.map(({ ifindex }) => setLink(ifindex, { group: REMOVAL_GROUP }))
    this.#socket.batch(moves, 'gather devices for removal')
    const members = readLinks(this.#socket, getLinks()).filter(link => link.group === REMOVAL_GROUP)
    return members.every(link => nameRole(link.name) !== null && isMarkedOurs(link))
  }
}

async function absentIsSuccess(request: Promise<void>): Promise<void> {
  try {
    await request
  } catch (err) {
    if (errnoOf(err) !== 'ENODEV') throw err
  }
}
