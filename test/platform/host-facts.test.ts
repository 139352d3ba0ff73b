import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readBootId, readStartTime } from '#platform/host-facts.ts'

t.test('the boot id is a UUID and does not change', async t => {
  const id = await readBootId()
  t.match(id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  t.equal(await readBootId(), id)
})

t.test('a start time tells two processes apart and ends with its process', async t => {
  const own = await readStartTime(process.pid)
  t.match(own, /^[0-9]+$/)
  t.equal(await readStartTime(process.pid), own)
  const child = spawn('sleep', ['60'])
  const pid = child.pid ?? 0
  const started = await readStartTime(pid)
  t.ok(Number(started) > Number(own))
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.equal(await readStartTime(pid), null)
})

t.test('spaces and parentheses in a command name do not shift the fields', async t => {
  const program = join(t.testdir(), 'a) b (c 1 2')
  copyFileSync('/bin/sleep', program)
  const child = spawn(program, ['60'])
  await once(child, 'spawn')
  t.teardown(() => child.kill('SIGKILL'))
  const started = Number(await readStartTime(child.pid ?? 0))
  t.ok(started >= Number(await readStartTime(process.pid)), `${started}`)
})

t.test('no process has a pid that cannot exist', async t => {
  for (const pid of [-1, 0, 1.5, 2 ** 22, NaN]) t.equal(await readStartTime(pid), null, `${pid}`)
})
