// The agent's part of flows on a real map: its clock, what it removes, and the counts.

import t, { type Test } from 'tap'
import { parseVni, type Vni } from '#model/ids.ts'
import { closeDatapath, loadDatapath, readObjects, type Datapath } from '#overlay/bpf/datapath.ts'
import { FlowTable } from '#overlay/bpf/flow-table.ts'
import type { BpfMap } from '#overlay/bpf/map.ts'
import { word } from '#overlay/plan/programs/entries.ts'
import { IDLE, shareOf } from '#overlay/plan/programs/flows.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const vni = parseVni(7)
const [PORT, OTHER, GONE] = [5, 6, 9]
const PORTS: ReadonlyMap<number, Vni> = new Map([
  [PORT, vni],
  [OTHER, parseVni(8)]
])
const [TCP, USED] = [6, 16]

class Bench {
  readonly #datapath: Datapath
  table: FlowTable

  constructor(t: Test) {
    this.#datapath = loadDatapath(readObjects())
    t.teardown(() => closeDatapath(this.#datapath))
    this.table = new FlowTable(this.#datapath.maps)
    for (const port of [PORT, OTHER]) this.map('flow_counts').set([{ key: word(port), value: new Uint8Array(8) }])
  }

  map(name: string): BpfMap {
    const map = this.#datapath.maps.get(`vxm_${name}`)
    if (map === undefined) throw new Error(`no map ${name}`)
    return map
  }

  /** As an agent that starts. */
  restart(): void {
    this.table = new FlowTable(this.#datapath.maps)
  }

  /** Both halves of established connections, from this client port on, last seen now. */
  add(port: number, from: number, count: number): void {
    const entries = Array.from({ length: count * 2 }, (_, i) => {
      const [key, value] = [Buffer.alloc(28), Buffer.alloc(32)]
      const isAnswer = i % 2 === 1
      key.writeUInt32LE(port, 0)
      key.writeUInt8(isAnswer ? 2 : 1, 4)
      key.writeUInt16BE(from + (i >> 1), 22)
      key.writeUInt8(TCP, 24)
      key.writeUInt8(Number(isAnswer), 25)
      value.writeUInt8(isAnswer ? 1 : 2, 0)
      value.writeUInt32LE(this.clock, 24)
      value.writeUInt32LE(USED, 28)
      return { key, value }
    })
    this.map('flows').set(entries)
  }

  get clock(): number {
    return Buffer.from(this.map('flow_state').get(word(0)) ?? []).readUInt32LE(8)
  }

  get state(): { count: number; share: number } {
    const state = Buffer.from(this.map('flow_state').get(word(0)) ?? [])
    return { count: state.readUInt32LE(0), share: state.readUInt32LE(12) }
  }

  countOf(port: number): number {
    return Buffer.from(this.map('flow_counts').get(word(port)) ?? []).readUInt32LE(0)
  }

  get size(): number {
    return this.map('flows').dump().count
  }

  sweep(nowSeconds: number): Promise<void> {
    return this.table.sweep({ nowSeconds, ports: PORTS, served: 2, tables: new Map() })
  }
}

t.test('a sweep counts the flows of each port, and removes those of ports that are gone', { skip }, async t => {
  const bench = new Bench(t)
  bench.add(PORT, 1, 3_000)
  bench.add(OTHER, 1, 1)
  bench.add(GONE, 1, 6_000)
  t.equal(bench.table.mayHave(vni), true, 'nobody has looked yet')
  await bench.sweep(100)
  t.same([bench.size, bench.countOf(PORT), bench.countOf(OTHER)], [6_002, 6_000, 2])
  t.same(bench.state, { count: 6_002, share: shareOf(2) })
  t.same(
    [vni, parseVni(8), parseVni(9)].map(each => bench.table.mayHave(each)),
    [true, true, false]
  )
})

t.test('flows grow old by what an agent has seen pass, never by more than half a minute at once', { skip }, async t => {
  const bench = new Bench(t)
  await bench.sweep(1_000_000)
  t.equal(bench.clock, 0, 'the first sweep of a run does not know how long nobody has looked')
  bench.add(PORT, 1, 1)
  await bench.sweep(1_000_020)
  t.equal(bench.clock, 20)
  await bench.sweep(1_009_999)
  t.equal(bench.clock, 50, 'a late sweep')
  await bench.sweep(1_009_998)
  t.equal(bench.clock, 50, 'a clock that goes back')
  bench.restart()
  await bench.sweep(5)
  t.equal(bench.clock, 50, 'another run')
  t.equal(bench.size, 2)
  let now = 5
  while (bench.clock < IDLE.connection - 30) await bench.sweep((now += 30))
  t.equal(bench.size, 2, 'an established connection stays long')
  await bench.sweep(now + 30)
  t.equal(bench.size, 0)
  t.same([bench.countOf(PORT), bench.state.count, bench.table.mayHave(vni)], [0, 0, false])
})

t.test('a sweep is due every 20 s, and no longer without services and flows', { skip }, async t => {
  const bench = new Bench(t)
  t.equal(bench.table.isDue(0, 0), true, 'an earlier run may have left flows')
  await bench.sweep(0)
  t.same(
    [0, 19, 20].map(now => bench.table.isDue(now, 1)),
    [false, false, true]
  )
  t.equal(bench.table.isDue(1_000, 0), false)
  bench.add(PORT, 1, 1)
  await bench.sweep(1_000)
  t.equal(bench.table.isDue(1_020, 0), true)
})
