// Reads BTF, the types of a BPF object (Documentation/bpf/btf.rst of the kernel): the attributes of its maps are encoded in
// them, and the kernel takes them over so that bpftool shows keys and values by name. Pure.

import { textAt } from './elf.ts'

/** An integer, an array, a struct... The id of a type is its index; id 0 is void. */
type BtfType = {
  readonly kind: number
  readonly name: string
  /** Of a struct, union, integer or enumeration in bytes; the referenced type of others. */
  readonly sizeOrType: number
  /** Where its own record follows, in bytes from the start of the BTF. */
  readonly at: number
  readonly length: number
}

const KIND = { int: 1, pointer: 2, array: 3, struct: 4, union: 5, enum: 6, typedef: 8, volatile: 9, const: 10 } as const
const [RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, DECL_TAG, ENUM64, TYPE_TAG] = [11, 12, 13, 14, 15, 17, 19, 18]
const ALIASES: readonly number[] = [KIND.typedef, KIND.volatile, KIND.const, RESTRICT, TYPE_TAG]

const MAGIC = 0xeb9f
const TYPE_BYTES = 12
const MEMBER_BYTES = 12
/** Bytes that follow a type's record: once, or for each of its members. */
const ONCE: Readonly<Record<number, number>> = { [KIND.int]: 4, [KIND.array]: 12, [VAR]: 4, [DECL_TAG]: 4 }
const EACH: Readonly<Record<number, number>> = {
  [KIND.struct]: MEMBER_BYTES,
  [KIND.union]: MEMBER_BYTES,
  [KIND.enum]: 8,
  [FUNC_PROTO]: 8,
  [DATASEC]: 12,
  [ENUM64]: 12
}

/** What the object says of one of its maps. */
export type MapShape = {
  readonly name: string
  readonly type: number
  readonly maxEntries: number
  readonly flags: number
  readonly key: { readonly bytes: number; readonly typeId: number }
  readonly value: { readonly bytes: number; readonly typeId: number }
}

export class Btf {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #text: Uint8Array
  readonly #types: readonly BtfType[]

  /** @throws RangeError when it cannot be read */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    if (bytes.length < 24 || this.#view.getUint16(0, true) !== MAGIC) throw new RangeError('no BTF')
    const u32 = (at: number): number => this.#view.getUint32(at, true)
    const start = u32(4)
    this.#text = bytes.subarray(start + u32(16), start + u32(16) + u32(20))
    this.#types = this.#readTypes(start + u32(8), start + u32(8) + u32(12))
  }

  text(offset: number): string {
    return textAt(this.#text, offset)
  }

  /** The maps of a section of variables, each a struct whose members are its attributes. */
  maps(section: string): readonly MapShape[] {
    const found = this.#types.find(({ kind, name }) => kind === DATASEC && name === section)
    if (found === undefined) return []
    return Array.from({ length: found.length }, (_, i) => {
      const variable = this.#type(this.#u32(found.at + i * 12))
      return this.#map(variable.name, this.#resolve(variable.sizeOrType))
    })
  }

  /**
   * A copy in which each section of variables has its size, and each variable its offset: clang leaves both to the linker,
   * and the kernel refuses BTF without them.
   */
  linked(sizeOf: (section: string) => number, offsetOf: (variable: string) => number): Uint8Array {
    const copy = new Uint8Array(this.#bytes)
    const view = new DataView(copy.buffer)
    for (const type of this.#types.filter(({ kind }) => kind === DATASEC)) {
      view.setUint32(type.at - 4, sizeOf(type.name), true)
      const variables = Array.from({ length: type.length }, (_, i) => {
        const [id, bytes] = [this.#u32(type.at + i * 12), this.#u32(type.at + i * 12 + 8)]
        return { id, bytes, offset: offsetOf(this.#type(id).name) }
      })
      variables
        .sort((a, b) => a.offset - b.offset)
        .forEach(({ id, offset, bytes }, i) => {
          view.setUint32(type.at + i * 12, id, true)
          view.setUint32(type.at + i * 12 + 4, offset, true)
          view.setUint32(type.at + i * 12 + 8, bytes, true)
        })
    }
    return copy
  }

  /** A copy in which every function is static: the kernel follows each call of it, instead of verifying it once by itself. */
  withStaticFunctions(): Uint8Array {
    const copy = new Uint8Array(this.#bytes)
    const view = new DataView(copy.buffer)
    // The length of a function is its linkage; static is 0.
    for (const { at } of this.#types.filter(({ kind }) => kind === FUNC)) view.setUint16(at - 8, 0, true)
    return copy
  }

  #map(name: string, type: BtfType): MapShape {
    const members = new Map(
      Array.from({ length: type.length }, (_, i) => {
        const at = type.at + i * MEMBER_BYTES
        return [this.text(this.#u32(at)), this.#u32(at + 4)] as const
      })
    )
    const pointee = (member: string): number => {
      const id = members.get(member)
      return id === undefined ? 0 : this.#resolve(id).sizeOrType
    }
    // A number is the length of an array: `int (*max_entries)[64]`.
    const number = (member: string): number => {
      const id = pointee(member)
      return id === 0 ? 0 : this.#u32(this.#resolve(id).at + 8)
    }
    const sized = (member: string): MapShape['key'] => {
      const typeId = pointee(member)
      return { bytes: typeId === 0 ? 0 : this.#sizeOf(typeId), typeId }
    }
    return {
      name,
      type: number('type'),
      maxEntries: number('max_entries'),
      flags: number('map_flags'),
      key: sized('key'),
      value: sized('value')
    }
  }

  #sizeOf(id: number): number {
    const type = this.#resolve(id)
    if (type.kind === KIND.pointer) return 8
    if (type.kind !== KIND.array) return type.sizeOrType
    return this.#sizeOf(this.#u32(type.at)) * this.#u32(type.at + 8)
  }

  /** Follows names and qualifiers. */
  #resolve(id: number): BtfType {
    let type = this.#type(id)
    for (let depth = 0; ALIASES.includes(type.kind); depth++) {
      if (depth > this.#types.length) throw new RangeError('BTF with a circle of names')
      type = this.#type(type.sizeOrType)
    }
    return type
  }

  #type(id: number): BtfType {
    const type = this.#types[id]
    if (type === undefined) throw new RangeError(`BTF has no type ${id}`)
    return type
  }

  #readTypes(from: number, to: number): readonly BtfType[] {
    const types: BtfType[] = [{ kind: 0, name: '', sizeOrType: 0, at: 0, length: 0 }]
    for (let at = from; at < to;) {
      const info = this.#u32(at + 4)
      const [kind, length] = [(info >>> 24) & 0x1f, info & 0xffff]
      types.push({ kind, name: this.text(this.#u32(at)), sizeOrType: this.#u32(at + 8), at: at + TYPE_BYTES, length })
      at += TYPE_BYTES + (ONCE[kind] ?? 0) + length * (EACH[kind] ?? 0)
    }
    return types
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, true)
  }
}
