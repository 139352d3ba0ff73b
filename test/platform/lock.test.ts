import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { readStartTime } from '#platform/host-facts.ts'
import { lockDirectory } from '#platform/lock.ts'

t.test('a lock names its holder, refuses a second one, and is gone after its release', async t => {
  const dir = t.testdir()
  const path = join(dir, 'agent.lock')
  const lock = await lockDirectory(dir)
  t.equal(readFileSync(path, 'utf8'), `${process.pid} ${String(await readStartTime(process.pid))}\n`)
  await t.rejects(lockDirectory(dir), {
    code: 'ERR_CONFIG',
    field: 'dataDir',
    message: new RegExp(`in use by the agent with pid ${process.pid}`)
  })
  t.ok(existsSync(path), 'the refused attempt keeps the lock')
  await lock.release()
  t.notOk(existsSync(path))
  await (await lockDirectory(dir)).release()
})

t.test('a stale lock is replaced', async t => {
  const startTime = (await readStartTime(process.pid)) ?? ''
  for (const [what, content] of [
    ['its process has exited', '999999999 12345\n'],
    ['its pid belongs to a later process', `${process.pid} ${Number(startTime) - 1}\n`],
    ['a crash left it empty', ''],
    ['a crash left half of it', `${process.pid}`],
    ['it is not a lock', 'locked by me\n']
  ] as const) {
    const dir = t.testdir({ 'agent.lock': content })
    const lock = await lockDirectory(dir)
    t.equal(readFileSync(join(dir, 'agent.lock'), 'utf8'), `${process.pid} ${startTime}\n`, what)
    await lock.release()
  }
})

t.test('of several concurrent attempts exactly one gets the lock', async t => {
  const dir = t.testdir()
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => lockDirectory(dir)))
  const locks = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
  t.equal(locks.length, 1)
  for (const result of results) if (result.status === 'rejected') t.match(result.reason, { code: 'ERR_CONFIG' })
  await locks[0]?.release()
})

t.test('two processes that race for a stale lock never both get it', async t => {
  const dir = t.testdir({ 'agent.lock': '999999999 12345\n' })
  const taker = join(import.meta.dirname, 'lock-taker.ts')
  const ended = [1, 2].map(async () => {
    const child = spawn(process.execPath, [taker, dir, '200'], { stdio: ['ignore', 'ignore', 'pipe'] })
    const errors = text(child.stderr)
    const [code] = (await once(child, 'close')) as [number | null]
    return { code, errors: await errors }
  })
  for (const { code, errors } of await Promise.all(ended)) t.equal(code, 0, errors)
})

t.test('the lock of a process that is killed is free at once, although its file stays', async t => {
  const dir = t.testdir()
  const script = `import { lockDirectory } from '#platform/lock.ts'
    await lockDirectory(process.argv[1])
    console.log('locked')
    setInterval(() => undefined, 1_000)`
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script, dir])
  await once(child.stdout, 'data')
  await t.rejects(lockDirectory(dir), { code: 'ERR_CONFIG', message: new RegExp(`with pid ${child.pid ?? 0}`) })
  child.kill('SIGKILL')
  await once(child, 'close')
  t.ok(existsSync(join(dir, 'agent.lock')))
  await (await lockDirectory(dir)).release()
})

t.test('an agent of an earlier version, which has only the file, keeps its directory', async t => {
  const dir = t.testdir()
  const older = spawn('sleep', ['60'])
  const path = join(dir, 'agent.lock')
  const content = `${older.pid ?? 0} ${String(await readStartTime(older.pid ?? 0))}\n`
  writeFileSync(path, content)
  const pid = new RegExp(`in use by the agent with pid ${older.pid ?? 0}`)
  await t.rejects(lockDirectory(dir), { code: 'ERR_CONFIG', field: 'dataDir', message: pid })
  t.equal(readFileSync(path, 'utf8'), content, 'its file is not changed')
  older.kill()
  await once(older, 'close')
  await (await lockDirectory(dir)).release()
})

t.test('a directory that cannot be locked is a storage error', async t => {
  const dir = t.testdir({ file: '' })
  await t.rejects(lockDirectory(join(dir, 'absent')), { code: 'ERR_STORAGE', message: /ENOENT/ })
  await t.rejects(lockDirectory(join(dir, 'file')), { code: 'ERR_STORAGE', message: /ENOTDIR/ })
  mkdirSync(join(dir, 'agent.lock'))
  await t.rejects(lockDirectory(dir), { code: 'ERR_STORAGE' }, 'the lock is a directory')
  const linked = t.testdir({ target: '' })
  symlinkSync(join(linked, 'target'), join(linked, 'agent.lock'))
  await t.rejects(lockDirectory(linked), { code: 'ERR_STORAGE', message: /ELOOP/ })
})
