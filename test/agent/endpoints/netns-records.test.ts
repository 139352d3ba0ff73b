import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NetnsRecordFiles, type NetnsRecord, type SavedRecord } from '#agent/endpoints/netns-records.ts'
import { parseContainerId, parseIfName } from '#model/ids.ts'
import { isTemporary } from '#platform/durable-file.ts'
import { createLogger } from '#platform/log.ts'
import { scratch } from '../../api/scratch.ts'
import { waitFor } from '../../lab/wait.ts'

const NAME = { containerId: parseContainerId('web'), ifname: parseIfName('eth0') }
const RECORD: NetnsRecord = { netns: '/run/netns/web', netnsId: '4:17:99', bootId: 'boot-1' }

/** An empty data directory, with its records and the file that web's record is in. */
async function opened(t: Test): Promise<{ dataDir: string; records: NetnsRecordFiles; files: () => string[] }> {
  const dataDir = scratch(t)
  const records = new NetnsRecordFiles({ dataDir, logger: createLogger('silent') })
  t.equal((await records.load()).size, 0)
  return { dataDir, records, files: () => readdirSync(join(dataDir, 'netns')).filter(name => !isTemporary(name)) }
}

const reload = (dataDir: string): Promise<ReadonlyMap<string, SavedRecord>> =>
  new NetnsRecordFiles({ dataDir, logger: createLogger('silent') }).load()

t.test('a saved record is there after a restart, and a removed one is not', async t => {
  const { dataDir, records, files } = await opened(t)
  records.save(NAME, RECORD)
  await waitFor('the file', () => files().length === 1)
  t.same([...(await reload(dataDir))], [['web/eth0', RECORD]])
  records.remove(NAME)
  await waitFor('no file', () => files().length === 0)
  t.equal((await reload(dataDir)).size, 0)
})

t.test('that an attach ended without an answer is there after a restart, until the record replaces it', async t => {
  const { dataDir, records, files } = await opened(t)
  records.save(NAME, 'unfinished')
  await waitFor('the file', () => files().length === 1)
  t.same([...(await reload(dataDir))], [['web/eth0', 'unfinished']])
  records.save(NAME, RECORD)
  await waitFor('the record', () => readFirst(dataDir).includes('boot-1'))
  t.same([...(await reload(dataDir))], [['web/eth0', RECORD]])
})

t.test('changes of one record take effect in their order', async t => {
  const { dataDir, records, files } = await opened(t)
  for (let n = 0; n < 20; n++) {
    records.save(NAME, RECORD)
    records.remove(NAME)
  }
  records.save(NAME, { ...RECORD, bootId: 'last' })
  await waitFor('the last record', () => files().length === 1 && readFirst(dataDir).includes('"last"'))
  t.same([...(await reload(dataDir)).values()], [{ ...RECORD, bootId: 'last' }])
})

t.test('a damaged record is skipped, and the others are read', async t => {
  const { dataDir, records, files } = await opened(t)
  records.save(NAME, RECORD)
  await waitFor('the file', () => files().length === 1)
  for (const [n, text] of [
    '',
    '{',
    'null',
    '[]',
    JSON.stringify({ ...NAME, ...RECORD, bootId: 7 }),
    JSON.stringify({ ...RECORD, containerId: '../x', ifname: 'eth0' }),
    JSON.stringify({ ...NAME, unfinished: 'true' }),
    JSON.stringify({ ifname: 'eth0', unfinished: true }),
    JSON.stringify({ ...NAME, netns: '/run/netns/x', netnsId: '1:2:3' })
  ].entries()) {
    writeFileSync(join(dataDir, 'netns', `damaged-${n}`), text)
  }
  t.same([...(await reload(dataDir)).keys()], ['web/eth0'])
})

t.test('a record that cannot be written is not an error of its endpoint', async t => {
  const { dataDir, records, files } = await opened(t)
  rmSync(join(dataDir, 'netns'), { recursive: true })
  records.save(NAME, RECORD)
  records.remove(NAME)
  await records.load()
  records.save(NAME, RECORD)
  await waitFor('the file', () => files().length === 1)
})

function readFirst(dataDir: string): string {
  try {
    return readdirSync(join(dataDir, 'netns'))
      .map(file => readFileSync(join(dataDir, 'netns', file), 'utf8'))
      .join()
  } catch {
    return ''
  }
}
