// Reads an ELF object file as clang writes it for BPF (elf(5)): 64 bits, little-endian, relocatable. Pure.

export type Section = {
  readonly name: string
  readonly type: number
  /** For a section of relocations: the index of the section that they change. */
  readonly info: number
  readonly data: Uint8Array
}

export type ElfSymbol = {
  readonly name: string
  /** Index of the section that defines it. */
  readonly section: number
  /** Its offset in that section, in bytes. */
  readonly value: number
  readonly size: number
  readonly isFunction: boolean
}

export type Relocation = {
  /** What is to be changed, in bytes from the start of the section. */
  readonly offset: number
  readonly symbol: ElfSymbol
}

export type Elf = {
  readonly sections: readonly Section[]
  readonly symbols: readonly ElfSymbol[]
  /** By the index of the section that they change. */
  readonly relocations: ReadonlyMap<number, readonly Relocation[]>
}

const MAGIC = 0x7f454c46
const [CLASS_64, LITTLE_ENDIAN] = [2, 1]
const MACHINE_BPF = 247
const [SHT_SYMTAB, SHT_NOBITS, SHT_REL] = [2, 8, 9]
const [SECTION_BYTES, SYMBOL_BYTES, REL_BYTES] = [64, 24, 16]
const STT_FUNC = 2
/** Of a section that has no bytes in the file, such as .bss. */
const ZEROS_MAX = 64 * 1024

/** @throws RangeError when it is not such a file, or cut short */
export function readElf(bytes: Uint8Array): Elf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length < 64 || view.getUint32(0) !== MAGIC) throw new RangeError('not an ELF file')
  if (view.getUint8(4) !== CLASS_64 || view.getUint8(5) !== LITTLE_ENDIAN || view.getUint16(18, true) !== MACHINE_BPF) {
    throw new RangeError('not an ELF file for BPF, 64 bits, little-endian')
  }
  const start = Number(view.getBigUint64(40, true))
  const count = view.getUint16(60, true)
  const headers = Array.from({ length: count }, (_, i) => readHeader(view, start + i * SECTION_BYTES))
  const names = headers[view.getUint16(62, true)]
  if (names === undefined) throw new RangeError('no section names')
  const dataOf = ({ type, offset, size }: Header): Uint8Array => {
    if (type === SHT_NOBITS) {
      if (size > ZEROS_MAX) throw new RangeError(`a section of ${size} zeros`)
      return new Uint8Array(size)
    }
    if (offset + size > bytes.length) throw new RangeError(`a section ends at byte ${offset + size} of ${bytes.length}`)
    return bytes.subarray(offset, offset + size)
  }
  const text = dataOf(names)
  const sections = headers.map(header => ({
    name: textAt(text, header.name),
    type: header.type,
    info: header.info,
    data: dataOf(header)
  }))
  const table = headers.findIndex(({ type }) => type === SHT_SYMTAB)
  const symbols = table === -1 ? [] : readSymbols(sections[table]?.data, sections[headers[table]?.link ?? 0]?.data)
  const relocations = new Map(
    sections.filter(({ type }) => type === SHT_REL).map(({ info, data }) => [info, readRelocations(data, symbols)])
  )
  return { sections, symbols, relocations }
}

/** The text at an offset, up to the next zero byte. */
export function textAt(bytes: Uint8Array, offset: number): string {
  const end = bytes.indexOf(0, offset)
  if (offset > bytes.length || end === -1) throw new RangeError(`no text at byte ${offset} of ${bytes.length}`)
  return new TextDecoder().decode(bytes.subarray(offset, end))
}

type Header = {
  readonly name: number
  readonly type: number
  readonly offset: number
  readonly size: number
  readonly link: number
  readonly info: number
}

function readHeader(view: DataView, at: number): Header {
  return {
    name: view.getUint32(at, true),
    type: view.getUint32(at + 4, true),
    offset: Number(view.getBigUint64(at + 24, true)),
    size: Number(view.getBigUint64(at + 32, true)),
    link: view.getUint32(at + 40, true),
    info: view.getUint32(at + 44, true)
  }
}

function readSymbols(data: Uint8Array | undefined, text: Uint8Array | undefined): readonly ElfSymbol[] {
  if (data === undefined || text === undefined) throw new RangeError('a table of symbols without names')
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  return Array.from({ length: Math.floor(data.length / SYMBOL_BYTES) }, (_, i) => {
    const at = i * SYMBOL_BYTES
    return {
      name: textAt(text, view.getUint32(at, true)),
      section: view.getUint16(at + 6, true),
      value: Number(view.getBigUint64(at + 8, true)),
      size: Number(view.getBigUint64(at + 16, true)),
      isFunction: (view.getUint8(at + 4) & 0xf) === STT_FUNC
    }
  })
}

function readRelocations(data: Uint8Array, symbols: readonly ElfSymbol[]): readonly Relocation[] {
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  return Array.from({ length: Math.floor(data.length / REL_BYTES) }, (_, i) => {
    const symbol = symbols[view.getUint32(i * REL_BYTES + 12, true)]
    if (symbol === undefined) throw new RangeError('a relocation to a symbol that does not exist')
    return { offset: Number(view.getBigUint64(i * REL_BYTES, true)), symbol }
  })
}
