// Answers of upstream resolvers until their TTL ends, one cache a network: no tenant sees what another has asked for, or pushes it out.
// Bounded in bytes; the one that was used least recently goes first. Pure.

import type { ForeignAnswer } from './foreign-answer.ts'

/** Of an entry beside its records and its key. */
const ENTRY_BYTES = 300
const BYTES_A_TTL = 8

type Entry = { readonly answer: ForeignAnswer; readonly bytes: number; readonly sinceMs: number }

export class AnswerCache {
  readonly #maxBytes: number
  /** The least recently used one first. */
  readonly #entries = new Map<string, Entry>()
  #bytes = 0

  /** @param maxBytes 0: nothing is kept */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  get(key: string, nowMs: number): { readonly answer: ForeignAnswer; readonly ageS: number } | null {
    const entry = this.#entries.get(key)
    if (entry === undefined) return null
    const ageS = Math.floor((nowMs - entry.sinceMs) / 1_000)
    this.#remove(key, entry)
    if (ageS >= entry.answer.keepS) return null
    this.#add(key, entry)
    return { answer: entry.answer, ageS }
  }

  put(key: string, answer: ForeignAnswer, nowMs: number): void {
    const bytes = ENTRY_BYTES + 2 * key.length + answer.records.length + BYTES_A_TTL * answer.ttls.length
    if (answer.keepS <= 0 || bytes > this.#maxBytes) return
    const before = this.#entries.get(key)
    if (before !== undefined) this.#remove(key, before)
    this.#add(key, { answer, bytes, sinceMs: nowMs })
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#maxBytes) break
      this.#remove(oldest, entry)
    }
  }

  #add(key: string, entry: Entry): void {
    this.#entries.set(key, entry)
    this.#bytes += entry.bytes
  }

  #remove(key: string, entry: Entry): void {
    this.#entries.delete(key)
    this.#bytes -= entry.bytes
  }
}
