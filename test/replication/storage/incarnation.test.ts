import t from 'tap'
import type { Random } from '#platform/random.ts'
import { drawIncarnation, readIncarnation } from '#replication/storage/incarnation.ts'
import { Random as SimulatedRandom } from '#test/sim/random.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const drawing = (unit: number): Random => ({ unit: () => unit, id: () => '' })

t.test('a drawn incarnation is durable and within its bounds', async t => {
  for (const [unit, expected] of [
    [0, 1],
    [0.5, 1_073_741_824],
    [1 - 2 ** -32, 2_147_483_647]
  ] as const) {
    const files = new SimulatedDisk()
    const disk = { dataDir: '/data', files }
    t.equal(await readIncarnation(disk), null, 'none yet')
    t.equal(await drawIncarnation(disk, drawing(unit)), expected)
    const afterPowerCut = { dataDir: '/data', files: files.powerCut(new SimulatedRandom(1)) }
    t.equal(await readIncarnation(afterPowerCut), expected)
  }
})

t.test('a second draw replaces the first', async t => {
  const disk = { dataDir: '/data', files: new SimulatedDisk() }
  await drawIncarnation(disk, drawing(0))
  t.equal(await drawIncarnation(disk, drawing(0.5)), await readIncarnation(disk))
})

t.test('a damaged incarnation is refused with what it holds', async t => {
  for (const text of ['', '0', '-1', '1.5', '12345678901', 'one', '1 2', '1\n2', '9'.repeat(50)]) {
    const files = new SimulatedDisk()
    const file = await files.create('/data/incarnation')
    await file.write(Buffer.from(text), 0)
    await t.rejects(
      readIncarnation({ dataDir: '/data', files }),
      { code: 'ERR_STORAGE', message: `/data/incarnation is damaged: it holds "${text.slice(0, 20)}"` },
      JSON.stringify(text)
    )
  }
})

t.test('a failed draw is a storage error, and no incarnation is left', async t => {
  const files = new SimulatedDisk()
  files.failNext = { operation: 'sync', code: 'EIO' }
  await t.rejects(drawIncarnation({ dataDir: '/data', files }, drawing(0)), { code: 'ERR_STORAGE', message: /EIO/ })
  t.equal(await readIncarnation({ dataDir: '/data', files }), null)
})
