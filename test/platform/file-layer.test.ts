import { constants, existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { diskFiles } from '#platform/file-layer.ts'

t.test('a file is written at any position, truncated, synced and opened again', async t => {
  const path = join(t.testdir(), 'file')
  const file = await diskFiles.create(path)
  await file.write(Buffer.from('hello'), 0)
  await file.write(Buffer.from('!'), 7)
  await file.write(Buffer.from('J'), 0)
  await file.write(new Uint8Array(), 3)
  await file.sync()
  await file.close()
  t.same(await diskFiles.read(path), Buffer.from('Jello\0\0!'))
  const again = await diskFiles.open(path)
  await again.truncate(4)
  await again.close()
  t.equal(readFileSync(path, 'utf8'), 'Jell')
  t.equal(statSync(path).mode & 0o777, 0o600)
})

t.test('a synced file writes its buffers in order at a position, is truncated, and must exist', async t => {
  const dir = t.testdir({ file: 'old content' })
  const path = join(dir, 'file')
  const file = await diskFiles.openSynced(path)
  const flags = readdirSync('/proc/self/fd')
    .filter(fd => existsSync(`/proc/self/fd/${fd}`) && readlinkSync(`/proc/self/fd/${fd}`) === path)
    .map(fd => parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8))
  t.same(
    flags.map(bits => (bits & constants.O_DSYNC) === constants.O_DSYNC),
    [true]
  )
  await file.write([Buffer.from('new'), new Uint8Array(), Buffer.from(' words')], 4)
  await file.write([], 4)
  await file.write([new Uint8Array()], 99)
  t.equal(readFileSync(path, 'utf8'), 'old new words')
  await file.truncate(7)
  await file.close()
  t.equal(readFileSync(path, 'utf8'), 'old new')
  await t.rejects(diskFiles.openSynced(join(dir, 'absent')), { code: 'ENOENT' })
  t.notOk(existsSync(join(dir, 'absent')))
})

t.test('a large synced write is complete, and a failing one is an error', async t => {
  const path = join(t.testdir({ file: '' }), 'file')
  const bytes = Buffer.alloc(3 * 1024 * 1024 + 1, 'vxmesh')
  const file = await diskFiles.openSynced(path)
  await file.write([bytes, bytes], 5)
  t.ok(readFileSync(path).equals(Buffer.concat([Buffer.alloc(5), bytes, bytes])))
  await file.close()
  await t.rejects(file.write([bytes], 0), 'closed: no other file that got its number is written')
  const full = await diskFiles.openSynced('/dev/full')
  await t.rejects(full.write([Buffer.from('x')], 0), { code: 'ENOSPC' })
  await full.close()
})

t.test('a large write is complete', async t => {
  const path = join(t.testdir(), 'file')
  const bytes = Buffer.alloc(8 * 1024 * 1024 + 1, 'vxmesh')
  const file = await diskFiles.create(path)
  await file.write(bytes, 0)
  await file.close()
  t.ok(readFileSync(path).equals(bytes))
})

t.test('create refuses an existing file, and open an absent one', async t => {
  const dir = t.testdir({ file: 'old' })
  await t.rejects(diskFiles.create(join(dir, 'file')), { code: 'EEXIST' })
  t.equal(readFileSync(join(dir, 'file'), 'utf8'), 'old')
  await t.rejects(diskFiles.open(join(dir, 'absent')), { code: 'ENOENT' })
  t.notOk(existsSync(join(dir, 'absent')))
  await t.rejects(diskFiles.read(join(dir, 'absent')), { code: 'ENOENT' })
  await t.rejects(diskFiles.list(join(dir, 'absent')), { code: 'ENOENT' })
  await t.rejects(diskFiles.syncDirectory(join(dir, 'absent')), { code: 'ENOENT' })
})

t.test('directories are created for their owner alone, names are listed, renamed and removed', async t => {
  const dir = join(t.testdir(), 'a', 'b')
  await diskFiles.ensureDirectory(dir)
  await diskFiles.ensureDirectory(dir)
  t.equal(statSync(dir).mode & 0o777, 0o700)
  for (const name of ['one', 'two']) writeFileSync(join(dir, name), name)
  t.same((await diskFiles.list(dir)).sort(), ['one', 'two'])
  await diskFiles.rename(join(dir, 'one'), join(dir, 'two'))
  await diskFiles.syncDirectory(dir)
  t.equal(readFileSync(join(dir, 'two'), 'utf8'), 'one')
  await diskFiles.remove(join(dir, 'two'))
  await diskFiles.remove(join(dir, 'two'))
  t.same(readdirSync(dir), [])
})
