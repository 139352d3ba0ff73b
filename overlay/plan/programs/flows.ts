// Which flows to services are over, from what the programs noted of both of their halves (programs/flows.h). Pure.

import type { Vni } from '#model/ids.ts'
import { PROTOCOLS } from './service-entries.ts'
import { bytesOf, textOf, type Tables } from './tables.ts'

export const FLOW_KEY_BYTES = 28
export const FLOW_BYTES = 32
/** As in programs/flows.h. */
export const FLOWS_OF_HOST = 524_288

/** Seconds without a packet after which a flow is over. The clock goes forward by sweeps, so it may be half a minute earlier. */
export const IDLE = {
  /** Nobody has answered, it was reset, or both ends have ended it. */
  short: 60,
  datagrams: 180,
  /** One end has ended it. */
  half: 600,
  /** Beyond the two hours after which TCP asks whether the other end is there. */
  connection: 8_000
} as const

const MARK = { ended: 1, reset: 2, own: 4, ownBack: 8, used: 16 } as const
const [TO_SERVICE, FROM_BACKEND] = [0, 1]
/** Offsets in a key, and in a value. */
const KEY = { port: 0, address: 4, otherPort: 20, ownPort: 22, protocol: 24, way: 25 } as const
const VALUE = { address: 0, port: 16, seen: 24, marks: 28 } as const
const END_BYTES = 18
const MARKS = 32
const JUDGED_AT_ONCE = 2_000

/** Entries, keys and values back to back. */
export type FlowDump = { readonly keys: Uint8Array; readonly values: Uint8Array; readonly count: number }

export type FlowsInput = {
  /** The programs' clock as it is now, in seconds. */
  readonly now: number
  /** By ifindex, the network of each port. A flow of another one is over. */
  readonly ports: ReadonlyMap<number, Vni>
  /** Is this a backend of this port of a service? Both as `backendSet` has them. */
  readonly hasBackend: (name: string) => boolean
  /** The value of a key; null when there is none. */
  readonly find: (key: Uint8Array) => Uint8Array | null
}

/** Takes the flows in as they are read, and then says which are over. */
export class FlowJudge {
  readonly #input: FlowsInput
  /** By key, the second of its last packet and its marks: of those that have been quiet for a while. */
  readonly #quiet = new Map<string, number>()
  readonly #gone = new Set<string>()
  /** By ifindex of their port. */
  readonly #counts = new Map<number, number>()

  constructor(input: FlowsInput) {
    this.#input = input
  }

  add({ keys, values, count }: FlowDump): void {
    const { now, ports } = this.#input
    const [k, v] = [viewOf(keys), viewOf(values)]
    for (let i = 0; i < count; i++) {
      const [at, value] = [i * FLOW_KEY_BYTES, i * FLOW_BYTES]
      const port = k.getUint32(at + KEY.port, true)
      this.#counts.set(port, (this.#counts.get(port) ?? 0) + 1)
      const vni = ports.get(port)
      const key = (): string => textOf(keys.subarray(at, at + FLOW_KEY_BYTES))
      if (vni === undefined) {
        this.#gone.add(key())
        continue
      }
      const [seen, marks] = [v.getUint32(value + VALUE.seen, true), v.getUint32(value + VALUE.marks, true)]
      if (now - seen >= IDLE.short) this.#quiet.set(key(), seen * MARKS + (marks % MARKS))
      const isDatagram = k.getUint8(at + KEY.protocol) === PROTOCOLS.udp
      if (!isDatagram || k.getUint8(at + KEY.way) !== TO_SERVICE || (marks & MARK.ownBack) !== 0) continue
      // A sender of datagrams would never learn that its backend is gone.
      const one = keys.subarray(at, at + FLOW_KEY_BYTES)
      const flow = values.subarray(value, value + FLOW_BYTES)
      if (this.#input.hasBackend(nameOf(vni, one, flow))) continue
      this.#gone.add(key())
      this.#gone.add(textOf(otherHalf(one, flow)))
    }
  }

  /** The keys of those that are over, and how many each port has left, in steps of a few milliseconds. Call it after all were added. */
  *judge(): Generator<undefined, { readonly over: readonly string[]; readonly left: ReadonlyMap<number, number> }> {
    let judged = 0
    for (const [key, word] of this.#quiet) {
      if (++judged % JUDGED_AT_ONCE === 0) yield
      if (this.#gone.has(key)) continue
      const bytes = bytesOf(key)
      const value = this.#input.find(bytes)
      if (value === null) continue
      const other = otherHalf(bytes, value)
      const otherWord = this.#wordOf(other)
      if (!isOver(this.#input.now, bytes, [word, otherWord])) continue
      this.#gone.add(key)
      if (otherWord !== null) this.#gone.add(textOf(other))
    }
    const left = new Map(this.#counts)
    for (const key of this.#gone) {
      const port = viewOf(bytesOf(key)).getUint32(KEY.port, true)
      left.set(port, Math.max(0, (left.get(port) ?? 0) - 1))
    }
    return { over: [...this.#gone], left }
  }

  #wordOf(key: Uint8Array): number | null {
    const known = this.#quiet.get(textOf(key))
    if (known !== undefined) return known
    const value = this.#input.find(key)
    if (value === null) return null
    const view = viewOf(value)
    return view.getUint32(VALUE.seen, true) * MARKS + (view.getUint32(VALUE.marks, true) % MARKS)
  }
}

function isOver(now: number, key: Uint8Array, words: readonly [number, number | null]): boolean {
  const [one, other] = words
  const seen = Math.floor(Math.max(one, other ?? 0) / MARKS)
  const [a, b] = [one % MARKS, (other ?? 0) % MARKS]
  return now - seen >= idleAfter(key, a, b)
}

function idleAfter(key: Uint8Array, marks: number, otherMarks: number): number {
  const isToService = key[KEY.way] === TO_SERVICE && (marks & MARK.ownBack) === 0
  const answered = ((isToService ? otherMarks : marks) & MARK.used) !== 0
  if (((marks | otherMarks) & MARK.reset) !== 0 || !answered) return IDLE.short
  if (key[KEY.protocol] === PROTOCOLS.udp) return IDLE.datagrams
  if ((marks & otherMarks & MARK.ended) !== 0) return IDLE.short
  return ((marks | otherMarks) & MARK.ended) === 0 ? IDLE.connection : IDLE.half
}

/** The key of a flow's other half: see answer_key in programs/services.h. */
export function otherHalf(key: Uint8Array, value: Uint8Array): Uint8Array {
  const other = Uint8Array.from(key)
  const marks = viewOf(value).getUint32(VALUE.marks, true)
  const port = value.subarray(VALUE.port, VALUE.port + 2)
  if ((marks & (MARK.own | MARK.ownBack)) === 0) {
    other.set(value.subarray(VALUE.address, VALUE.address + 16), KEY.address)
    other.set(port, KEY.otherPort)
    other[KEY.way] = key[KEY.way] === TO_SERVICE ? FROM_BACKEND : TO_SERVICE
    return other
  }
  const isBack = (marks & MARK.ownBack) !== 0
  const [otherPort, ownPort] = [KEY.otherPort, KEY.ownPort].map(at => key.subarray(at, at + 2))
  other.set(isBack ? port : (ownPort ?? []), KEY.otherPort)
  other.set(isBack ? (otherPort ?? []) : port, KEY.ownPort)
  return other
}

/** All backends of all services that these tables have, each with its service's port. */
export function backendSet(tables: Tables): ReadonlySet<string> {
  const names = new Set<string>()
  for (const { backends } of tables.values())
    backends.forEach((value, key) => names.add(String(key).slice(0, -1) + String(value).slice(0, END_BYTES)))
  return names
}

function nameOf(vni: Vni, key: Uint8Array, value: Uint8Array): string {
  const service = new Uint8Array(23)
  viewOf(service).setUint32(0, vni, true)
  service.set(key.subarray(KEY.address, KEY.address + END_BYTES), 4)
  service[22] = key[KEY.protocol] ?? 0
  return textOf(service) + textOf(value.subarray(VALUE.address, VALUE.address + END_BYTES))
}

/** The flows that each of so many ports may have whatever the others have: all of these together are half of a host's. */
export function shareOf(ports: number): number {
  return FLOWS_OF_HOST / 2 / 2 ** Math.ceil(Math.log2(Math.max(ports, 1)))
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}
