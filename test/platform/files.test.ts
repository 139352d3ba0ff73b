import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ensureDirectory, readIfExists, removeFile, replaceFile, writeDurably } from '#platform/files.ts'

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8)

for (const [name, write] of [
  ['writeDurably', writeDurably],
  ['replaceFile', replaceFile]
] as const) {
  t.test(`${name} replaces the content and the mode, and leaves no temporary file`, async t => {
    const dir = t.testdir({ file: 'a longer old content', 'file.new': 'left by a crash' })
    const path = join(dir, 'file')
    await write(path, 'new')
    t.equal(readFileSync(path, 'utf8'), 'new')
    t.equal(mode(path), '600')
    await write(path, Uint8Array.from([0, 255]), 0o644)
    t.same([...readFileSync(path)], [0, 255])
    t.equal(mode(path), '644')
    t.same(readdirSync(dir), ['file'])
  })

  t.test(`a ${name} that fails keeps the old file and leaves no temporary file`, async t => {
    const dir = t.testdir({ target: { inside: 'kept' } })
    await t.rejects(write(join(dir, 'target'), 'x'), { code: 'ERR_STORAGE', message: /cannot write .*target: / })
    t.equal(readFileSync(join(dir, 'target/inside'), 'utf8'), 'kept')
    t.same(readdirSync(dir), ['target'])
    await t.rejects(write(join(dir, 'absent/file'), 'x'), { code: 'ERR_STORAGE', message: /ENOENT/ })
  })
}

t.test('a missing file reads as null, an unreadable one is an error', async t => {
  const dir = t.testdir({ file: 'text' })
  t.equal((await readIfExists(join(dir, 'file')))?.toString(), 'text')
  t.equal(await readIfExists(join(dir, 'absent')), null)
  await t.rejects(readIfExists(dir), { code: 'ERR_STORAGE', message: /EISDIR/ })
  await t.rejects(readIfExists(join(dir, 'file/below')), { code: 'ERR_STORAGE', message: /ENOTDIR/ })
})

t.test('a directory is created with its parents for its owner alone, and an existing one is kept', async t => {
  const dir = t.testdir({ file: '' })
  const path = await ensureDirectory(dir, 'a', 'b')
  t.equal(path, join(dir, 'a/b'))
  t.equal(mode(path), '700')
  writeFileSync(join(path, 'kept'), '')
  await ensureDirectory(path)
  t.ok(existsSync(join(path, 'kept')))
  await t.rejects(ensureDirectory(dir, 'file'), { code: 'ERR_STORAGE', message: /cannot create .*file: / })
})

t.test('removing an absent file is not an error, removing a directory is', async t => {
  const dir = t.testdir({ file: '' })
  await removeFile(join(dir, 'file'))
  await removeFile(join(dir, 'file'))
  t.notOk(existsSync(join(dir, 'file')))
  mkdirSync(join(dir, 'directory'))
  await t.rejects(removeFile(join(dir, 'directory')))
})
