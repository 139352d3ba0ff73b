// Devices of an overlay driver, kept in memory: interfaces appear and disappear as in a kernel, and any operation can be
// made to fail.

import type { Shaping } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import { formatIp } from '#model/ip.ts'
import type { AttachRequest, AttachResult, Counters, DetachRequest, Devices, ShapeRequest } from '#overlay/driver.ts'

type Operation =
  | 'attach'
  | 'check'
  | 'counters'
  | 'detach'
  | 'installedShaping'
  | 'portNumber'
  | 'shape'
  | 'shapingSupport'
  | 'updateContainer'

export class MemoryDevices implements Pick<Devices, Operation> {
  /** Attached interfaces by host interface. */
  readonly interfaces = new Map<string, AttachRequest>()
  /** What each interface counts; 0 for one that is not in here. */
  readonly counted = new Map<string, Partial<Counters>>()
  /** Operations in order, as `operation hostInterface`. */
  readonly calls: string[] = []
  readonly failures = new Map<Operation, Error>()
  support = { rate: true, fqCodel: true, delay: true }
  #nextIfindex = 7
  readonly #ifindexes = new Map<string, number>()

  async attach(request: AttachRequest): Promise<AttachResult> {
    const { hostInterface } = request
    await this.#call('attach', hostInterface)
    const created = !this.interfaces.has(hostInterface)
    if (created) this.#ifindexes.set(hostInterface, this.#nextIfindex++)
    this.interfaces.set(hostInterface, request)
    return { created, hostInterface, ifindex: this.portNumber(hostInterface) }
  }

  async detach({ hostInterface }: DetachRequest): Promise<{ readonly removed: boolean }> {
    await this.#call('detach', hostInterface)
    return { removed: this.interfaces.delete(hostInterface) }
  }

  async updateContainer({ hostInterface, mtu, addresses }: AttachRequest): Promise<void> {
    const texts = addresses.map(({ address }) => formatIp(address))
    await this.#call('updateContainer', [hostInterface, mtu, ...texts].join(' '))
  }

  async shape({ hostInterface, shaping }: ShapeRequest): Promise<void> {
    await this.#call('shape', hostInterface)
    const before = this.interfaces.get(hostInterface)
    if (before !== undefined) this.interfaces.set(hostInterface, { ...before, shaping })
  }

  async installedShaping({ hostInterface }: ShapeRequest): Promise<Shaping | null> {
    await this.#call('installedShaping', hostInterface)
    return this.interfaces.get(hostInterface)?.shaping ?? null
  }

  async shapingSupport(): Promise<typeof this.support> {
    await this.#call('shapingSupport')
    return this.support
  }

  /** Checks only that the interface is there, and in that namespace. */
  async check({ hostInterface, netns }: AttachRequest): Promise<void> {
    await this.#call('check', hostInterface)
    const found = this.interfaces.get(hostInterface)
    if (found === undefined) throw new VxmeshError('ERR_CHECK_FAILED', `${hostInterface} is missing`)
    if (found.netns !== netns) throw new VxmeshError('ERR_CHECK_FAILED', `${hostInterface} is in ${found.netns}`)
  }

  portNumber(hostInterface: string): number {
    return this.#ifindexes.get(hostInterface) ?? 0
  }

  async counters(): Promise<ReadonlyMap<string, Counters>> {
    await this.#call('counters')
    const nothing = { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 }
    return new Map(
      [...this.interfaces.keys()].map(name => [
        name,
        { ifindex: this.portNumber(name), ...nothing, ...this.counted.get(name) }
      ])
    )
  }

  #call(operation: Operation, subject?: string): Promise<void> {
    this.calls.push(subject === undefined ? operation : `${operation} ${subject}`)
    const failure = this.failures.get(operation)
    return failure === undefined ? Promise.resolve() : Promise.reject(failure)
  }
}
