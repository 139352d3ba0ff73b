// Serf in memory: one list of members that every running host sees after the gossip delay, read through the real view.

import type { MembershipPort } from '#agent/machine.ts'
import type { MembershipOptions, MembershipUpdate } from '#membership/serf/membership.ts'
import { encodeTags, type AgentTags } from '#membership/view/tags.ts'
import { EMPTY_VIEW, reduceView, type MembershipView } from '#membership/view/view.ts'
import { VxmeshError } from '#model/errors.ts'
import { ipv4Of } from '#model/ip.ts'
import type { MemberStatus } from '#model/member.ts'
import type { Cancel } from '#platform/clock.ts'

const GOSSIP_MS = 20

/** Called when the operation begins; may reject. */
export type Step = (name: string) => Promise<void>

export class MemorySerf {
  readonly members = new Map<string, MemoryMembership>()

  make(options: MembershipOptions, step: Step): MemoryMembership {
    return new MemoryMembership({ serf: this, options, step })
  }

  changed(): void {
    for (const member of this.members.values()) member.hear()
  }
}

export class MemoryMembership implements MembershipPort {
  readonly logDroppedBytes = 0
  readonly options: MembershipOptions
  status: MemberStatus = 'alive'
  /** The last addresses of a reload. */
  seeds: readonly string[] = []
  readonly #serf: MemorySerf
  readonly #step: Step
  readonly #listeners: ((update: MembershipUpdate) => void)[] = []
  #tags: AgentTags
  #view: MembershipView | null = null
  #isLaunched = false
  #starting: Promise<void> = Promise.resolve()
  #cancel: Cancel | null = null

  constructor(p: { readonly serf: MemorySerf; readonly options: MembershipOptions; readonly step: Step }) {
    this.#serf = p.serf
    this.#step = p.step
    this.options = p.options
    this.#tags = p.options.tags
  }

  get record(): unknown {
    const { name, bind, port } = this.options
    const address = new Uint8Array(4)
    new DataView(address.buffer).setUint32(0, ipv4Of(bind))
    return { Name: name, Addr: address, Port: port, Status: this.status, Tags: encodeTags(this.#tags) }
  }

  view(): MembershipView | null {
    return this.#view
  }

  onChange(listener: (update: MembershipUpdate) => void): void {
    this.#listeners.push(listener)
  }

  async launch(): Promise<void> {
    await this.#step('launch serf')
    this.#isLaunched = true
    this.#serf.members.set(this.options.name, this)
    this.#serf.changed()
  }

  start(): Promise<void> {
    return (this.#starting = this.#start())
  }

  async stop(): Promise<void> {
    await this.#step('stop serf')
    this.#end('failed')
  }

  async leave(): Promise<void> {
    await this.#starting
    await this.#step('leave')
    this.#end('left')
  }

  async join(addresses: readonly string[]): Promise<number> {
    return Promise.resolve(addresses.length)
  }

  async setJoin(join: readonly string[]): Promise<void> {
    await this.#step('set join')
    this.seeds = join
  }

  setTags(change: Partial<AgentTags>): Promise<void> {
    this.#tags = { ...this.#tags, ...change }
    this.#serf.changed()
    return Promise.resolve()
  }

  stats(): ReturnType<MembershipPort['stats']> {
    return this.#isLaunched
      ? Promise.resolve({ serf: { encrypted: 'true' } })
      : Promise.reject(new VxmeshError('ERR_SERF', 'serf is not running'))
  }

  /** Something has changed somewhere. */
  hear(): void {
    if (this.#view === null || !this.#isLaunched) return
    this.#cancel ??= this.options.clock.after(GOSSIP_MS, () => {
      this.#cancel = null
      this.#update()
    })
  }

  async #start(): Promise<void> {
    await this.#step('start serf')
    this.#update()
  }

  #update(): void {
    const records = [...this.#serf.members.values()].map(({ record }) => record)
    const { view, changes } = reduceView(this.#view ?? EMPTY_VIEW, records)
    const first = this.#view === null
    this.#view = view
    if (changes.length === 0 && !first) return
    for (const listener of this.#listeners) listener({ view, changes, first })
  }

  #end(status: MemberStatus): void {
    this.#cancel?.()
    this.#cancel = null
    if (!this.#isLaunched) return
    this.#isLaunched = false
    this.status = status
    this.#serf.changed()
  }
}
