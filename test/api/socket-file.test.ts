import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import t from 'tap'
import { prepareSocket } from '#api/socket-file.ts'
import { scratch } from './scratch.ts'

const refused = { code: 'ERR_CONFIG', field: 'socket' }

t.test('a missing directory is created, accessible to its owner only', async t => {
  const directory = join(scratch(t), 'a', 'b')
  await prepareSocket(join(directory, 'agent.sock'))
  t.equal((await stat(directory)).mode & 0o777, 0o700)
})

t.test('the permissions of an existing directory are not changed', async t => {
  const directory = join(scratch(t), 'theirs')
  await mkdir(directory)
  await chmod(directory, 0o755)
  await prepareSocket(join(directory, 'agent.sock'))
  t.equal((await stat(directory)).mode & 0o777, 0o755)
})

t.test('the stale socket of a killed agent is removed', async t => {
  const path = join(scratch(t), 'agent.sock')
  const child = await listener(path)
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.ok((await stat(path)).isSocket(), 'the socket is left behind')
  await prepareSocket(path)
  await t.rejects(stat(path), { code: 'ENOENT' })
})

t.test('the socket of a running agent stays, and a second agent is refused', async t => {
  const path = join(scratch(t), 'agent.sock')
  const server = createServer(socket => socket.destroy()).listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  await t.rejects(prepareSocket(path), { ...refused, message: /an agent is listening/ })
  t.ok((await stat(path)).isSocket())
})

t.test('an agent too busy to accept a connection counts as running', async t => {
  const path = join(scratch(t), 'agent.sock')
  const child = await listener(path)
  t.teardown(() => child.kill('SIGKILL'))
  child.kill('SIGSTOP')
  const waiting: Socket[] = []
  t.teardown(() => waiting.forEach(socket => socket.destroy()))
  let refusal = ''
  while (refusal === '' && waiting.length < 100) {
    const socket = connect(path)
    waiting.push(socket)
    const met = new Promise<string>(resolve => {
      socket.once('connect', () => resolve(''))
      socket.once('error', (err: NodeJS.ErrnoException) => resolve(err.code ?? ''))
    })
    refusal = await met
  }
  t.equal(refusal, 'EAGAIN', 'its queue is full')
  await t.rejects(prepareSocket(path), refused)
  t.ok((await stat(path)).isSocket())
})

t.test('anything but a stale socket is never removed', async t => {
  const directory = scratch(t)
  const file = join(directory, 'file')
  await writeFile(file, 'precious')
  await symlink(file, join(directory, 'link'))
  for (const path of [file, join(directory, 'link'), join(file, 'agent.sock'), directory]) {
    await t.rejects(prepareSocket(path), refused, path)
  }
  t.equal(await readFile(file, 'utf8'), 'precious')
})

t.test('a path that the kernel would truncate is refused', async t => {
  await t.rejects(prepareSocket(`/tmp/${'x'.repeat(103)}`), { ...refused, message: /longer than 107 bytes/ })
  await t.rejects(prepareSocket(`/tmp/${'ü'.repeat(52)}`), refused)
})

/** Another process that listens with a short queue and never accepts. */
async function listener(path: string): Promise<ChildProcessByStdio<null, Readable, null>> {
  const options = JSON.stringify({ path, backlog: 2 })
  const script = `require('node:net').createServer().listen(${options}, () => console.log('up'))`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return child
}
