// Handler threads, counted in the daemon that the pid file names.

import { spawn } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { countHandlers } from '#overlay/ovs/handlers.ts'
import { waitFor } from '#test/lab/wait.ts'

t.test('a daemon without handler threads counts zero; for any other process the count is null', async t => {
  const dir = t.testdir()
  const says = (pid: number): void => writeFileSync(join(dir, 'ovs-vswitchd.pid'), `${pid}\n`)
  t.equal(countHandlers(dir), null, 'no pid file')
  says(process.pid)
  t.equal(countHandlers(dir), null, 'the pid is another program’s by now')
  const program = join(dir, 'ovs-vswitchd')
  copyFileSync('/usr/bin/sleep', program)
  const child = spawn(program, ['60'], { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  says(child.pid ?? 0)
  await waitFor('it is itself', () => countHandlers(dir) === 0)
  child.kill('SIGKILL')
  await waitFor('it is gone', () => countHandlers(dir) === null)
})
