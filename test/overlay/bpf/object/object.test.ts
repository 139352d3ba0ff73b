// The maps and programs of the real objects as the kernel wants them, and objects that are damaged.

import { readFileSync } from 'node:fs'
import t from 'tap'
import { readElf } from '#overlay/bpf/object/elf.ts'
import { readObject, withMaps, type BpfObject, type ProgramCode, type Records } from '#overlay/bpf/object/object.ts'
import { headerAt, objectBytes, OBJECTS, patched, readChanged, readPrefixes, type ObjectName } from './objects.ts'

const CHANGES = 2_000
const HEADER = ['maps.h', 'flows.h', 'services.h']
  .map(name => readFileSync(new URL(`../../../../overlay/bpf/programs/${name}`, import.meta.url), 'utf8'))
  .join('')
const [ENTRIES_OF_HOST, ENTRIES_OF_MESH, FLOWS_OF_HOST] = ['ENTRIES_OF_HOST', 'ENTRIES_OF_MESH', 'FLOWS_OF_HOST'].map(
  name => Number(new RegExp(`#define ${name} (\\d+)`).exec(HEADER)?.[1])
)
const DROPS = HEADER.match(/^#define DROP_/gm)?.length

/** Of linux/bpf.h. */
const [HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY] = [1, 2, 5, 6]
const NO_PREALLOC = 1
/** Type, entries, flags, bytes of a key and of a value. */
const MAPS = {
  vxm_ports: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 36],
  vxm_stations: [HASH, ENTRIES_OF_MESH, NO_PREALLOC, 12, 8],
  vxm_neighbours: [HASH, ENTRIES_OF_MESH, NO_PREALLOC, 8, 8],
  vxm_neighbours6: [HASH, ENTRIES_OF_MESH, NO_PREALLOC, 20, 8],
  vxm_vteps: [HASH, ENTRIES_OF_MESH, NO_PREALLOC, 8, 4],
  vxm_tunnels: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 4],
  vxm_networks: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 28],
  vxm_underlays: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 4],
  vxm_locals: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 4],
  vxm_settings: [ARRAY, 1, 0, 4, 24],
  vxm_traffic: [PERCPU_HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 48],
  vxm_buckets: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 32],
  vxm_ledger: [PERCPU_HASH, ENTRIES_OF_HOST, NO_PREALLOC, 8, 16],
  vxm_drops: [PERCPU_ARRAY, DROPS, 0, 4, 16],
  vxm_flows: [HASH, FLOWS_OF_HOST, NO_PREALLOC, 28, 32],
  vxm_flow_counts: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 4, 8],
  vxm_flow_state: [ARRAY, 1, 0, 4, 16],
  vxm_flow_users: [ARRAY, 128, 0, 4, 512]
}

/** Of the object that has the program at containers' ports alone. */
const SERVICE_MAPS = {
  vxm_services: [HASH, ENTRIES_OF_HOST, NO_PREALLOC, 24, 1_028],
  vxm_backends: [HASH, ENTRIES_OF_MESH, NO_PREALLOC, 24, 24]
}

type MapName = keyof typeof MAPS | keyof typeof SERVICE_MAPS

/** The maps to which each program refers. */
const REFERENCES: Readonly<Record<ObjectName, Readonly<Record<string, readonly MapName[]>>>> = {
  container: {
    from_container: [
      ...([
        'vxm_backends',
        'vxm_buckets',
        'vxm_drops',
        'vxm_flow_counts',
        'vxm_flow_state',
        'vxm_flow_users',
        'vxm_flows'
      ] as const),
      ...(['vxm_ledger', 'vxm_neighbours', 'vxm_neighbours6', 'vxm_networks'] as const),
      ...(['vxm_ports', 'vxm_services', 'vxm_settings', 'vxm_stations', 'vxm_traffic'] as const)
    ],
    to_container: ['vxm_flow_state', 'vxm_flow_users', 'vxm_flows']
  },
  overlay: {
    from_overlay: ['vxm_flow_state', 'vxm_flow_users', 'vxm_flows', 'vxm_stations', 'vxm_traffic', 'vxm_tunnels'],
    to_host: ['vxm_drops']
  },
  underlay: {
    from_underlay: [
      ...([
        'vxm_drops',
        'vxm_flow_state',
        'vxm_flow_users',
        'vxm_flows',
        'vxm_ledger',
        'vxm_locals',
        'vxm_settings',
        'vxm_stations'
      ] as const),
      ...(['vxm_traffic', 'vxm_underlays', 'vxm_vteps'] as const)
    ]
  }
}

const bytes = objectBytes('overlay')
const elf = readElf(bytes)

function programOf(object: BpfObject, name: string): ProgramCode {
  const found = object.programs.find(program => program.name === name)
  if (found === undefined) throw new Error(`no program ${name}`)
  return found
}

/** Where a section's bytes are in the file of overlay.o. */
function placeOf(section: string): number {
  const data = elf.sections.find(({ name }) => name === section)?.data
  if (data === undefined) throw new Error(`no section ${section}`)
  return data.byteOffset - bytes.byteOffset
}

function viewOf({ data }: Records): DataView {
  return new DataView(data.buffer, data.byteOffset, data.length)
}

t.test('each object has the maps of maps.h, as wide as the structs in it', async t => {
  for (const name of OBJECTS) {
    const { maps } = readObject(objectBytes(name))
    const shapes = maps.map(({ name, type, maxEntries, flags, key, value }) => [
      name,
      [type, maxEntries, flags, key.bytes, value.bytes]
    ])
    t.same(Object.fromEntries(shapes), name === 'container' ? { ...MAPS, ...SERVICE_MAPS } : MAPS, name)
    for (const { name, key, value } of maps) t.ok(key.typeId > 0 && value.typeId > 0, `${name} has types`)
  }
})

t.test('each program refers to the maps that it uses, by instructions that load an address', async t => {
  for (const object of OBJECTS) {
    const { programs, license } = readObject(objectBytes(object))
    t.equal(license, 'Apache-2.0')
    t.same(
      Object.fromEntries(programs.map(({ name, references }) => [name, [...new Set(references.values())].sort()])),
      REFERENCES[object]
    )
    for (const { name, instructions, references } of programs) {
      t.equal(instructions.length % 8, 0, `${name} has whole instructions`)
      for (const offset of references.keys()) t.equal(instructions[offset], 0x18, `${name} at ${offset}`)
    }
  }
})

t.test('a program has its function, and lines at ascending instructions of its own', async t => {
  for (const object of OBJECTS) {
    for (const { name, functions, lines, instructions } of readObject(objectBytes(object)).programs) {
      const beside = { from_container: 3, from_overlay: 1, from_underlay: 1 }[name] ?? 0
      t.equal(functions.data.length, functions.recordBytes * (1 + beside), `${name} and what it calls`)
      t.equal(viewOf(functions).getUint32(0, true), 0, 'from its first instruction on')
      const count = lines.data.length / lines.recordBytes
      t.ok(count > 5 && Number.isInteger(count), `${count} lines`)
      const at = Array.from({ length: count }, (_, i) => viewOf(lines).getUint32(i * lines.recordBytes, true))
      t.equal(at[0], 0)
      t.ok(
        at.every((offset, i) => i === 0 || offset > (at[i - 1] ?? Infinity)),
        'ascending'
      )
      t.ok((at.at(-1) ?? Infinity) < instructions.length / 8, 'within the program')
    }
  }
})

t.test('a reference becomes the descriptor of its map, and the object stays as it was', async t => {
  const program = programOf(readObject(bytes), 'from_overlay')
  const before = program.instructions.slice()
  const fds = new Map([...new Set(program.references.values())].map((name, i) => [name, 1_000 + i]))
  const code = withMaps(program, name => fds.get(name) ?? -1)
  t.same(program.instructions, before)
  const view = new DataView(code.buffer)
  for (const [offset, map] of program.references) {
    t.equal(view.getUint8(offset + 1) >> 4, 1, `BPF_PSEUDO_MAP_FD at ${offset}`)
    t.equal(view.getUint8(offset + 1) & 15, (before[offset + 1] ?? 0) & 15, 'into the same register')
    t.equal(view.getInt32(offset + 4, true), fds.get(map), map)
  }
  const changed = [...code.keys()].filter(at => code[at] !== before[at])
  const allowed = [...program.references.keys()].flatMap(offset => [1, 4, 5, 6, 7].map(byte => offset + byte))
  t.same(
    [...changed].filter(at => !allowed.includes(at)),
    [],
    'no other byte'
  )
  const none = withMaps(program, () => -1)
  const [first = 0] = program.references.keys()
  t.equal(new DataView(none.buffer).getInt32(first + 4, true), -1, 'a map that there is not')
})

t.test('the types are linked: the section of maps has its size and each map its offset', async t => {
  const { btf } = readObject(bytes)
  const section = elf.sections.find(({ name }) => name === '.BTF')
  t.equal(btf.length, section?.data.length)
  t.not(Buffer.compare(btf, section?.data ?? btf), 0, 'clang leaves them out')
})

t.test('an object in which something is missing or refers to no map is refused with the reason', async t => {
  const nameless = (section: string): Uint8Array => patched(bytes, headerAt(bytes, section, 'name'), 0, 4)
  const code = placeOf('classifier/to_host')
  const [reference = 0] = programOf(readObject(bytes), 'to_host').references.keys()
  const relocations = placeOf('.relclassifier/to_host')
  const license = elf.sections.find(({ name }) => name === 'license')
  t.equal(license?.data.at(-1), 0)
  const cases: readonly [title: string, file: Uint8Array, reason: RegExp][] = [
    ['no types', nameless('.BTF'), /no section \.BTF$/],
    ['no source lines', nameless('.BTF.ext'), /no section \.BTF\.ext/],
    ['no licence', nameless('license'), /no section license/],
    ['a licence without an end', patched(bytes, placeOf('license') + 10, 0x78, 1), /no text/],
    ['maps elsewhere', nameless('.maps'), /refers to \w+, which is no map/],
    ['another instruction that refers', patched(bytes, code + reference, 0x85, 1), /to_host refers to vxm_drops/],
    ['a reference past the end', patched(bytes, relocations, 2n ** 40n, 8), /to_host refers to vxm_drops/],
    ['a reference to a function', patched(bytes, relocations + 12, symbol('from_overlay'), 4), /to from_overlay/]
  ]
  for (const [title, file, reason] of cases) {
    t.throws(() => readObject(file), { name: 'RangeError', message: reason }, title)
  }
})

function symbol(name: string): number {
  return elf.symbols.findIndex(candidate => candidate.name === name)
}

t.test('records of functions and lines stay within their section', async t => {
  const section = placeOf('.BTF.ext')
  const extension = elf.sections.find(({ name }) => name === '.BTF.ext')?.data
  if (extension === undefined) throw new Error('no .BTF.ext')
  const view = new DataView(extension.buffer, extension.byteOffset, extension.length)
  const start = view.getUint32(4, true) + view.getUint32(16, true)
  // The bytes of a record, then for each section of code its name, the count of records, and the records.
  const [recordBytes, count] = [view.getUint32(start, true), view.getUint32(start + 8, true)]
  t.equal(recordBytes, 16)
  const tooMany = Math.ceil((extension.length - start) / recordBytes) + 1
  t.ok(section + start + 12 + tooMany * recordBytes < bytes.length, 'the file goes on after the section')
  const cases: readonly [title: string, file: Uint8Array][] = [
    ['records to beyond the section', patched(bytes, section + start + 8, tooMany, 4)],
    ['more records than memory', patched(bytes, section + start + 8, 0xffffffff, 4)],
    ['many records of no bytes', patched(patched(bytes, section + start, 0, 4), section + start + 8, 0xffffffff, 4)],
    ['records that are too short', patched(bytes, section + start, 1, 4)],
    ['records at the end of the address space', patched(bytes, section + 16, 0xffffffff, 4)],
    ['records of 4 GiB', patched(bytes, section + start, 0xffffffff, 4)]
  ]
  for (const [title, file] of cases) t.throws(() => readObject(file), RangeError, title)
  const fewer = readObject(patched(bytes, section + start + 8, count - 1, 4))
  t.equal(programOf(fewer, 'from_overlay').lines.data.length, (count - 1) * recordBytes)
})

t.test('a program without records of its own has none', async t => {
  // Its name as the types write it, in the section .BTF.
  const at = Buffer.from(bytes).indexOf('\0classifier/to_host\0', placeOf('.BTF')) + 1
  const { lines, functions } = programOf(readObject(patched(bytes, at, 0x78, 1)), 'to_host')
  t.same([lines.data.length, functions.data.length], [0, 0])
  t.ok(programOf(readObject(bytes), 'to_host').lines.data.length > 0)
})

for (const name of OBJECTS) {
  t.test(`${name}.o: cut short or with one byte changed it is read or refused, at once`, async t => {
    const file = objectBytes(name)
    const read = (bytes: Uint8Array): void => {
      for (const program of readObject(bytes).programs) withMaps(program, () => 3)
    }
    const cut = readPrefixes(file, read)
    t.ok(cut.refused > file.length - 64, `${cut.refused} of ${file.length} are refused`)
    const changed = readChanged(file, read, CHANGES)
    t.equal(changed.read + changed.refused, CHANGES)
    t.ok(changed.read > 0 && changed.refused > 0, `${changed.refused} are refused`)
  })
}
