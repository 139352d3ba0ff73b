import { join } from 'node:path'
import t from 'tap'
import { isTemporary, readDurable, replace, writeDurable } from '#platform/durable-file.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { Random } from '#test/sim/random.ts'
import { SimulatedDisk } from '../replication/storage/simulated-disk.ts'

const PATH = '/data/file'

t.test('a written file survives a power cut, and an absent one reads as null', async t => {
  const disk = new SimulatedDisk()
  t.equal(await readDurable(disk, PATH), null)
  await writeDurable(disk, PATH, 'first')
  await writeDurable(disk, PATH, Buffer.from('second'))
  for (let seed = 1; seed <= 20; seed++) {
    t.equal((await readDurable(disk.powerCut(new Random(seed)), PATH))?.toString(), 'second')
  }
  t.same(disk.paths(), [PATH])
})

t.test('a crash at any operation of a replacement leaves the old or the new content', async t => {
  const disk = new SimulatedDisk()
  await writeDurable(disk, PATH, 'old')
  const contents = new Set<string>()
  const random = new Random(1)
  disk.afterEach = async () => {
    for (const crashed of [disk.clone(), disk.powerCut(random)]) {
      contents.add((await readDurable(crashed, PATH))?.toString() ?? 'none')
    }
  }
  await writeDurable(disk, PATH, 'new')
  disk.afterEach = null
  t.same([...contents].sort(), ['new', 'old'])
  t.ok(disk.operations > 6, 'several crash points')
})

t.test('a failed replacement is a storage error and keeps the old content', async t => {
  for (const operation of ['write', 'sync'] as const) {
    const disk = new SimulatedDisk()
    await writeDurable(disk, PATH, 'old')
    disk.failNext = { operation, code: 'ENOSPC' }
    await t.rejects(writeDurable(disk, PATH, 'new'), { code: 'ERR_STORAGE', message: /cannot write .*ENOSPC/ })
    t.equal((await readDurable(disk, PATH))?.toString(), 'old', operation)
    t.same(disk.paths(), [PATH], 'no partial file is left')
  }
  const unreadable: FileLayer = { ...diskFiles, read: () => Promise.reject(new Error('EIO')) }
  await t.rejects(readDurable(unreadable, PATH), { code: 'ERR_STORAGE', message: /cannot read .*EIO/ })
})

t.test('a replacement that is not durable is atomic, but may be lost at a power cut', async t => {
  const disk = new SimulatedDisk()
  await writeDurable(disk, PATH, 'old')
  await replace(disk, PATH, { data: 'new', durable: false })
  t.equal((await readDurable(disk, PATH))?.toString(), 'new')
  const contents = new Set<string>()
  for (let seed = 1; seed <= 50; seed++) {
    contents.add((await readDurable(disk.powerCut(new Random(seed)), PATH))?.toString() ?? 'none')
  }
  t.ok(contents.has('old'))
})

t.test('replacements overlap only with a suffix each', async t => {
  const overlap = async (suffixes: readonly string[]): Promise<string | undefined> => {
    const path = join(t.testdir(), 'file')
    await Promise.all(suffixes.map(suffix => replace(diskFiles, path, { data: suffix, durable: true, suffix })))
    return (await readDurable(diskFiles, path))?.toString()
  }
  t.match(await overlap(['.one', '.two']), /^\.(one|two)$/)
  await t.rejects(overlap(['.one', '.one']), { code: 'ERR_STORAGE' })
})

t.test('only the name of a temporary file is temporary', t => {
  for (const [name, expected] of [
    ['state.new', true],
    ['.new', true],
    ['state', false],
    ['new', false],
    ['state.new.json', false]
  ] as const) {
    t.equal(isTemporary(name), expected, name)
  }
  t.end()
})
