// Removal of devices. Each deletion waits for a grace period of the kernel (16 ms and more), so it is done on another
// thread, and many at once as one device group: then they share one wait. Bridges share nothing (16 ms each even in a
// group, with the kernel's one lock held all the time), so they go last and one by one. Who only needs to know that a
// device can be found no more waits for its departure alone.

import { errnoOf, NetlinkSocket } from '#platform/netlink-socket.ts'
import { deleteGroup, deleteLink, getLinks, setLink } from '../netlink/link.ts'
import { isMarkedOurs, nameRole, REMOVAL_GROUP } from '../plan/network/names.ts'
import { Departures } from './departures.ts'
import { readLinks } from './kernel.ts'

/** From so many on, gathering a group costs less than the single waits. */
const GROUP_FROM = 3
/** So many a group: the kernel's lock is held for some 20 ms, and whoever waits for it is let in between. */
const GROUP_DEVICES = 64
/** Rounds under way at once: most of one is a wait, during which the next may begin. Each holds a thread of the pool. */
const ROUNDS = 3

export type Going = { readonly ifindex: number; readonly name: string }

export class Removal {
  readonly #sockets: readonly NetlinkSocket[]
  readonly #idle: NetlinkSocket[]
  readonly #departures: Departures
  readonly #running = new Set<Promise<void>>()
  #waiting = new Map<number, Going>()
  #next: Promise<void> | null = null
  /** Takes the next socket that a round gives back. */
  #taker: ((socket: NetlinkSocket) => void) | null = null

  constructor(netns: string | null) {
    this.#sockets = Array.from({ length: ROUNDS }, () => NetlinkSocket.open(netns))
    this.#idle = [...this.#sockets]
    this.#departures = new Departures(netns)
  }

  get portIds(): readonly number[] {
    return this.#sockets.map(socket => socket.portId)
  }

  /** Resolves when the devices are gone; one that was gone before is success. @throws ERR_KERNEL */
  remove(devices: Iterable<Going>): Promise<void> {
    for (const device of devices) this.#waiting.set(device.ifindex, device)
    if (this.#waiting.size === 0) return Promise.resolve()
    // All that arrives while no round can begin goes together in the next one.
    this.#next ??= this.#socket().then(socket => this.#round(socket))
    return this.#next
  }

  /** Resolves when nobody can find the devices any more; the kernel may not be done with them. @throws ERR_KERNEL */
  async depart(devices: readonly Going[]): Promise<void> {
    const gone = Promise.all(devices.map(({ ifindex }) => this.#departures.expect(ifindex)))
    const removed = this.remove(devices).finally(() => {
      for (const { ifindex } of devices) this.#departures.forget(ifindex)
    })
    await Promise.race([gone, removed])
    // What has departed is on its way, whatever else the same round may have met.
    removed.catch(() => undefined)
  }

  async close(): Promise<void> {
    await this.#next?.catch(() => undefined)
    await Promise.all(this.#running)
    this.#departures.close()
    for (const socket of this.#sockets) socket.close()
  }

  #socket(): Promise<NetlinkSocket> {
    const idle = this.#idle.pop()
    return idle === undefined ? new Promise(resolve => (this.#taker = resolve)) : Promise.resolve(idle)
  }

  #round(socket: NetlinkSocket): Promise<void> {
    const devices = [...this.#waiting.values()]
    this.#waiting = new Map()
    this.#next = null
    const round = this.#removeAll(socket, devices).finally(() => {
      const taker = this.#taker
      this.#taker = null
      if (taker === null) this.#idle.push(socket)
      else taker(socket)
    })
    const settled = round.catch(() => undefined).finally(() => this.#running.delete(settled))
    this.#running.add(settled)
    return round
  }

  async #removeAll(socket: NetlinkSocket, devices: readonly Going[]): Promise<void> {
    const bridges = devices.filter(device => nameRole(device.name)?.role === 'bridge')
    const others = devices.filter(device => !bridges.includes(device))
    const single: Going[] = []
    for (let i = 0; i < others.length; i += GROUP_DEVICES) {
      const some = others.slice(i, i + GROUP_DEVICES)
      if (some.length >= GROUP_FROM && this.#gather(socket, some)) {
        await absentIsSuccess(socket.requestAsync(deleteGroup(REMOVAL_GROUP), 'delete devices'))
      } else {
        single.push(...some)
      }
    }
    const failures: unknown[] = []
    for (const { ifindex, name } of [...single, ...bridges]) {
      try {
        await absentIsSuccess(socket.requestAsync(deleteLink(ifindex), `delete device ${name}`))
      } catch (err) {
        failures.push(err)
      }
    }
    if (failures.length > 0) throw failures[0]
  }

  /** Puts them into the group; false when a device that is not ours is in it: then nothing may be deleted by group. */
  #gather(socket: NetlinkSocket, devices: readonly Going[]): boolean {
    const moves = devices.map(({ ifindex }) => setLink(ifindex, { group: REMOVAL_GROUP }))
    socket.batch(moves, 'gather devices for removal')
    const members = readLinks(socket, getLinks()).filter(link => link.group === REMOVAL_GROUP)
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
