// Which backend a slot of a service's table has: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4). Each backend has about as
// many slots as any other, and most slots stay as they are when a backend comes or goes. The same on every host. Pure.

import { MAX_BACKENDS } from '#model/service.ts'

/** Table sizes, prime numbers: the smaller one for up to 51 backends, so that a backend's part is at most 5 % off (docs/adr/0065). */
export const SLOTS = { few: 1_021, many: 5_119 } as const
const FEW = 51
/** The place of a backend has to fit into a byte. */
export const BACKENDS_MAX = MAX_BACKENDS

export function slotsFor(backends: number): number {
  return backends === 0 ? 0 : backends <= FEW ? SLOTS.few : SLOTS.many
}

/**
 * For each slot the place of its backend. O(slots log slots).
 * @param backends their identities, all different, at most BACKENDS_MAX; their order decides nothing but the places
 */
export function maglev(backends: readonly string[]): Uint8Array {
  const size = slotsFor(backends.length)
  const table = new Uint8Array(size)
  const taken = new Uint8Array(size)
  const turns = backends
    .map((identity, place) => ({ identity, place, preference: preferenceOf(identity, size) }))
    .sort((a, b) => (a.identity < b.identity ? -1 : 1))
  for (let left = size; left > 0;) {
    for (const { place, preference } of turns) {
      let slot = next(preference, size)
      while (taken[slot] === 1) slot = next(preference, size)
      table[slot] = place
      taken[slot] = 1
      if (--left === 0) break
    }
  }
  return table
}

/** The order in which a backend asks for slots: scale * x^7 + shift modulo the table's size, for one x after the other. */
type Preference = { x: number; readonly scale: number; readonly shift: number }

function preferenceOf(identity: string, size: number): Preference {
  const [x, shift] = [hash(identity, 0) % size, hash(identity, 0x85ebca6b) % size]
  return { x, shift, scale: (hash(identity, 0x9e3779b9) % (size - 1)) + 1 }
}

/**
 * Meets every slot once in `size` steps, because 7 has no factor in common with `size - 1`. The paper steps by a constant
 * distance; two backends with nearly the same one then follow each other, and up to a third of a small table moves when one goes.
 */
function next(preference: Preference, size: number): number {
  const { x, scale, shift } = preference
  preference.x = x + 1 === size ? 0 : x + 1
  const cube = (((x * x) % size) * x) % size
  const seventh = (((cube * cube) % size) * x) % size
  return (seventh * scale + shift) % size
}

/** FNV-1a, and the finalizer of MurmurHash3. */
function hash(text: string, seed: number): number {
  let sum = 0x811c9dc5 ^ seed
  for (let i = 0; i < text.length; i++) sum = Math.imul(sum ^ text.charCodeAt(i), 0x01000193)
  sum = Math.imul(sum ^ (sum >>> 16), 0x85ebca6b)
  sum = Math.imul(sum ^ (sum >>> 13), 0xc2b2ae35)
  return (sum ^ (sum >>> 16)) >>> 0
}
