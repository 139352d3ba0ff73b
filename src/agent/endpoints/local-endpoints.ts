// The containers of this host as the agent must know them beyond the replicated state: in which namespace each is, kept
// over a restart, so that an interface that vanished can be made again and an MTU followed. A file an endpoint below
// dataDir/netns. Not synced: after a power cut the namespaces are gone as well.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ClusterState } from '#allocator/state-machine.ts'
import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName } from '#model/ids.ts'
import type { PeerId, Vni } from '#model/ids.ts'
import { attachRequest, type AttachRequest, type AttachResult, type Devices } from '#overlay/driver.ts'
import type { DesiredHost } from '#overlay/plan/network/desired.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { ensureDirectory, isTemporary, isErrno, removeFile, replaceFile } from '#platform/files.ts'
import type { Logger } from '#platform/log.ts'
import { isNetns, lastingNetnsId } from '#platform/netns.ts'
import type { Restored } from '../reconcile/reconciler.ts'
import { KeyedSerial } from '#platform/serial.ts'

type Key = Pick<Endpoint, 'containerId' | 'ifname'>

type NetnsRecord = {
  readonly netns: string
  /** Which namespace the path meant when the endpoint was attached: a path may come to mean another one (lastingNetnsId). */
  readonly netnsId: string
  readonly bootId: string
}

/**
 * What has become of an endpoint's namespace, by its path alone. `unreadable`: nothing can be said now. `gone` is not yet
 * a proof: a namespace outlives its path while a process is in it, and then our interface is still there.
 */
export type NetnsState = 'alive' | 'gone' | 'unreadable' | 'unrecorded'

export type LocalEndpointsOptions = {
  readonly dataDir: string
  readonly bootId: string
  readonly self: PeerId
  readonly state: ClusterState
  readonly devices: Pick<Devices, 'attach' | 'setContainerMtu'>
  /** What this host is to hold of one network. */
  readonly desired: (vni: Vni) => DesiredHost
  readonly overlayMtu: () => number
  readonly logger: Logger
}

export class LocalEndpoints {
  readonly #options: LocalEndpointsOptions
  readonly #dir: string
  readonly #places = new Map<EndpointKey, NetnsRecord>()
  readonly #files = new KeyedSerial()
  /** Being attached or detached: no business of the reconciler's. */
  readonly #inHand = new Map<EndpointKey, number>()
  #followed: number | null = null

  constructor(options: LocalEndpointsOptions) {
    this.#options = options
    this.#dir = join(options.dataDir, 'netns')
  }

  /** Reads what an earlier run has recorded. @throws ERR_STORAGE */
  async load(): Promise<void> {
    await ensureDirectory(this.#dir)
    for (const file of readdirSync(this.#dir)) {
      if (isTemporary(file)) await removeFile(join(this.#dir, file))
      else this.#read(file)
    }
  }

  /** Runs the work of an attach or detach; meanwhile the reconciler leaves the endpoint alone. */
  async handle<T>(key: EndpointKey, work: () => Promise<T>): Promise<T> {
    this.#inHand.set(key, (this.#inHand.get(key) ?? 0) + 1)
    try {
      return await work()
    } finally {
      const users = (this.#inHand.get(key) ?? 1) - 1
      if (users === 0) this.#inHand.delete(key)
      else this.#inHand.set(key, users)
    }
  }

  isInHand(key: EndpointKey): boolean {
    return this.#inHand.has(key)
  }

  /** To be called in the kernel's turn: the MTU is what it is then. @throws see Devices.attach */
  async attach(endpoint: Endpoint, p: { netns: string; portNumber?: number | undefined }): Promise<AttachResult> {
    const { netns, portNumber } = p
    const asked = portNumber === undefined ? {} : { portNumber }
    const { devices, desired } = this.#options
    const result = await devices.attach({ ...this.#request(endpoint, netns), ...asked }, () => desired(endpoint.vni))
    // Only now: what could not be attached must not take the place of what is.
    const { containerId, ifname } = endpoint
    const place = { netns, netnsId: lastingNetnsId(netns), bootId: this.#options.bootId }
    this.#places.set(endpointKey(containerId, ifname), place)
    this.#onDisk(endpoint, file => replaceFile(file, JSON.stringify({ containerId, ifname, ...place })))
    return result
  }

  forget(key: Key): void {
    this.#places.delete(endpointKey(key.containerId, key.ifname))
    this.#onDisk(key, file => removeFile(file))
  }

  netnsState(key: EndpointKey): NetnsState {
    const place = this.#places.get(key)
    if (place === undefined) return 'unrecorded'
    if (place.bootId !== this.#options.bootId) return 'gone'
    try {
      return isNetns(place.netns, place.netnsId) ? 'alive' : 'gone'
    } catch (err) {
      const { cause } = asVxmeshError(err)
      // Without a cause it is there and no namespace: the mount is gone. ESRCH: the process of a path in /proc is.
      return cause === undefined || isErrno(cause, 'ENOENT') || isErrno(cause, 'ESRCH') ? 'gone' : 'unreadable'
    }
  }

  /** See ReconcilerOptions.restore. */
  async restore(key: EndpointKey): Promise<Restored> {
    if (this.#inHand.has(key)) return 'pending'
    const endpoint = this.#options.state.endpoint(key)
    if (endpoint?.host !== this.#options.self) return 'pending'
    try {
      const netns = this.#find(key)
      const { devices, desired } = this.#options
      await devices.attach(this.#request(endpoint, netns), () => desired(endpoint.vni))
      return 'restored'
    } catch (err) {
      const { code, message, context } = asVxmeshError(err)
      const words = `the interface of container ${key} is gone and cannot be made again: ${message}`
      return new VxmeshError(code, words, { cause: err, context })
    }
  }

  /** Gives the containers' interfaces the MTU of today, when it is not the one that they have got. @throws ERR_KERNEL */
  async followMtu(): Promise<void> {
    const mtu = this.#options.overlayMtu()
    if (mtu === this.#followed) return
    const { state, self, devices } = this.#options
    for (const endpoint of state.endpointsOnHost(self)) {
      const place = this.#places.get(endpointKey(endpoint.containerId, endpoint.ifname))
      if (place === undefined) continue
      try {
        await devices.setContainerMtu(this.#request(endpoint, place.netns))
      } catch (err) {
        // A namespace that is gone has no interface either, and the plan says so.
        if (asVxmeshError(err).code !== 'ERR_NETNS') throw err
      }
    }
    this.#followed = mtu
  }

  /** Forgets what the state does not place here any more. To be called only while the state is current. */
  prune(): void {
    const { state, self } = this.#options
    for (const key of [...this.#places.keys()]) {
      if (this.#inHand.has(key) || state.endpoint(key)?.host === self) continue
      const [containerId = '', ifname = ''] = key.split('/')
      this.forget({ containerId: parseContainerId(containerId), ifname: parseIfName(ifname) })
    }
  }

  /** @throws ERR_NETNS with the reason */
  #find(key: EndpointKey): string {
    const place = this.#places.get(key)
    const gone = (why: string): VxmeshError => new VxmeshError('ERR_NETNS', `${why}; attach it again or detach it`)
    if (place === undefined) throw gone('its namespace is not known')
    if (place.bootId !== this.#options.bootId) throw gone('the host has rebooted since')
    let same: boolean
    try {
      same = isNetns(place.netns, place.netnsId)
    } catch {
      throw gone(`its namespace ${place.netns} is gone`)
    }
    if (!same) throw gone(`${place.netns} is another namespace by now`)
    return place.netns
  }

  #request(endpoint: Endpoint, netns: string): AttachRequest {
    const network = this.#options.state.network(endpoint.network)
    if (network === undefined) throw new VxmeshError('ERR_NETWORK_NOT_FOUND', `network ${endpoint.network} was deleted`)
    return attachRequest({ endpoint, network, overlayMtu: this.#options.overlayMtu(), netns, withRoute: true })
  }

  /**
   * Nobody waits for it, but each file's changes come in their order. A full disk must not keep a container from its
   * network: then only what needs the record after a restart is lost.
   */
  #onDisk({ containerId, ifname }: Key, change: (file: string) => Promise<void>): void {
    const file = join(this.#dir, vethName(containerId, ifname))
    this.#files
      .run(file, () => change(file))
      .catch((err: unknown) => this.#options.logger.warn({ err, containerId }, 'the record of a namespace is not kept'))
  }

  #read(file: string): void {
    try {
      const record = JSON.parse(readFileSync(join(this.#dir, file), 'utf8')) as Record<string, unknown>
      const text = (name: string): string => {
        const value = record[name]
        if (typeof value !== 'string') throw new Error(`${name} is missing`)
        return value
      }
      const key = endpointKey(parseContainerId(text('containerId')), parseIfName(text('ifname')))
      this.#places.set(key, { netns: text('netns'), netnsId: text('netnsId'), bootId: text('bootId') })
    } catch (err) {
      this.#options.logger.warn({ err, file }, "the record of a container's namespace is unreadable")
    }
  }
}
