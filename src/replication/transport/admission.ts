// Which inbound connections are accepted, decided before a byte is read: a token bucket and a bound of unproven
// connections for each source, and one of each for all strangers together. Addresses of members are exempt from the latter,
// so that hosts find each other while strangers flood the port. A source is an address; of strangers with IPv6 addresses it is
// a /64, for who has one address of it can have them all.

import { BlockList } from 'node:net'
import { formatIp, networkOf, parseIp } from '#model/ip.ts'
import type { Clock } from '#platform/clock.ts'
import type { Refusals } from './refusals.ts'

/**
 * Connections of one source in a burst, and each second after it. A hundred hosts behind one address that all restart may
 * dial five times each at once. A connection of garbage costs about 0.5 ms of CPU, so one source costs 3 % of a core.
 */
export const SOURCE_BURST = 512
export const SOURCE_PER_SECOND = 64
/** Connections of one source that have not proved the key yet. An honest one proves it within a round trip or two. */
export const SOURCE_UNPROVEN = 256
/** The IPv6 prefix that is one source: that of a link. */
const STRANGERS_PREFIX = 64
/** The same for all sources that are no member's address: a host that joins, or hosts behind address translation. */
export const STRANGERS_BURST = 1_024
export const STRANGERS_PER_SECOND = 256
/** About 10 KiB of memory each, for at most the time limit of the preamble. */
export const STRANGERS_UNPROVEN = 1_024
/**
 * Sources remembered. The strangers' bucket admits fewer than this before idle ones are forgotten; members are
 * additional.
 */
const MAX_SOURCES = 8_192

type AdmissionOptions = {
  /** Is this, in canonical form, the address of a member? */
  readonly isMember: (address: string) => boolean
  readonly refusals: Refusals
  readonly clock: Clock
}

type Rate = { readonly burst: number; readonly perSecond: number }

class TokenBucket {
  readonly #rate: Rate
  #tokens: number
  #atMs: number

  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate
    this.#tokens = rate.burst
    this.#atMs = nowMs
  }

  available(nowMs: number): number {
    const { burst, perSecond } = this.#rate
    this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#atMs) * perSecond) / 1_000)
    this.#atMs = nowMs
    return this.#tokens
  }

  take(): void {
    this.#tokens -= 1
  }
}

type Source = { readonly bucket: TokenBucket; unproven: number }

export class Admission {
  readonly #options: AdmissionOptions
  readonly #sources = new Map<string, Source>()
  readonly #strangers: Source

  constructor(options: AdmissionOptions) {
    this.#options = options
    const bucket = new TokenBucket({ burst: STRANGERS_BURST, perSecond: STRANGERS_PER_SECOND }, options.clock.nowMs())
    this.#strangers = { bucket, unproven: 0 }
  }

  /** Decides on a connection that was just accepted; false: it is closed unread. */
  admits(address: string): boolean {
    const nowMs = this.#options.clock.nowMs()
    const { key, strangers } = this.#sourceOf(address)
    const known = this.#sources.get(key)
    // A source beyond its own bounds must not use up the bounds that strangers share.
    const refused =
      (known !== undefined && (known.unproven >= SOURCE_UNPROVEN || known.bucket.available(nowMs) < 1)) ||
      (strangers !== null && (strangers.unproven >= STRANGERS_UNPROVEN || strangers.bucket.available(nowMs) < 1))
    const source = refused ? null : (known ?? this.#remember(key, nowMs))
    if (source === null) {
      this.#options.refusals.count('too many connections', address)
      return false
    }
    source.bucket.take()
    strangers?.bucket.take()
    return true
  }

  /** An admitted connection starts to prove the key. @returns what ends that; call it once */
  startProof(address: string): () => void {
    const { key, strangers } = this.#sourceOf(address)
    const source = this.#sources.get(key) ?? this.#remember(key, this.#options.clock.nowMs())
    const counted = [source, strangers].filter(s => s !== null)
    for (const each of counted) each.unproven += 1
    return () => {
      for (const each of counted) each.unproven -= 1
    }
  }

  /**
   * For `net.createServer`, which consults its block list on each accept, before it creates a socket: a refused connection
   * costs an accept and a close.
   */
  asBlockList(): BlockList {
    return new AdmissionList(this)
  }

  /** The bounds that a connection from this address counts against. @param address as its socket reports it, zone included */
  #sourceOf(address: string): { readonly key: string; readonly strangers: Source | null } {
    const [plain = ''] = address.split('%')
    const ip = plain.includes(':') ? parseIp(plain) : null
    const key = ip === null ? plain : formatIp(ip)
    if (this.#options.isMember(key)) return { key, strangers: null }
    return { key: ip === null ? key : formatIp(networkOf(ip, STRANGERS_PREFIX)), strangers: this.#strangers }
  }

  #remember(key: string, nowMs: number): Source {
    if (this.#sources.size >= MAX_SOURCES) this.#forgetIdle(nowMs)
    const rate = { burst: SOURCE_BURST, perSecond: SOURCE_PER_SECOND }
    const source = { bucket: new TokenBucket(rate, nowMs), unproven: 0 }
    this.#sources.set(key, source)
    return source
  }

  /** A source with a full bucket and no open proof is like a new one. */
  #forgetIdle(nowMs: number): void {
    for (const [key, { bucket, unproven }] of this.#sources) {
      if (unproven === 0 && bucket.available(nowMs) >= SOURCE_BURST) this.#sources.delete(key)
    }
  }
}

class AdmissionList extends BlockList {
  readonly #admission: Admission

  constructor(admission: Admission) {
    super()
    this.#admission = admission
  }

  override check(address: unknown): boolean {
    return !this.#admission.admits(String(address))
  }
}
