// Maps in this kernel: many entries at once, one value a processor, and what is refused.

import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { BpfMap, type Dump, type Entry } from '#overlay/bpf/map.ts'
import type { MapShape } from '#overlay/bpf/object/btf.ts'
import { countProcessors } from '#overlay/bpf/datapath.ts'
import { summed, word } from '#overlay/plan/programs/entries.ts'
import * as bpf from '#platform/bpf.ts'
import { errnoName } from '#platform/libc.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF maps'
const [HASH, ARRAY, PERCPU_HASH] = [1, 2, 5]
/** BPF_F_NO_PREALLOC, and BPF_F_ZERO_SEED with it: the same key is always in the same bucket. */
const [NO_PREALLOC, ZERO_SEED] = [1, 1 | 64]
/** Entries in one system call. */
const BATCH = 1_000
const processors = countProcessors(readFileSync('/sys/devices/system/cpu/possible', 'utf8'))

function newMap(t: Test, p: { type?: number; maxEntries?: number; flags?: number; valueBytes?: number } = {}): BpfMap {
  const { type = HASH, maxEntries = 10_000, flags = NO_PREALLOC, valueBytes = 4 } = p
  const shape: MapShape = {
    ...{ name: 'test_map', type, maxEntries, flags },
    ...{ key: { bytes: 4, typeId: 0 }, value: { bytes: valueBytes, typeId: 0 } }
  }
  const common = { name: shape.name, type, maxEntries, flags, btf: 0, keyType: 0, valueType: 0 }
  const made = bpf.createMap({ ...common, keyBytes: 4, valueBytes })
  if (made.value < 0) throw new Error(errnoName(made.errno))
  const map = new BpfMap(shape, made.value, processors)
  t.teardown(() => map.close())
  return map
}

const entry = (key: number, value: number): Entry => ({ key: word(key), value: word(value) })
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)
const numberOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)

/** Key and value of each entry, by key. */
function listed(map: BpfMap): (readonly [number, number])[] {
  return map
    .entries()
    .map(({ key, value }) => [numberOf(key), numberOf(value)] as const)
    .sort(([a], [b]) => a - b)
}

t.test('thousands of entries are written, replaced, read and deleted', { skip }, async t => {
  const map = newMap(t)
  t.same(listed(map), [])
  for (const count of [0, 1, BATCH - 1, BATCH, BATCH + 1, 2_500]) {
    map.set(range(0, count).map(n => entry(n, n * 3)))
    t.same(
      listed(map),
      range(0, count).map(n => [n, n * 3])
    )
  }
  map.set(range(500, 3_000).map(n => entry(n, n + 7)))
  t.same(
    listed(map),
    range(0, 3_000).map(n => [n, n < 500 ? n * 3 : n + 7])
  )
  map.delete(range(1, 3_000).map(word))
  t.same(listed(map), [[0, 0]])
})

t.test('of two entries for one key the later one is kept', { skip }, async t => {
  const map = newMap(t)
  map.set([entry(1, 10), entry(2, 20), entry(1, 11)])
  t.same(listed(map), [
    [1, 11],
    [2, 20]
  ])
})

t.test('an entry is read by its key, or there is none', { skip }, async t => {
  const map = newMap(t)
  map.set([entry(1, 10)])
  t.same(map.get(word(1)), word(10))
  t.equal(map.get(word(2)), null)
  map.delete([word(1)])
  t.equal(map.get(word(1)), null)
})

t.test('what exists is not added again', { skip }, async t => {
  const map = newMap(t)
  map.add(entry(1, 10))
  map.add(entry(1, 11))
  map.add(entry(2, 20))
  t.same(listed(map), [
    [1, 10],
    [2, 20]
  ])
})

t.test('absent entries are deleted, and those after them, too', { skip }, async t => {
  const map = newMap(t)
  map.set(range(0, 4).map(n => entry(n, n)))
  map.delete([9, 1, 1, 77, 3].map(word))
  t.same(listed(map), [
    [0, 0],
    [2, 2]
  ])
  map.delete([])
  map.delete([word(1)])
  t.equal(listed(map).length, 2)
})

t.test(
  'of many keys those that have an entry are deleted, wherever the absent ones are among them',
  { skip },
  async t => {
    const count = 2_500
    const all = range(0, count)
    const rows: readonly [title: string, absent: readonly number[]][] = [
      ['none', []],
      ['at the beginning', range(0, 3)],
      ['in the middle', range(1_200, 1_203)],
      ['at the end', range(count - 3, count)],
      ['at the beginning, in the middle and at the end', [0, 1, 700, 1_500, count - 2, count - 1]],
      ['on both sides of where a call ends', [BATCH - 1, BATCH, 2 * BATCH - 1, 2 * BATCH]],
      ['every second', all.filter(n => n % 2 === 0)],
      ['all but the last', range(0, count - 1)],
      ['all', all]
    ]
    for (const type of [HASH, PERCPU_HASH]) {
      for (const [title, absent] of rows) {
        const map = newMap(t, { type, valueBytes: 8 })
        const others = [count, count + 7, 9_999]
        const missing = new Set(absent)
        const present = [...all, ...others].filter(n => !missing.has(n))
        map.set(present.map(n => ({ key: word(n), value: new Uint8Array(map.valueBytes) })))
        t.equal(map.dump().count, present.length, title)
        map.delete(all.map(word))
        t.same(
          map
            .entries()
            .map(({ key }) => numberOf(key))
            .sort((a, b) => a - b),
          others,
          `${title}: the others stay`
        )
      }
    }
  }
)

t.test('what a map holds reads the same as long as nothing changes', { skip }, async t => {
  const map = newMap(t)
  const bytesOf = ({ keys, values }: Dump): string => Buffer.concat([keys, values]).toString('latin1')
  t.match(map.dump(), { count: 0, keys: { length: 0 }, values: { length: 0 } })
  map.set(range(0, 2_500).map(n => entry(n, n + 1)))
  const first = map.dump()
  t.same([first.count, first.keys.length, first.values.length], [2_500, 10_000, 10_000])
  for (const i of range(0, first.count)) {
    const at = i * 4
    const [key, value] = [numberOf(first.keys.subarray(at, at + 4)), numberOf(first.values.subarray(at, at + 4))]
    if (value !== key + 1) t.equal(value, key + 1, `the value of ${key}`)
  }
  t.equal(new Set(map.entries().map(({ key }) => numberOf(key))).size, 2_500, 'each once')
  t.equal(bytesOf(map.dump()), bytesOf(first), 'again')
  map.set([entry(77, 79)])
  const changed = map.dump()
  t.equal(changed.count, 2_500)
  t.not(bytesOf(changed), bytesOf(first), 'another value')
  map.set([entry(77, 78)])
  map.delete([word(78)])
  t.equal(map.dump().count, 2_499)
})

t.test('a map for each processor keeps a value for each, padded to 8 bytes', { skip }, async t => {
  for (const [valueBytes, padded] of [
    [16, 16],
    [4, 8],
    [12, 16]
  ] as const) {
    const map = newMap(t, { type: PERCPU_HASH, valueBytes })
    t.equal(map.valueBytes, padded * processors)
    const value = (key: number): Uint8Array => {
      const bytes = new Uint8Array(map.valueBytes)
      for (const i of range(0, processors)) new DataView(bytes.buffer).setUint32(i * padded, key + i, true)
      return bytes
    }
    map.set(range(0, 1_500).map(key => ({ key: word(key), value: value(key) })))
    for (const key of [0, 999, 1_000, 1_499]) t.same(map.get(word(key)), value(key), `${key}`)
    map.add({ key: word(3), value: value(77) })
    map.add({ key: word(2_000), value: value(2_000) })
    const entries = map.entries()
    t.equal(entries.length, 1_501)
    t.ok(
      entries.every(({ key, value: found }) => Buffer.compare(found, value(numberOf(key))) === 0),
      'each has its own values'
    )
  }
  const map = newMap(t, { type: PERCPU_HASH, valueBytes: 8 })
  map.set([{ key: word(1), value: new Uint8Array(BigUint64Array.from({ length: processors }, () => 5n).buffer) }])
  t.same(summed(map.get(word(1)) ?? new Uint8Array(), 1), [5 * processors])
})

t.test('an array has all its entries from the start, and none can be deleted', { skip }, async t => {
  const map = newMap(t, { type: ARRAY, maxEntries: 3, flags: 0 })
  map.set([entry(1, 10)])
  t.same(listed(map), [
    [0, 0],
    [1, 10],
    [2, 0]
  ])
  map.add(entry(1, 11))
  t.same(map.get(word(1)), word(10), 'nor added')
  t.equal(map.get(word(3)), null)
  // ENOTSUPP, which has no name outside the kernel.
  t.throws(() => map.delete([word(1)]), { code: 'ERR_KERNEL', message: /^delete from BPF map test_map: .*524/ })
  t.same(map.get(word(1)), word(10))
  t.throws(() => map.set([entry(3, 1)]), { code: 'ERR_KERNEL', context: { errno: 'E2BIG' } })
})

t.test('in a full map the entries before the refused one are written', { skip }, async t => {
  const map = newMap(t, { maxEntries: 1_500 })
  const error = { code: 'ERR_KERNEL', message: /^write BPF map test_map: /, context: { errno: 'E2BIG' } }
  t.throws(() => map.set(range(0, 1_600).map(n => entry(n, n))), error)
  t.same(
    listed(map),
    range(0, 1_500).map(n => [n, n])
  )
  t.throws(() => map.add(entry(9_999, 1)), error)
  t.throws(() => map.set([entry(9_999, 1)]), error)
  map.set([entry(3, 33)])
  t.same(map.get(word(3)), word(33), 'what exists is replaced')
})

t.test('a map that is closed says what could not be done', { skip }, async t => {
  const { shape } = newMap(t)
  const map = new BpfMap(shape, -1, processors)
  const refused = (doing: string) => ({
    ...{ code: 'ERR_KERNEL', context: { errno: 'EBADF' } },
    message: new RegExp(`^${doing} BPF map test_map: .*EBADF`)
  })
  t.throws(() => map.get(word(1)), refused('read'))
  t.throws(() => map.entries(), refused('read'))
  t.throws(() => map.set([entry(1, 1)]), refused('write'))
  t.throws(() => map.add(entry(1, 1)), refused('write'))
  t.throws(() => map.delete([word(1)]), refused('delete from'))
  map.set([])
  map.delete([])
})

/** In which bucket of a map with ZERO_SEED the kernel keeps a key of 4 bytes (jhash2 of linux/jhash.h, of one word). */
function bucketOf(key: number, buckets: number): number {
  const left = (x: number, by: number): number => (x << by) | (x >>> (32 - by))
  const start = 0xdeadbeef + 4
  let [a, b, c] = [(start + key) | 0, start | 0, start | 0]
  c = ((c ^ b) - left(b, 14)) | 0
  a = ((a ^ c) - left(c, 11)) | 0
  b = ((b ^ a) - left(a, 25)) | 0
  c = ((c ^ b) - left(b, 16)) | 0
  a = ((a ^ c) - left(c, 4)) | 0
  b = ((b ^ a) - left(a, 14)) | 0
  c = ((c ^ b) - left(b, 24)) | 0
  return (c & (buckets - 1)) >>> 0
}

t.test('entries are read, however many of them share a bucket', { skip }, async t => {
  const buckets = 4_096
  const map = newMap(t, { maxEntries: buckets, flags: ZERO_SEED })
  const inOne: number[] = []
  for (let key = 0; inOne.length < 2_100; key++) if (bucketOf(key, buckets) === 7) inOne.push(key)
  const others = range(0, 1_500).filter(key => bucketOf(key, buckets) !== 7)
  map.set([...others, ...inOne].map(key => entry(key, key + 1)))
  const errnos = new Set<string>()
  const into = { keys: new Uint8Array(BATCH * 4), values: new Uint8Array(BATCH * 4), cursor: new Uint8Array(4) }
  for (let first = true, read; first || read === undefined || read.value >= 0; first = false) {
    read = bpf.lookupBatch(map.fd, { ...into, count: BATCH, first })
    if (read.value < 0) errnos.add(errnoName(read.errno))
  }
  t.same([...errnos], ['ENOSPC'], 'the bucket has more entries than one read has room for')
  const found = listed(map).sort(([a], [b]) => a - b)
  t.same(
    found,
    [...others, ...inOne].sort((a, b) => a - b).map(key => [key, key + 1])
  )
})

t.test('possible processors are counted, of one range or of several', async t => {
  for (const [list, count] of [
    ['0\n', 1],
    ['0-3\n', 4],
    ['0-127\n', 128],
    ['0,2-3\n', 3],
    ['0-1,4-5,8\n', 5]
  ] as const) {
    t.equal(countProcessors(list), count, list.trim())
  }
  for (const list of ['', '\n', 'all', '0-', '3-1']) t.throws(() => countProcessors(list), { code: 'ERR_UNSUPPORTED' })
})
