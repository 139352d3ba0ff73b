// bpf(2) in this kernel: no call throws, and the errno says what was refused.

import { closeSync, openSync } from 'node:fs'
import t, { type Test } from 'tap'
import * as bpf from '#platform/bpf.ts'
import { errnoName, type CallResult } from '#platform/libc.ts'
import { asNobody } from '#test/overlay/bpf/nobody.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF maps and programs'
const [HASH, ARRAY] = [1, 2]
/** The kernel's own, without a name outside it. */
const ENOTSUPP = 524
const NO_RECORDS = { recordBytes: 16, data: new Uint8Array() }
/** Of a packet that the kernel lets run: an Ethernet header and more. */
const PACKET = Uint8Array.from({ length: 64 }, (_, i) => i)
/** struct __sk_buff. */
const CONTEXT_BYTES = 192

/** An instruction: opcode, registers, immediate value (linux/bpf.h). */
function instruction(code: number, registers: number, value: number): number[] {
  return [code, registers, 0, 0, ...new Uint8Array(Int32Array.of(value).buffer)]
}

const setResult = (value: number): number[] => instruction(0xb7, 0, value)
const EXIT = instruction(0x95, 0, 0)

function errno({ value, errno: number }: CallResult): string {
  return value < 0 ? errnoName(number) : 'success'
}

function opened(t: Test, { value, errno: number }: CallResult): number {
  if (value < 0) throw new Error(errnoName(number))
  t.teardown(() => closeSync(value))
  return value
}

function mapOf(change: Partial<bpf.MapAttributes> = {}): bpf.MapAttributes {
  return {
    ...{ name: 'test_map', type: HASH, keyBytes: 4, valueBytes: 8, maxEntries: 3, flags: 1 },
    ...{ btf: 0, keyType: 0, valueType: 0 },
    ...change
  }
}

function newMap(t: Test, change: Partial<bpf.MapAttributes> = {}): number {
  return opened(t, bpf.createMap(mapOf(change)))
}

function load(
  instructions: readonly (readonly number[])[],
  verbosity: bpf.Verbosity = 'figures'
): ReturnType<typeof bpf.loadProgram> {
  const code = Uint8Array.from(instructions.flat())
  const attributes = { name: 'test_program_of_ours', license: 'Apache-2.0', btf: 0 }
  return bpf.loadProgram({ ...attributes, instructions: code, functions: NO_RECORDS, lines: NO_RECORDS }, verbosity)
}

const key = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)
const keys = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer)
const values = (...values: readonly number[]): Uint8Array =>
  new Uint8Array(BigUint64Array.from(values.map(BigInt)).buffer)

t.test('an entry is added once, read, and deleted once', { skip }, async t => {
  const fd = newMap(t)
  const value = new Uint8Array(8)
  t.equal(errno(bpf.lookup(fd, key(1), value)), 'ENOENT')
  t.equal(errno(bpf.add(fd, key(1), values(7))), 'success')
  t.equal(errno(bpf.add(fd, key(1), values(8))), 'EEXIST')
  t.equal(errno(bpf.lookup(fd, key(1), value)), 'success')
  t.same(value, values(7), 'the second did not replace it')
  t.equal(errno(bpf.lookup(fd, key(2), value)), 'ENOENT')
  t.equal(errno(bpf.removeBatch(fd, key(1), 1)), 'success')
  t.equal(errno(bpf.removeBatch(fd, key(1), 1)), 'ENOENT')
})

t.test('a full map takes nothing more', { skip }, async t => {
  const fd = newMap(t)
  for (const n of [1, 2, 3]) t.equal(errno(bpf.add(fd, key(n), values(n))), 'success')
  t.equal(errno(bpf.add(fd, key(4), values(4))), 'E2BIG')
  t.equal(errno(bpf.removeBatch(fd, key(1), 1)), 'success')
  t.equal(errno(bpf.add(fd, key(4), values(4))), 'success')
})

t.test('a batch says how many of its entries were written before one was refused', { skip }, async t => {
  const fd = newMap(t)
  const batch = { keys: keys(1, 2, 3, 4, 5), values: values(10, 20, 30, 40, 50), count: 5 }
  const full = bpf.updateBatch(fd, batch)
  t.same([errno(full), full.done], ['E2BIG', 3])
  const value = new Uint8Array(8)
  for (const n of [1, 2, 3]) {
    t.equal(errno(bpf.lookup(fd, key(n), value)), 'success')
    t.same(value, values(n * 10))
  }
  const again = bpf.updateBatch(fd, { keys: keys(3, 1), values: values(33, 11), count: 2 })
  t.same([errno(again), again.done], ['success', 2], 'entries that exist are replaced')
  t.equal(errno(bpf.lookup(fd, key(1), value)), 'success')
  t.same(value, values(11))
})

t.test('a batch says how many of its entries were deleted before one that there is not', { skip }, async t => {
  const fd = newMap(t, { maxEntries: 10 })
  const left = (): number[] =>
    [1, 2, 3, 4, 5].filter(n => errno(bpf.lookup(fd, key(n), new Uint8Array(8))) === 'success')
  t.equal(bpf.updateBatch(fd, { keys: keys(1, 2, 3, 4, 5), values: values(1, 2, 3, 4, 5), count: 5 }).done, 5)
  const remove = (...numbers: readonly number[]): [string, number] => {
    const removed = bpf.removeBatch(fd, keys(...numbers), numbers.length)
    return [errno(removed), removed.done]
  }
  t.same(remove(2, 4, 9, 1), ['ENOENT', 2])
  t.same(left(), [1, 3, 5], 'those after it are kept')
  t.same(remove(9, 1), ['ENOENT', 0])
  t.same(remove(3, 3), ['ENOENT', 1], 'a key that comes twice')
  t.same(left(), [1, 5])
  t.same(remove(), ['success', 0])
  t.same(remove(5, 1), ['success', 2])
  t.same(left(), [])
})

t.test('entries are read in batches until there are no more', { skip }, async t => {
  const fd = newMap(t, { maxEntries: 100 })
  const all = Array.from({ length: 100 }, (_, n) => n)
  t.equal(bpf.updateBatch(fd, { keys: keys(...all), values: values(...all), count: 100 }).done, 100)
  const cursor = new Uint8Array(4)
  const found: number[] = []
  let last = ''
  for (let reads = 0; last !== 'ENOENT' && reads < 100; reads++) {
    const into = { keys: new Uint8Array(30 * 4), values: new Uint8Array(30 * 8), count: 30 }
    const read = bpf.lookupBatch(fd, { ...into, cursor, first: reads === 0 })
    last = errno(read)
    t.ok(read.done <= 30)
    const [keys, values] = [new Uint32Array(into.keys.buffer), new BigUint64Array(into.values.buffer)]
    for (let i = 0; i < read.done; i++) {
      t.equal(values[i], BigInt(keys[i] ?? -1))
      found.push(keys[i] ?? -1)
    }
  }
  t.equal(last, 'ENOENT')
  t.same(
    found.sort((a, b) => a - b),
    all
  )
  const none = { keys: new Uint8Array(), values: new Uint8Array(), cursor, first: true }
  t.equal(errno(bpf.lookupBatch(newMap(t), { ...none, count: 0 })), 'success', 'nothing is asked for')
})

t.test('what is no map, or has no such shape, is refused with its errno', { skip }, async t => {
  const value = new Uint8Array(8)
  const file = openSync('/dev/null', 'r')
  t.teardown(() => closeSync(file))
  for (const [fd, name] of [
    [-1, 'EBADF'],
    [file, 'EINVAL']
  ] as const) {
    t.equal(errno(bpf.lookup(fd, key(1), value)), name)
    t.equal(errno(bpf.add(fd, key(1), value)), name)
    t.equal(errno(bpf.removeBatch(fd, key(1), 1)), name)
    t.equal(errno(bpf.updateBatch(fd, { keys: key(1), values: value, count: 1 })), name)
    t.equal(errno(bpf.lookupBatch(fd, { keys: key(1), values: value, count: 1, cursor: key(0), first: true })), name)
  }
  const refused: readonly [title: string, change: Partial<bpf.MapAttributes>, name: string][] = [
    ['of an unknown type', { type: 9_999 }, 'EINVAL'],
    ['without entries', { maxEntries: 0 }, 'EINVAL'],
    ['without a key', { keyBytes: 0 }, 'EINVAL'],
    ['with an unknown flag', { flags: 1 << 30 }, 'EINVAL'],
    ['an array whose key is no index', { type: ARRAY, keyBytes: 8, flags: 0 }, 'EINVAL'],
    ['with types that were not loaded', { btf: file, keyType: 1, valueType: 1 }, 'EINVAL'],
    ['with a name that is none', { name: 'a map' }, 'EINVAL']
  ]
  for (const [title, change, name] of refused) t.equal(errno(bpf.createMap(mapOf(change))), name, title)
  const kept = bpf.removeBatch(newMap(t, { type: ARRAY, flags: 0 }), key(0), 1)
  t.same([kept.value, kept.errno], [-1, ENOTSUPP], 'an array keeps its entries')
  t.equal(errno(bpf.loadBtf(new Uint8Array(64))), 'EINVAL')
})

t.test('a map and a program are found again by their ids, with their first 15 letters as a name', { skip }, async t => {
  const map = newMap(t, { name: 'test_map_with_a_long_name', maxEntries: 5 })
  t.strictSame(bpf.mapInfo(map), {
    ...{ name: 'test_map_with_a', type: HASH, keyBytes: 4, valueBytes: 8, maxEntries: 5, flags: 1 }
  })
  // The address of the map into register 1.
  const withMap = [instruction(0x18, 0x11, map), instruction(0, 0, 0), setResult(0), EXIT]
  const program = opened(t, load(withMap))
  const info = bpf.programInfo(program)
  t.match(info, { name: 'test_program_of', tag: /^[0-9a-f]{16}$/ })
  const [mapId = 0, ...more] = info?.mapIds ?? []
  t.same(more, [])
  t.equal(bpf.mapInfo(opened(t, bpf.mapById(mapId)))?.maxEntries, 5)
  t.strictSame(bpf.programInfo(opened(t, bpf.programById(info?.id ?? 0))), info)
  const other = bpf.programInfo(opened(t, load([setResult(1), EXIT])))
  t.same(other?.mapIds, [])
  t.not(other?.tag, info?.tag)
  t.equal(bpf.programInfo(opened(t, load(withMap)))?.tag, info?.tag, 'the same instructions')
})

t.test('ids and descriptors of nothing give nothing', { skip }, async t => {
  for (const id of [0, 0x7fffffff]) {
    t.equal(errno(bpf.programById(id)), 'ENOENT')
    t.equal(errno(bpf.mapById(id)), 'ENOENT')
  }
  const file = openSync('/dev/null', 'r')
  t.teardown(() => closeSync(file))
  for (const fd of [-1, file]) {
    t.equal(bpf.programInfo(fd), null)
    t.equal(bpf.mapInfo(fd), null)
  }
})

t.test('a program runs on a packet, and its result is a signed verdict', { skip }, async t => {
  for (const verdict of [0, 2, 7, -1]) {
    const fd = opened(t, load([setResult(verdict), EXIT]))
    const ran = bpf.runProgram(fd, PACKET, new Uint8Array(CONTEXT_BYTES))
    t.equal(errno(ran), 'success')
    t.equal(ran.verdict, verdict)
    t.same(ran.packet, PACKET)
  }
  const fd = opened(t, load([setResult(0), EXIT]))
  t.equal(errno(bpf.runProgram(fd, PACKET.subarray(0, 13), new Uint8Array())), 'EINVAL', 'no whole Ethernet header')
  t.equal(errno(bpf.runProgram(newMap(t), PACKET, new Uint8Array())), 'EINVAL', 'no program')
  t.equal(errno(bpf.runProgram(-1, PACKET, new Uint8Array())), 'EBADF')
})

t.test('the verifier says why it refuses a program, and what it counted in a good one', { skip }, async t => {
  const good = load([setResult(0), EXIT])
  opened(t, good)
  t.match(good.log, /processed 2 insns/)
  const bad: readonly [title: string, code: readonly (readonly number[])[], log: RegExp][] = [
    ['without a result', [EXIT], /R0 !read_ok/],
    ['that writes to its frame pointer', [instruction(0xb7, 10, 0), EXIT], /frame pointer is read only/],
    ['that does not end', [instruction(0x05, 0, 0).with(2, 0xff).with(3, 0xff)], /infinite loop|unreachable|back-edge/],
    ['of an unknown instruction', [instruction(0xff, 0, 0), EXIT], /unknown opcode/],
    ['that refers to no map', [instruction(0x18, 0x11, -1), instruction(0, 0, 0), setResult(0), EXIT], /map/]
  ]
  for (const [title, code, log] of bad) {
    const refused = load(code, 'all')
    t.ok(refused.value < 0, title)
    t.match(errno(refused), /^E(INVAL|ACCES|BADF)$/, title)
    t.match(refused.log, log, title)
  }
  t.match(load([EXIT], 'all').log, /0: \(95\) exit/, 'its way through the program')
  t.notMatch(load([EXIT], 'figures').log, /\(95\) exit/)
  const none = load([])
  t.same([errno(none), none.log], ['E2BIG', ''], 'no instructions')
})

t.test('without privileges no program is loaded', async t => {
  const code = [setResult(0), EXIT]
  t.equal(errno(asNobody(() => load(code))), 'EPERM')
})
