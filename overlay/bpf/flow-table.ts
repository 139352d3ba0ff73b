// The flows of services in the kernel: the agent sets the programs' clock forward, removes flows that are over, and corrects what the
// programs counted. The programs alone write flows, so all of them survive the agent.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Vni } from '#model/ids.ts'
import { word } from '../plan/programs/entries.ts'
import { backendSet, FlowJudge, FLOW_KEY_BYTES, shareOf } from '../plan/programs/flows.ts'
import { bytesOf, type Tables } from '../plan/programs/tables.ts'
import type { BpfMap } from './map.ts'

/** Seconds between two sweeps that nothing but the time calls for. */
const SWEEP_SECONDS = 20
/** By how much the clock goes forward at most: less than any flow may be idle, so that none in use looks idle after a late sweep. */
const STEP_SECONDS = 30
/** Keys that are removed before the event loop gets a turn. */
const REMOVED_AT_ONCE = 5_000
const STATE = { count: 0, clock: 8, share: 12 } as const

export class FlowTable {
  readonly #maps: ReadonlyMap<string, BpfMap>
  /** Null: not in this run. While no agent runs, no flow grows older. */
  #sweptAt: number | null = null
  /** Of the last sweep. */
  #left = Infinity
  #networks: ReadonlySet<Vni> | null = null

  /** @param maps by name */
  constructor(maps: ReadonlyMap<string, BpfMap>) {
    this.#maps = maps
  }

  /** Did the last sweep leave flows in this network? True before the first one. */
  mayHave(vni: Vni): boolean {
    return this.#networks?.has(vni) ?? true
  }

  /** Never again while no port has services and no flow is left. @param served how many ports have services */
  isDue(nowSeconds: number, served: number): boolean {
    const isTime = this.#sweptAt === null || nowSeconds - this.#sweptAt >= SWEEP_SECONDS
    return isTime && (served > 0 || this.#left > 0)
  }

  /**
   * @param p.ports by ifindex, the network of each @param p.served how many of them have services
   * @param p.tables what the programs' tables hold @throws ERR_KERNEL
   */
  async sweep(p: {
    readonly nowSeconds: number
    readonly ports: ReadonlyMap<number, Vni>
    readonly served: number
    readonly tables: Tables
  }): Promise<void> {
    const { nowSeconds, ports } = p
    const [flows, counts] = [this.#map('flows'), this.#map('flow_counts')]
    const now = this.#clock() + Math.min(STEP_SECONDS, Math.max(0, nowSeconds - (this.#sweptAt ?? nowSeconds)))
    this.#sweptAt = nowSeconds
    let known: ReadonlySet<string> | null = null
    const hasBackend = (name: string): boolean => (known ??= backendSet(p.tables)).has(name)
    const find = (key: Uint8Array): Uint8Array | null => flows.get(key)
    const judge = new FlowJudge({ now, ports, hasBackend, find })
    let all = 0
    for (const part of flows.parts()) {
      judge.add(part)
      all += part.count
      await nextTurn()
    }
    const steps = judge.judge()
    let step = steps.next()
    for (; step.done !== true; step = steps.next()) await nextTurn()
    const { over, left } = step.value
    for (let at = 0; at < over.length; at += REMOVED_AT_ONCE) {
      const part = over.slice(at, at + REMOVED_AT_ONCE)
      const keys = new Uint8Array(part.length * FLOW_KEY_BYTES)
      for (const [i, key] of part.entries()) keys.set(bytesOf(key), i * FLOW_KEY_BYTES)
      flows.remove(keys, part.length)
      await nextTurn()
    }
    for (const port of ports.keys()) {
      const count = left.get(port) ?? 0
      const before = counts.get(word(port))
      if (before === null || new DataView(before.buffer).getUint32(0, true) !== count)
        counts.set([{ key: word(port), value: long(count) }])
    }
    this.#networks = new Set([...ports].flatMap(([port, vni]) => ((left.get(port) ?? 0) > 0 ? [vni] : [])))
    this.#left = Math.max(0, all - over.length)
    this.#setState({ count: this.#left, clock: now, share: shareOf(p.served) })
  }

  #clock(): number {
    const value = this.#map('flow_state').get(word(0))
    return value === null ? 0 : new DataView(value.buffer).getUint32(STATE.clock, true)
  }

  #map(name: string): BpfMap {
    const map = this.#maps.get(`vxm_${name}`)
    if (map === undefined) throw new Error(`no map vxm_${name}`)
    return map
  }

  #setState({ count, clock, share }: { readonly count: number; readonly clock: number; readonly share: number }): void {
    const state = this.#map('flow_state')
    const value = new Uint8Array(state.valueBytes)
    const view = new DataView(value.buffer)
    view.setUint32(STATE.count, count, true)
    view.setUint32(STATE.clock, clock, true)
    view.setUint32(STATE.share, share, true)
    state.set([{ key: word(0), value }])
  }
}

function long(value: number): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}
