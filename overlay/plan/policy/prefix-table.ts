// A table in which the longest stored prefix of a key is found, as in the kernel's BPF_MAP_TYPE_LPM_TRIE. Keys are bits, the first
// one the highest. Pure.

export class PrefixTable<Value> {
  readonly #keyBits: number
  readonly #byLength = new Map<number, Map<bigint, Value>>()

  /** @param keyBits of every key */
  constructor(keyBits: number) {
    this.#keyBits = keyBits
  }

  /** @param length how many bits of the key, from the highest, must be those of a key that is looked up */
  add(key: bigint, length: number, value: Value): void {
    const table = this.#byLength.get(length) ?? new Map<bigint, Value>()
    this.#byLength.set(length, table.set(this.#kept(key, length), value))
  }

  find(key: bigint): Value | undefined {
    for (let length = this.#keyBits; length >= 0; length--) {
      const found = this.#byLength.get(length)?.get(this.#kept(key, length))
      if (found !== undefined) return found
    }
    return undefined
  }

  #kept(key: bigint, length: number): bigint {
    return key >> BigInt(this.#keyBits - length)
  }
}
