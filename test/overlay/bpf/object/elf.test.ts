// The sections, symbols and relocations of the real objects, and files that are damaged or no BPF objects at all.

import t from 'tap'
import { readElf, textAt, type Elf, type Section } from '#overlay/bpf/object/elf.ts'
import { headerAt, objectBytes, OBJECTS, patched, readChanged, readPrefixes } from './objects.ts'

const bytes = objectBytes('overlay')
const elf = readElf(bytes)
const CHANGES = 2_000

function indexOf(name: string, of: Elf = elf): number {
  const index = of.sections.findIndex(section => section.name === name)
  if (index === -1) throw new Error(`no section ${name}`)
  return index
}

function sectionOf(name: string): Section {
  const section = elf.sections[indexOf(name)]
  if (section === undefined) throw new Error(`no section ${name}`)
  return section
}

t.test('the sections of an object have their names, types and bytes', async t => {
  t.equal(Buffer.from(sectionOf('license').data).toString(), 'Apache-2.0\0')
  t.equal(sectionOf('classifier/to_host').data.length % 8, 0, 'whole instructions')
  t.equal(sectionOf('.relclassifier/to_host').type, 9)
  t.equal(sectionOf('.relclassifier/to_host').info, indexOf('classifier/to_host'))
  t.equal(sectionOf('.symtab').type, 2)
  t.equal(elf.sections[0]?.data.length, 0)
})

t.test('symbols say in which section they are, and which are functions', async t => {
  for (const name of ['from_overlay', 'to_host']) {
    const symbol = elf.symbols.find(candidate => candidate.name === name)
    const section = sectionOf(`classifier/${name}`)
    // What from_overlay calls follows it in its section.
    const size =
      name === 'from_overlay' ? (elf.symbols.find(({ name }) => name === 'restores')?.value ?? 0) : section.data.length
    t.strictSame(symbol, { name, section: indexOf(`classifier/${name}`), value: 0, size, isFunction: true })
  }
  const maps = elf.symbols.filter(({ section }) => section === indexOf('.maps'))
  t.ok(maps.length > 5, `${maps.length} maps`)
  let end = 0
  for (const { value, size, isFunction, name } of [...maps].sort((a, b) => a.value - b.value)) {
    t.equal(value, end, `${name} follows the one before`)
    t.notOk(isFunction, name)
    end = value + size
  }
  t.equal(end, sectionOf('.maps').data.length)
})

t.test('relocations name the symbol and the place that it changes', async t => {
  const of = (program: string): readonly string[] =>
    (elf.relocations.get(indexOf(program)) ?? []).map(({ symbol }) => symbol.name)
  t.same(of('classifier/to_host'), ['vxm_drops'])
  t.same(of('classifier/from_overlay'), [
    ...['vxm_tunnels', 'vxm_stations', 'vxm_flow_users', 'restores', 'vxm_traffic'],
    ...['vxm_flows', 'vxm_flow_state', 'vxm_flows']
  ])
  const { data } = sectionOf('classifier/from_overlay')
  for (const { offset, symbol } of elf.relocations.get(indexOf('classifier/from_overlay')) ?? []) {
    t.equal(data[offset], symbol.isFunction ? 0x85 : 0x18, 'an instruction that loads an address, or a call')
  }
  t.equal(elf.relocations.get(indexOf('license')), undefined)
})

t.test('an object reads the same wherever its bytes are', async t => {
  const inside = Buffer.concat([Buffer.alloc(9, 0xff), bytes, Buffer.alloc(9, 0xff)]).subarray(9, 9 + bytes.length)
  t.strictSame(readElf(new Uint8Array(inside.buffer, inside.byteOffset, inside.length)), elf)
})

t.test('what is no object for BPF is refused with the reason', async t => {
  const cases: readonly [title: string, file: Uint8Array, reason: RegExp][] = [
    ['an empty file', new Uint8Array(), /not an ELF file/],
    ['a text', new Uint8Array(Buffer.from('#!/bin/sh\n'.repeat(20))), /not an ELF file$/],
    ['32 bits', patched(bytes, 4, 1, 1), /for BPF/],
    ['big-endian', patched(bytes, 5, 2, 1), /for BPF/],
    ['another machine', patched(bytes, 18, 62, 2), /for BPF/],
    ['a table of sections past the end', patched(bytes, 40, bytes.length, 8), /bounds/],
    ['one at the end of the address space', patched(bytes, 40, 2n ** 64n - 1n, 8), /bounds/],
    ['more sections than there are', patched(bytes, 60, 0xffff, 2), /bounds/],
    ['no sections', patched(bytes, 60, 0, 2), /no section names/],
    ['names in a section that does not exist', patched(bytes, 62, 0xffff, 2), /no section names/],
    [
      'a section past the end',
      patched(bytes, headerAt(bytes, 'license', 'offset'), bytes.length, 8),
      /a section ends at/
    ],
    [
      'a section that is too long',
      patched(bytes, headerAt(bytes, 'license', 'size'), bytes.length, 8),
      /a section ends at/
    ],
    ['an endless section', patched(bytes, headerAt(bytes, 'license', 'size'), 2n ** 64n - 1n, 8), /a section ends at/],
    ['symbols without names', patched(bytes, headerAt(bytes, '.symtab', 'link'), 0xffff, 4), /without names/],
    ['symbols with empty names', patched(bytes, headerAt(bytes, '.symtab', 'link'), 0, 4), /no text/],
    ['relocations without symbols', patched(bytes, headerAt(bytes, '.symtab', 'size'), 24, 8), /does not exist/]
  ]
  for (const [title, file, reason] of cases) {
    t.throws(() => readElf(file), { name: 'RangeError', message: reason }, title)
  }
})

t.test('a section without bytes in the file is zeros, and takes no memory that the file does not warrant', async t => {
  const emptied = patched(bytes, headerAt(bytes, 'license', 'type'), 8, 4)
  t.same(readElf(emptied).sections[indexOf('license')]?.data, new Uint8Array(11))
  for (const size of [2n ** 32n, 2n ** 40n, 2n ** 64n - 1n]) {
    const vast = patched(emptied, headerAt(bytes, 'license', 'size'), size, 8)
    t.throws(() => readElf(vast), { name: 'RangeError', message: /zeros/ }, `${size} bytes`)
  }
})

t.test('a text ends with its zero byte, or there is none', async t => {
  const text = new Uint8Array(Buffer.from('one\0two\0three'))
  t.equal(textAt(text, 0), 'one')
  t.equal(textAt(text, 2), 'e')
  t.equal(textAt(text, 3), '')
  t.equal(textAt(text, 4), 'two')
  for (const offset of [8, text.length, text.length + 1, 2 ** 32]) {
    t.throws(() => textAt(text, offset), { name: 'RangeError', message: /no text/ }, `at ${offset}`)
  }
  t.throws(() => textAt(new Uint8Array(), 0), RangeError)
})

for (const name of OBJECTS) {
  t.test(`${name}.o: cut short or with one byte changed it is read or refused, at once`, async t => {
    const file = objectBytes(name)
    const cut = readPrefixes(file, readElf)
    t.ok(cut.refused > file.length - 64, `${cut.refused} of ${file.length} are refused`)
    const changed = readChanged(file, readElf, CHANGES)
    t.equal(changed.read + changed.refused, CHANGES)
    t.ok(changed.read > 0 && changed.refused > 0, `${changed.refused} are refused`)
  })
}
