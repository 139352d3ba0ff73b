// Numbers of 32 bits for texts. The same set of texts has the same numbers on every host and after every restart, and a text
// keeps its number when others come and go, unless their hashes collide. Pure.

const LAST = 0xffffffff

/** Each text has another number than the others, and none has 0. */
export function numbersOf(texts: Iterable<string>): ReadonlyMap<string, number> {
  const numbers = new Map<string, number>()
  const taken = new Set<number>([0])
  for (const text of [...new Set(texts)].sort()) {
    let number = hashOf(text)
    while (taken.has(number)) number = number === LAST ? 1 : number + 1
    taken.add(number)
    numbers.set(text, number)
  }
  return numbers
}

/** FNV-1a over the text's units of 16 bits, finished as murmur3 does it. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
