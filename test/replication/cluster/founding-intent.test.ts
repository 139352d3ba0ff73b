import { dirname } from 'node:path'
import t from 'tap'
import type { ClusterId } from '#model/ids.ts'
import { FoundingIntent } from '#replication/cluster/founding-intent.ts'
import type { HostDisk } from '#replication/storage/host-disk.ts'
import { Random } from '#test/sim/random.ts'
import { SimulatedDisk } from '../storage/simulated-disk.ts'

const [ONE, OTHER] = ['0123456789abcdef', 'fedcba9876543210'] as [ClusterId, ClusterId]
const on = (files: SimulatedDisk): HostDisk => ({ dataDir: '/data', files })

async function recordedOn(files: SimulatedDisk): Promise<ClusterId | null> {
  const intent = new FoundingIntent(on(files))
  await intent.load()
  return intent.recorded
}

t.test('the last promise is read again after a restart', async t => {
  const files = new SimulatedDisk()
  const intent = new FoundingIntent(on(files))
  t.equal(intent.recorded, null)
  t.same(await Promise.all([intent.record(ONE), intent.record(OTHER)]), [true, true])
  t.equal(intent.recorded, OTHER)
  t.equal(await recordedOn(files), OTHER)
})

t.test('a recorded promise survives every power cut', async t => {
  for (let seed = 0; seed < 50; seed++) {
    const files = new SimulatedDisk()
    await new FoundingIntent(on(files)).record(ONE)
    t.equal(await recordedOn(files.powerCut(new Random(seed))), ONE, `seed ${seed}`)
  }
})

t.test('a power cut during the write leaves the whole promise or none', async t => {
  for (let seed = 0; seed < 50; seed++) {
    const random = new Random(seed)
    const files = new SimulatedDisk()
    const left: SimulatedDisk[] = []
    files.afterEach = () => {
      left.push(files.powerCut(random))
      return Promise.resolve()
    }
    await new FoundingIntent(on(files)).record(ONE)
    for (const disk of left) t.ok([null, ONE].includes(await recordedOn(disk)), `seed ${seed}`)
  }
})

for (const text of [
  '',
  '0123456789abcde',
  '0123456789abcdef0',
  '0123456789ABCDEF',
  'nonsense',
  '0123456789abcdef\nx'
]) {
  t.test(`a truncated or damaged file counts as absent: ${JSON.stringify(text)}`, async t => {
    const files = new SimulatedDisk()
    const file = await files.create('/data/founding')
    await file.write(Buffer.from(text), 0)
    t.equal(await recordedOn(files), null)
  })
}

t.test('a disk that belongs to a cluster keeps no promise and makes none', async t => {
  const files = new SimulatedDisk()
  const intent = new FoundingIntent(on(files))
  await intent.record(ONE)
  const [, late] = await Promise.all([intent.clear(), intent.record(OTHER)])
  t.equal(late, false)
  t.equal(await recordedOn(files), null)
  t.same(
    files.paths().filter(path => dirname(path) === '/data'),
    []
  )
})

t.test('a promise that cannot be written is refused, and the next one may succeed', async t => {
  for (const operation of ['write', 'sync', 'syncDirectory'] as const) {
    const files = new SimulatedDisk()
    const intent = new FoundingIntent(on(files))
    files.failNext = { operation, code: 'ENOSPC' }
    await t.rejects(intent.record(ONE), { code: 'ERR_STORAGE' }, operation)
    t.equal(intent.recorded, null, operation)
    t.equal(await intent.record(OTHER), true, operation)
    t.equal(await recordedOn(files), OTHER, operation)
  }
})
