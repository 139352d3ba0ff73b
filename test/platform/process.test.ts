import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { run, startDetached } from '#platform/process.ts'
import { waitFor } from '#test/lab/wait.ts'

const dir = mkdtempSync(join(tmpdir(), 'vxmesh-process-'))
t.teardown(() => rmSync(dir, { recursive: true }))

t.test('a detached program keeps running and logging after its parent is killed', async t => {
  const logFile = join(dir, 'outlives.log')
  // Exits by itself after ten seconds, even if this test fails.
  const program = 'i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.05; done'
  const parent = join(dir, 'parent.ts')
  const library = new URL('../../src/platform/process.ts', import.meta.url).href
  writeFileSync(
    parent,
    `import { startDetached } from '${library}'
     const child = await startDetached('sh', ['-c', ${JSON.stringify(program)}], { logFile: '${logFile}' })
     console.log(child.pid)`
  )
  const agent = spawn(process.execPath, [parent], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [pid] = (await once(agent.stdout, 'data')) as [Buffer]
  t.teardown(() => process.kill(Number(pid.toString()), 'SIGKILL'))
  agent.kill('SIGKILL')
  await once(agent, 'exit')
  const lines = (): number => readFileSync(logFile, 'utf8').split('\n').length
  const before = lines()
  await waitFor('more lines', () => lines() > before + 3)
  t.ok(existsSync(`/proc/${pid.toString().trim()}`))
})

t.test('both outputs of a detached program are appended to the log', async t => {
  const logFile = join(dir, 'both.log')
  for (const text of ['one', 'two']) {
    const child = await startDetached('sh', ['-c', `echo ${text}; echo ${text} >&2; exit 3`], { logFile })
    t.match(await child.exited, { exitCode: 3, signal: null })
  }
  t.equal(readFileSync(logFile, 'utf8'), 'one\none\ntwo\ntwo\n')
})

t.test('the exit of a killed program reports the signal', async t => {
  const child = await startDetached('sleep', ['60'], { logFile: join(dir, 'killed.log') })
  child.kill('SIGTERM')
  t.match(await child.exited, { exitCode: null, signal: 'SIGTERM' })
})

t.test('a program that cannot start is an error that names it', async t => {
  await t.rejects(startDetached('/nowhere/program', [], { logFile: join(dir, 'x.log') }), {
    code: 'ERR_INTERNAL',
    message: /nowhere/
  })
  await t.rejects(startDetached('sleep', ['60'], { logFile: join(dir, 'no/such/directory') }))
  await t.rejects(run('/nowhere/program', []), { code: 'ERR_INTERNAL', message: /nowhere/ })
  await t.rejects(run('sleep', ['60'], { timeoutMs: 50 }), { code: 'ERR_INTERNAL' })
})

t.test('a non-zero exit is a result, not an error', async t => {
  t.strictSame(await run('sh', ['-c', 'cat; echo bad >&2; exit 7'], { input: 'in' }), {
    stdout: 'in',
    stderr: 'bad',
    exitCode: 7
  })
})
