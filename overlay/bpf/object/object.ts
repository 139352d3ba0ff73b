// A BPF object: the maps and programs in it, with what the kernel wants to know of them. Pure.

import { Btf, type MapShape } from './btf.ts'
import { readElf, textAt, type Elf, type Section } from './elf.ts'

const PROGRAM_SECTIONS = 'classifier/'
const MAP_SECTION = '.maps'
const INSTRUCTION_BYTES = 8
/** BPF_LD | BPF_IMM | BPF_DW, the only instruction that may refer to a map. */
const LOAD_64 = 0x18
const PSEUDO_MAP_FD = 1
/** BPF_JMP | BPF_CALL, with BPF_PSEUDO_CALL as its source: of a function of the same program. */
const CALL = [0x85, 0x10] as const

export type ProgramCode = {
  readonly name: string
  readonly instructions: Uint8Array
  /** Instructions that load the address of a map, by their offset in bytes. */
  readonly references: ReadonlyMap<number, string>
  /** Its functions and source lines for the verifier's messages, as the kernel takes them. */
  readonly functions: Records
  readonly lines: Records
}

/** Records of one size, back to back. */
export type Records = { readonly recordBytes: number; readonly data: Uint8Array }

export type BpfObject = {
  readonly maps: readonly MapShape[]
  readonly programs: readonly ProgramCode[]
  readonly license: string
  readonly btf: Uint8Array
}

/** @throws RangeError that says what cannot be read */
export function readObject(bytes: Uint8Array): BpfObject {
  const elf = readElf(bytes)
  const section = (name: string): Section => {
    const found = elf.sections.find(candidate => candidate.name === name)
    if (found === undefined) throw new RangeError(`no section ${name}`)
    return found
  }
  const btf = new Btf(section('.BTF').data)
  const extension = section('.BTF.ext').data
  const offsets = new Map(elf.symbols.map(({ name, value }) => [name, value]))
  const sizes = new Map(elf.sections.map(({ name, data }) => [name, data.length]))
  return {
    maps: btf.maps(MAP_SECTION),
    programs: elf.sections.flatMap(({ name, data }, index) =>
      name.startsWith(PROGRAM_SECTIONS) ? [programOf({ elf, btf, extension, name, data, index })] : []
    ),
    license: textAt(section('license').data, 0),
    btf: btf.linked(
      name => sizes.get(name) ?? 0,
      name => offsets.get(name) ?? 0
    )
  }
}

/** The instructions with the descriptor of each map that they refer to. */
export function withMaps(program: ProgramCode, fdOf: (map: string) => number): Uint8Array {
  const code = new Uint8Array(program.instructions)
  const view = new DataView(code.buffer)
  for (const [offset, map] of program.references) {
    view.setUint8(offset + 1, (view.getUint8(offset + 1) & 0x0f) | (PSEUDO_MAP_FD << 4))
    view.setInt32(offset + 4, fdOf(map), true)
  }
  return code
}

function programOf(p: {
  readonly elf: Elf
  readonly btf: Btf
  readonly extension: Uint8Array
  readonly name: string
  readonly data: Uint8Array
  readonly index: number
}): ProgramCode {
  const { elf, btf, extension, name, data, index } = p
  const references = new Map<number, string>()
  const instructions = data.slice()
  for (const { offset, symbol } of elf.relocations.get(index) ?? []) {
    if (data[offset] === CALL[0] && data[offset + 1] === CALL[1] && symbol.section === index) {
      const next = offset + INSTRUCTION_BYTES
      new DataView(instructions.buffer).setInt32(offset + 4, (symbol.value - next) / INSTRUCTION_BYTES, true)
      continue
    }
    if (data[offset] !== LOAD_64 || elf.sections[symbol.section]?.name !== MAP_SECTION) {
      throw new RangeError(`${name} refers to ${symbol.name}, which is no map: are all its functions inlined?`)
    }
    references.set(offset, symbol.name)
  }
  const view = new DataView(extension.buffer, extension.byteOffset, extension.length)
  const records = (field: number): Records => recordsOf({ view, btf, field, section: name })
  return {
    name: name.slice(PROGRAM_SECTIONS.length),
    instructions,
    references,
    functions: records(8),
    lines: records(16)
  }
}

/**
 * The records of one section of code in .BTF.ext. In the file a record begins with an offset in bytes, in the kernel with
 * one in instructions.
 * @param p.field where the header has their offset and length
 */
function recordsOf(p: { view: DataView; btf: Btf; field: number; section: string }): Records {
  const { view, btf, field, section } = p
  const start = view.getUint32(4, true) + view.getUint32(field, true)
  const end = start + view.getUint32(field + 4, true)
  const recordBytes = view.getUint32(start, true)
  for (let at = start + 4; at < end;) {
    const count = view.getUint32(at + 4, true)
    if (btf.text(view.getUint32(at, true)) === section) {
      const bytes = count * recordBytes
      if (at + 8 + bytes > view.byteLength) throw new RangeError(`${section}: its records reach past their section`)
      const data = new Uint8Array(view.buffer, view.byteOffset + at + 8, bytes).slice()
      const copy = new DataView(data.buffer)
      for (let i = 0; i < count; i++) {
        copy.setUint32(i * recordBytes, copy.getUint32(i * recordBytes, true) / INSTRUCTION_BYTES, true)
      }
      return { recordBytes, data }
    }
    at += 8 + count * recordBytes
  }
  return { recordBytes, data: new Uint8Array() }
}
