// Types that are written for the test: what a map's attributes mean, and types that lead nowhere or in a circle.

import t from 'tap'
import { Btf, type MapShape } from '#overlay/bpf/object/btf.ts'
import { readElf } from '#overlay/bpf/object/elf.ts'
import { BtfBuilder } from './btf-builder.ts'
import { objectBytes, OBJECTS, patched, readChanged, readPrefixes } from './objects.ts'

const CHANGES = 2_000

function start(): BtfBuilder {
  const types = new BtfBuilder()
  types.int('unsigned int', 4)
  return types
}

/** The only map of a section `.maps` whose attributes have these types. */
function mapWith(members: (types: BtfBuilder) => Record<string, number>): MapShape | undefined {
  const types = start()
  const variable = types.variable('some_map', types.struct(members(types)))
  types.section('.maps', [[variable, 40]])
  return new Btf(types.bytes()).maps('.maps')[0]
}

t.test("a map's attributes are the lengths of arrays, and the types behind pointers", async t => {
  t.strictSame(
    mapWith(types => ({
      type: types.number(1),
      max_entries: types.number(65_536),
      map_flags: types.number(3),
      key: types.pointer(1),
      value: types.pointer(types.struct({ a: 1, b: 1, c: 1 }, 12))
    })),
    {
      ...{ name: 'some_map', type: 1, maxEntries: 65_536, flags: 3 },
      ...{ key: { bytes: 4, typeId: 1 }, value: { bytes: 12, typeId: 9 } }
    }
  )
})

t.test('an attribute that is not there is zero', async t => {
  const nothing = { bytes: 0, typeId: 0 }
  t.strictSame(
    mapWith(types => ({ type: types.number(27) })),
    {
      ...{ name: 'some_map', type: 27, maxEntries: 0, flags: 0, key: nothing, value: nothing }
    }
  )
})

t.test('the size of a key is that of its type behind all names and qualifiers', async t => {
  const cases: readonly [title: string, bytes: number, type: (types: BtfBuilder) => number][] = [
    ['an integer', 4, () => 1],
    ['an integer of 64 bits', 8, types => types.int('u64', 8)],
    ['a struct', 20, types => types.struct({ a: 1 }, 20)],
    ['a pointer', 8, types => types.pointer(1)],
    ['an array', 24, types => types.array(1, 6)],
    ['an array of arrays', 24, types => types.array(types.array(1, 2), 3)],
    ['an empty array', 0, types => types.array(1, 0)],
    ['an array of names', 12, types => types.array(types.alias('typedef', 1), 3)],
    ['a name of a name', 4, types => types.alias('typedef', types.alias('typedef', 1))],
    ['qualified', 4, types => types.alias('const', types.alias('volatile', types.alias('typedef', 1)))]
  ]
  for (const [title, bytes, type] of cases) {
    let typeId = 0
    const map = mapWith(types => {
      typeId = type(types)
      return { key: types.pointer(typeId) }
    })
    t.same(map?.key, { bytes, typeId }, title)
  }
})

t.test('maps come in the order of their section; other sections have none', async t => {
  const types = start()
  const attributes = types.struct({ type: types.number(1) })
  const [b, a, other] = ['b', 'a', 'other'].map(name => types.variable(name, attributes))
  types.section('.maps', [
    [b ?? 0, 40],
    [a ?? 0, 40]
  ])
  types.section('.data', [[other ?? 0, 40]])
  const btf = new Btf(types.bytes())
  const names = (section: string): readonly string[] => btf.maps(section).map(({ name }) => name)
  t.same(names('.maps'), ['b', 'a'])
  t.same(names('.data'), ['other'])
  t.same(names('.bss'), [])
})

t.test('linked, a section has its size, and its variables their offsets, in ascending order', async t => {
  const types = start()
  const [first, second] = [types.variable('first', 1), types.variable('second', 1)]
  const id = types.section('.maps', [
    [second, 32],
    [first, 40]
  ])
  const empty = types.section('.bss', [])
  const bytes = types.bytes()
  const before = bytes.slice()
  const linked = new Btf(bytes).linked(
    section => (section === '.maps' ? 72 : 5),
    variable => (variable === 'first' ? 0 : 40)
  )
  t.strictSame(bytes, before, 'a copy')
  t.equal(linked.length, bytes.length)
  const view = new DataView(linked.buffer, linked.byteOffset)
  // An int is 16 bytes, a variable 16, a section 12 and 12 for each variable.
  const at = 24 + 16 + 2 * 16
  const words = Array.from({ length: 9 }, (_, i) => view.getUint32(at + i * 4, true))
  t.same(words.slice(2), [72, first, 0, 40, second, 40, 32], `section ${id}`)
  t.equal(view.getUint32(at + 9 * 4 + 8, true), 5, `section ${empty}`)
  const differing = linked.reduce((count, byte, i) => count + Number(byte !== before[i]), 0)
  t.equal(differing, 7, 'nothing else is changed: two sizes, two ids, two lengths, an offset')
})

t.test('types that are missing, or lead in a circle, are refused', async t => {
  const map = (write: (types: BtfBuilder) => Record<string, number>) => (): unknown => mapWith(write)
  const section = (types: BtfBuilder) => (): unknown => new Btf(types.bytes()).maps('.maps')
  const [dangling, notVariable] = [start(), start()]
  dangling.section('.maps', [[99, 40]])
  notVariable.section('.maps', [[notVariable.alias('typedef', 77), 40]])
  const cases: readonly [title: string, read: () => unknown, reason: RegExp][] = [
    ['a variable that does not exist', section(dangling), /no type 99/],
    ['a variable of no type', section(notVariable), /no type 77/],
    ['a key of no type', map(types => ({ key: types.pointer(99) })), /no type 99/],
    ['an attribute of no type', map(() => ({ type: 99 })), /no type 99/],
    ['an array of no type', map(types => ({ key: types.pointer(types.array(99, 2)) })), /no type 99/],
    ['a name of itself', map(types => ({ key: types.pointer(types.alias('typedef', types.next)) })), /circle of names/],
    [
      'names of each other',
      map(types => {
        const one = types.alias('const', types.next + 1)
        types.alias('volatile', one)
        return { key: types.pointer(one) }
      }),
      /circle of names/
    ],
    ['an array of itself', map(types => ({ key: types.pointer(types.array(types.next, 1)) })), /./]
  ]
  for (const [title, read, reason] of cases) t.throws(read, { name: 'RangeError', message: reason }, title)
})

t.test('what is no BTF is refused', async t => {
  const types = start()
  types.section('.maps', [[types.variable('map', types.struct({ key: types.pointer(1) })), 8]])
  const bytes = types.bytes()
  t.equal(new Btf(bytes).maps('.maps').length, 1)
  const cases: readonly [title: string, bytes: Uint8Array][] = [
    ['nothing', new Uint8Array()],
    ['no whole header', bytes.slice(0, 23)],
    ['another magic number', patched(bytes, 0, 0x9feb, 2)],
    ['types past the end', patched(bytes, 8, bytes.length, 4)],
    ['more types than there are', patched(bytes, 12, 0xffffffff, 4)],
    ['texts past the end', patched(bytes, 16, bytes.length, 4)],
    ['texts cut short', patched(bytes, 20, 3, 4)],
    ['a header that is too long', patched(bytes, 4, 0xffffffff, 4)],
    ['a name past the texts', patched(bytes, 24, 0xffffffff, 4)]
  ]
  for (const [title, file] of cases) t.throws(() => new Btf(file).maps('.maps'), RangeError, title)
})

for (const name of OBJECTS) {
  t.test(`the types of ${name}.o: cut short or with one byte changed they are read or refused, at once`, async t => {
    const bytes = readElf(objectBytes(name))
      .sections.find(section => section.name === '.BTF')
      ?.data.slice()
    if (bytes === undefined) throw new Error('no BTF')
    const read = (file: Uint8Array): unknown => {
      const btf = new Btf(file)
      btf.linked(
        () => 1,
        () => 2
      )
      return btf.maps('.maps')
    }
    t.equal(readPrefixes(bytes, read).read, 0)
    const changed = readChanged(bytes, read, CHANGES)
    t.equal(changed.read + changed.refused, CHANGES)
    t.ok(changed.read > 0 && changed.refused > 0, `${changed.refused} are refused`)
  })
}
