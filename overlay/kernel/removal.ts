// Deletes devices. Each deletion waits for a grace period of the kernel (16 ms and more), so it runs on another thread, and
// many devices are deleted as one device group, which waits once. Bridges do not share the wait (16 ms each even in a group,
// with the kernel's one lock held throughout), so they are deleted last and one by one. A caller that only needs the name
// to be free waits for the departure, not for the deletion.

import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { deleteGroup, deleteLink, getLinks, setLink } from '../netlink/link.ts'
import { isMarkedOurs, nameRole, REMOVAL_GROUP } from '../plan/network/names.ts'
import { Departures } from './departures.ts'
import { absentIsSuccess, readLinks } from './kernel.ts'

/** From this many devices on, moving them into a group costs less than the single waits. */
const GROUP_MIN = 3
/** At most this many in a group: the kernel's lock is held for some 20 ms, and others get it between two groups. */
const GROUP_MAX = 64
/** Rounds in flight: most of a round is a wait, during which the next may begin. Each holds a thread of the pool. */
const ROUNDS = 3

/** By ifindex: a new device of the same name is not touched. */
export type DeviceRef = { readonly ifindex: number; readonly name: string }

export class Removal {
  readonly #sockets: readonly NetlinkSocket[]
  readonly #idle: NetlinkSocket[]
  readonly #departures: Departures
  readonly #running = new Set<Promise<void>>()
  #queued = new Map<number, DeviceRef>()
  /** The round that will delete what is queued. */
  #next: Promise<void> | null = null
  /** Takes the next socket that a round returns. */
  #taker: ((socket: NetlinkSocket) => void) | null = null

  constructor(netns: string | null) {
    this.#sockets = Array.from({ length: ROUNDS }, () => NetlinkSocket.open(netns))
    this.#idle = [...this.#sockets]
    this.#departures = new Departures(netns)
  }

  get portIds(): readonly number[] {
    return this.#sockets.map(socket => socket.portId)
  }

  /** Resolves when the devices are deleted; absent is success. @throws ERR_KERNEL */
  remove(devices: Iterable<DeviceRef>): Promise<void> {
    for (const device of devices) this.#queued.set(device.ifindex, device)
    if (this.#queued.size === 0) return Promise.resolve()
    // Coalesced: everything queued until a round can begin is deleted by it.
    this.#next ??= this.#socket().then(socket => this.#round(socket))
    return this.#next
  }

  /** Resolves when the devices cannot be found any more; the kernel may not have freed them yet. @throws ERR_KERNEL */
  async depart(devices: readonly DeviceRef[]): Promise<void> {
    const gone = Promise.all(devices.map(({ ifindex }) => this.#departures.expect(ifindex)))
    const removed = this.remove(devices).finally(() => {
      for (const { ifindex } of devices) this.#departures.forget(ifindex)
    })
    await Promise.race([gone, removed])
    // A device that has departed is deleted, whatever else fails in the same round.
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
    const devices = [...this.#queued.values()]
    this.#queued = new Map()
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

  async #removeAll(socket: NetlinkSocket, devices: readonly DeviceRef[]): Promise<void> {
    const bridges = devices.filter(device => nameRole(device.name)?.role === 'bridge')
    const others = devices.filter(device => !bridges.includes(device))
    const single: DeviceRef[] = []
    for (let i = 0; i < others.length; i += GROUP_MAX) {
      const some = others.slice(i, i + GROUP_MAX)
      if (some.length >= GROUP_MIN && this.#group(socket, some)) {
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

  /** Moves them into the group; false when a foreign device is in it: then nothing may be deleted by group. */
  #group(socket: NetlinkSocket, devices: readonly DeviceRef[]): boolean {
    const moves = devices.map(({ ifindex }) => setLink(ifindex, { group: REMOVAL_GROUP }))
    socket.batch(moves, 'group devices for removal')
    const members = readLinks(socket, getLinks()).filter(link => link.group === REMOVAL_GROUP)
    return members.every(link => nameRole(link.name) !== null && isMarkedOurs(link))
  }
}
