// Writes BTF as clang does (Documentation/bpf/btf.rst of the kernel), and as it never would.

const KIND = {
  int: 1,
  pointer: 2,
  array: 3,
  struct: 4,
  typedef: 8,
  volatile: 9,
  const: 10,
  var: 14,
  datasec: 15
} as const
const MAGIC = 0xeb9f
const HEADER_BYTES = 24

export class BtfBuilder {
  readonly #words: number[] = []
  #text = '\0'
  #types = 0

  /** The methods return the id of the type, the first being 1. */
  int(name: string, bytes: number): number {
    return this.#type('int', { name, sizeOrType: bytes }, [bytes * 8])
  }

  pointer(to: number): number {
    return this.#type('pointer', { sizeOrType: to })
  }

  array(of: number, length: number): number {
    return this.#type('array', {}, [of, 1, length])
  }

  alias(kind: 'typedef' | 'volatile' | 'const', of: number): number {
    return this.#type(kind, { name: kind === 'typedef' ? 'name' : '', sizeOrType: of })
  }

  struct(members: Readonly<Record<string, number>>, bytes = 0): number {
    const all = Object.entries(members)
    const words = all.flatMap(([name, type]) => [this.#string(name), type, 0])
    return this.#type('struct', { sizeOrType: bytes, length: all.length }, words)
  }

  variable(name: string, type: number): number {
    return this.#type('var', { name, sizeOrType: type }, [1])
  }

  /** A section of variables, by name, with the bytes of each; offsets are the linker's. */
  section(name: string, variables: readonly (readonly [id: number, bytes: number])[]): number {
    const words = variables.flatMap(([id, bytes]) => [id, 0, bytes])
    return this.#type('datasec', { name, length: variables.length }, words)
  }

  /** A pointer to an array of this length: how an attribute of a map is written. */
  number(value: number): number {
    return this.pointer(this.array(1, value))
  }

  /** The id that the next type will have. */
  get next(): number {
    return this.#types + 1
  }

  bytes(): Uint8Array {
    const [types, text] = [this.#words.length * 4, Buffer.from(this.#text)]
    const bytes = Buffer.alloc(HEADER_BYTES + types + text.length)
    bytes.writeUInt16LE(MAGIC, 0)
    bytes.writeUInt8(1, 2)
    for (const [i, word] of [HEADER_BYTES, 0, types, types, text.length].entries()) bytes.writeUInt32LE(word, 4 + i * 4)
    for (const [i, word] of this.#words.entries()) bytes.writeUInt32LE(word, HEADER_BYTES + i * 4)
    text.copy(bytes, HEADER_BYTES + types)
    return new Uint8Array(bytes)
  }

  #type(
    kind: keyof typeof KIND,
    p: { readonly name?: string; readonly sizeOrType?: number; readonly length?: number },
    more: readonly number[] = []
  ): number {
    const { name = '', sizeOrType = 0, length = 0 } = p
    this.#words.push(this.#string(name), (KIND[kind] << 24) | length, sizeOrType, ...more)
    return ++this.#types
  }

  #string(text: string): number {
    if (text === '') return 0
    const offset = this.#text.length
    this.#text += `${text}\0`
    return offset
  }
}
