// How a mesh that was cut heals after any time. Serf itself reconnects to failed members for a day and then forgets them;
// this host remembers addresses on disk, and keeps joining them.

import { join } from 'node:path'
import type { PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { formatSocketAddress } from '#model/socket-address.ts'
import type { Clock } from '#platform/clock.ts'
import { readIfExists, writeDurably } from '#platform/files.ts'
import type { Random } from '#platform/random.ts'

const BACK_OFF_MIN_MS = 1_000
/** For a host that sees no live peer. */
const ALONE_MAX_MS = 15_000
/** For a host that misses some of its peers, which may be gone for good. */
const MISSING_MAX_MS = 60_000
/** Addresses remembered; the least recently alive one is forgotten first. */
const MAX_ADDRESSES = 1_024

export type RejoinOptions = {
  readonly self: PeerId
  readonly dir: string
  readonly clock: Clock
  readonly random: Random
}

/** Addresses to join now. `alone`: no peer is alive. */
export type RejoinAttempt = { readonly alone: boolean; readonly addresses: readonly string[] }

export class Rejoin {
  readonly #options: RejoinOptions
  /** Known addresses, the least recently alive one first; null until the file has been read. */
  #remembered: Set<string> | null = null
  #saved = ''
  /** The members that are remembered already. */
  #seen: readonly Member[] = []
  #backOffMs = BACK_OFF_MIN_MS
  #dueMs = 0
  /** The addresses that the back-off applies to; other ones reset it. */
  #missing = ''

  constructor(options: RejoinOptions) {
    this.#options = options
  }

  /** The next attempt is due at once. */
  reset(): void {
    this.#backOffMs = BACK_OFF_MIN_MS
    this.#dueMs = 0
  }

  /** Remembers who is alive, and forgets who has left. @throws ERR_STORAGE */
  async remember(members: readonly Member[]): Promise<void> {
    if (members === this.#seen) return
    const remembered = await this.#load()
    for (const member of this.#others(members)) {
      const address = formatSocketAddress(member)
      if (member.status === 'left') remembered.delete(address)
      if (member.status !== 'alive') continue
      remembered.delete(address)
      remembered.add(address)
    }
    for (const address of remembered) {
      if (remembered.size <= MAX_ADDRESSES) break
      remembered.delete(address)
    }
    const text = JSON.stringify([...remembered].sort())
    if (text !== this.#saved) await writeDurably(this.#path, text)
    this.#saved = text
    this.#seen = members
  }

  /**
   * The addresses to join, or null if no attempt is due; the next one is due after the back-off. `seeds`: the
   * configured addresses.
   */
  async next(members: readonly Member[], seeds: readonly string[]): Promise<RejoinAttempt | null> {
    const { clock, random } = this.#options
    const others = this.#others(members)
    const alone = !others.some(({ status }) => status === 'alive')
    // Serf itself reconnects to a failed member as long as it lists it.
    const listed = new Set(others.map(formatSocketAddress))
    const remembered = [...(await this.#load())]
    const addresses = alone ? [...new Set([...seeds, ...remembered])] : remembered.filter(known => !listed.has(known))
    const missing = `${alone} ${addresses.join(' ')}`
    if (missing !== this.#missing) this.reset()
    this.#missing = missing
    if (addresses.length === 0 || clock.nowMs() < this.#dueMs) return null
    this.#dueMs = clock.nowMs() + this.#backOffMs * (alone ? 1 : 0.5 + random.unit())
    this.#backOffMs = Math.min(this.#backOffMs * 2, alone ? ALONE_MAX_MS : MISSING_MAX_MS)
    if (alone) return { alone, addresses }
    // One is enough, because joining it also finds all members that it knows; each unreachable one holds Serf for ten
    // seconds.
    const one = addresses[Math.floor(random.unit() * addresses.length)]
    return one === undefined ? null : { alone, addresses: [one] }
  }

  #others(members: readonly Member[]): readonly Member[] {
    return members.filter(({ peerId }) => peerId !== this.#options.self)
  }

  get #path(): string {
    return join(this.#options.dir, 'peers.json')
  }

  /** A damaged file counts as empty. */
  async #load(): Promise<Set<string>> {
    if (this.#remembered !== null) return this.#remembered
    const text = (await readIfExists(this.#path))?.toString() ?? '[]'
    this.#saved = text
    return (this.#remembered = new Set(addressesIn(text)))
  }
}

function addressesIn(text: string): readonly string[] {
  try {
    const parsed: unknown = JSON.parse(text)
    return Array.isArray(parsed) ? parsed.filter(item => typeof item === 'string') : []
  } catch {
    return []
  }
}
