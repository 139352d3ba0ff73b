import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { scratch } from '../api/scratch.ts'
import { served, vx } from './vx.ts'

t.test('a backup is one file with mode 0600, which replaces the previous one and leaves nothing else', async t => {
  const [{ env }, dir] = [await served(t), scratch(t)]
  const file = join(dir, 'b.snap')
  await writeFile(file, 'the previous one', { mode: 0o644 })
  for (let again = 0; again < 2; again++) {
    t.match(await vx(['snapshot', 'save', file], { env }), { code: 0, err: '' })
    t.equal((await stat(file)).mode & 0o777, 0o600)
    t.same(await readdir(dir), ['b.snap'])
  }
  t.match(await vx(['snapshot', 'inspect', file], { env: {} }), { code: 0, out: /\nnetworks +1\n/ })
})

t.test('two concurrent saves to one file both succeed', async t => {
  const [{ env }, dir] = [await served(t), scratch(t)]
  const file = join(dir, 'b.snap')
  const save = (): ReturnType<typeof vx> => vx(['snapshot', 'save', file], { env })
  for (const { code, err } of await Promise.all([save(), save(), save()])) t.same([code, err], [0, ''])
  t.match(await vx(['snapshot', 'inspect', file]), { code: 0 })
  t.same(await readdir(dir), ['b.snap'])
})

t.test('a failed or truncated save keeps the previous file', async t => {
  const [{ env, agent }, dir] = [await served(t), scratch(t)]
  const file = join(dir, 'b.snap')
  await writeFile(file, 'the previous one')
  agent.refusal = new VxmeshError('ERR_NO_QUORUM', 'no leader is known')
  t.match(await vx(['snapshot', 'save', file], { env }), { code: 6, out: '', err: /ERR_NO_QUORUM/ })
  const torn = createServer((_, response) => response.writeHead(200).end('VXSN and no more')).listen(join(dir, 's'))
  await once(torn, 'listening')
  t.teardown(() => torn.close())
  const cut = await vx(['snapshot', 'save', file, '--socket', join(dir, 's')])
  t.match(cut, { code: 1, out: '', err: /b.snap is not a usable snapshot.*ERR_STORAGE/ })
  t.equal((await readFile(file)).toString(), 'the previous one')
  t.same((await readdir(dir)).sort(), ['b.snap', 's'])
})

t.test('an error names a file that cannot be written, and nothing is left behind', async t => {
  const [{ env }, dir] = [await served(t), scratch(t)]
  await mkdir(join(dir, 'taken'))
  for (const [file, words] of [
    [join(dir, 'none/b.snap'), /cannot write .*none\/b.snap/],
    [join(dir, 'taken'), /cannot write .*taken/]
  ] as const) {
    t.match(await vx(['snapshot', 'save', file], { env }), { code: 1, out: '', err: words })
  }
  t.same(await readdir(dir), ['taken'])
})

t.test('a backup is restored to the data directory of the settings: flag, variable, file', async t => {
  const [{ env }, dir] = [await served(t), scratch(t)]
  const file = join(dir, 'b.snap')
  await vx(['snapshot', 'save', file], { env })
  const config = join(dir, 'config.yaml')
  await writeFile(config, `bind: 192.0.2.1\ndataDir: ${dir}/by-file\n`)
  for (const [flags, variables, where] of [
    [['--data-dir', `${dir}/by-flag`, '--config', config], { VXMESH_DATA_DIR: `${dir}/not` }, 'by-flag'],
    [['--config', config], { VXMESH_DATA_DIR: `${dir}/by-variable` }, 'by-variable'],
    [['--config', config], {}, 'by-file'],
    [['--data-dir', `${dir}/again`], { VXMESH_CONFIG: config }, 'again']
  ] as const) {
    t.match(await vx(['snapshot', 'restore', file, ...flags], { env: variables }), { code: 0, err: '' }, where)
    t.ok(existsSync(join(dir, where, 'restore.snap')), where)
  }
  t.notOk(existsSync(join(dir, 'not')))
  const twice = await vx(['snapshot', 'restore', file, '--data-dir', `${dir}/again`])
  t.match(twice, { code: 2, out: '', err: /dataDir: .*is not empty \(restore.snap\).*ERR_CONFIG/ })
  const relative = await vx(['snapshot', 'restore', file], { env: { VXMESH_DATA_DIR: 'relative' } })
  t.match(relative, { code: 2, err: /VXMESH_DATA_DIR: must be an absolute path/ })
})

t.test('a damaged file is refused with its name and the reason', async t => {
  const dir = scratch(t)
  const file = join(dir, 'b.snap')
  await writeFile(file, 'x')
  for (const argv of [
    ['inspect', file],
    ['restore', file, '--data-dir', join(dir, 'data')]
  ]) {
    t.match(await vx(['snapshot', ...argv]), {
      code: 1,
      out: '',
      err: /b.snap is not a usable snapshot: it does not start/
    })
  }
  t.match(await vx(['snapshot', 'inspect', join(dir, 'none')]), { code: 1, err: /none cannot be read: ENOENT/ })
  t.same(await readdir(dir), ['b.snap'])
})
