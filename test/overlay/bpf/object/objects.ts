// The objects that scripts/build-bpf has built, and what becomes of their bytes on a bad disk.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { readElf } from '#overlay/bpf/object/elf.ts'

export const OBJECTS = ['container', 'overlay', 'underlay'] as const
export type ObjectName = (typeof OBJECTS)[number]

/** Processor time within which any input must be read or refused; the real ones take a millisecond. */
const SLOW_MS = 2_000

export function objectBytes(name: ObjectName): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`../../../../dist/bpf/${name}.o`, import.meta.url)))
}

/** Where an object has a field of the header of a section (elf(5)). */
export function headerAt(bytes: Uint8Array, section: string, field: keyof typeof FIELDS): number {
  const index = readElf(bytes).sections.findIndex(({ name }) => name === section)
  if (index === -1) throw new Error(`no section ${section}`)
  const table = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(40, true)
  return Number(table) + index * 64 + FIELDS[field]
}

const FIELDS = { name: 0, type: 4, offset: 24, size: 32, link: 40 }

export type Outcomes = { read: number; refused: number }

/** Reads every prefix of the bytes, in steps. @returns how many were read and refused @throws what is no RangeError */
export function readPrefixes(bytes: Uint8Array, read: (bytes: Uint8Array) => unknown, step = 1): Outcomes {
  const outcomes = { read: 0, refused: 0 }
  for (let length = 0; length < bytes.length; length += step) attempt(outcomes, () => read(bytes.slice(0, length)))
  return outcomes
}

/** Reads copies with one byte changed. @returns how many were read and refused @throws what is no RangeError, with the change */
export function readChanged(bytes: Uint8Array, read: (bytes: Uint8Array) => unknown, numRuns: number): Outcomes {
  const outcomes = { read: 0, refused: 0 }
  fc.assert(
    fc.property(fc.nat({ max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = bytes.slice()
      changed[at] = (changed[at] ?? 0) ^ change
      attempt(outcomes, () => read(changed))
    }),
    { numRuns }
  )
  return outcomes
}

function attempt(outcomes: Outcomes, read: () => unknown): void {
  const since = process.cpuUsage()
  try {
    read()
    outcomes.read++
  } catch (err) {
    if (!(err instanceof RangeError)) throw err
    outcomes.refused++
  }
  const { user, system } = process.cpuUsage(since)
  assert(user + system < SLOW_MS * 1_000, `${(user + system) / 1_000} ms`)
}

/** A copy with a number in other bytes. */
export function patched(bytes: Uint8Array, at: number, value: number | bigint, width: 1 | 2 | 4 | 8): Uint8Array {
  const copy = bytes.slice()
  const view = new DataView(copy.buffer)
  if (width === 8) view.setBigUint64(at, BigInt(value), true)
  else if (width === 4) view.setUint32(at, Number(value), true)
  else if (width === 2) view.setUint16(at, Number(value), true)
  else view.setUint8(at, Number(value))
  return copy
}
