// The second kernel itself: it returns a program's result and leaves nothing behind, even when it is stopped.

import t from 'tap'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listPids } from '#platform/pids.ts'
import { TEST_TIMEOUT_MS } from '../lab/wait.ts'
import { cannotRunUml, runInUml } from './uml.ts'

const skip = await cannotRunUml()
// Other kernels may run beside this file's.
const folder = mkdtempSync(join(tmpdir(), 'uml-test-'))
process.env['TMPDIR'] = folder
t.teardown(() => rmSync(folder, { recursive: true }))

/** Folders and processes of this file's kernels. */
function leftovers(): string[] {
  const folders = readdirSync(tmpdir()).filter(name => name.startsWith('vxuml-'))
  const processes = listPids().filter(pid => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(join(tmpdir(), 'vxuml-'))
    } catch {
      return false
    }
  })
  return [...folders, ...processes.map(String)]
}

t.test('a program runs there as on the machine, on a different kernel', { skip, timeout: TEST_TIMEOUT_MS }, async t => {
  const before = leftovers()
  const program = `
    const { readFileSync, statfsSync } = require('node:fs')
    const { execFileSync } = require('node:child_process')
    execFileSync('ip', ['link', 'add', 'vxumla', 'type', 'veth', 'peer', 'name', 'vxumlb'])
    execFileSync('tc', ['qdisc', 'add', 'dev', 'vxumla', 'root', 'netem', 'delay', '1ms'])
    console.log(JSON.stringify({
      kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
      memory: [require('node:os').tmpdir(), '/run'].map(dir => statfsSync(dir).type),
      said: process.env.WORD
    }))
    console.error('aside')
    process.exit(7)`
  const { exitCode, stdout, stderr } = await runInUml(['-e', program], {
    wholeMs: 60_000,
    env: { WORD: "it's" }
  })
  t.match({ exitCode, stderr }, { exitCode: 7, stderr: 'aside\n' })
  const TMPFS = 0x01021994
  t.match(JSON.parse(stdout || '{}'), { kernel: /^\d/, memory: [TMPFS, TMPFS], said: "it's" })
  t.not(
    (JSON.parse(stdout || '{}') as { kernel: string }).kernel,
    readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()
  )
  t.notOk(existsSync('/sys/class/net/vxumla'), 'the machine itself is unchanged')
  t.same(leftovers(), before)
})

t.test(
  'a kernel that hangs, does not boot or dies is an error with its console',
  { skip, timeout: TEST_TIMEOUT_MS },
  async t => {
    const before = leftovers()
    const endless = "console.error('still here'); setInterval(() => 0, 1000)"
    const late = { message: /has run its program[^]*--- console[^]*init process[^]*--- program\nstill here/ }
    await t.rejects(runInUml(['-e', endless], { wholeMs: 15_000 }), late)
    t.same(leftovers(), before)
    await t.rejects(runInUml(['-e', ''], { wholeMs: 60_000, bootMs: 100 }), { message: /boots[^]*--- console/ })
    t.same(leftovers(), before)
    await t.rejects(runInUml(['-e', ''], { wholeMs: 60_000, memory: '1M' }), { message: /ended before it boots/ })
    const halted = "require('node:fs').writeFileSync('/proc/sysrq-trigger', 'o'); setInterval(() => 0, 1000)"
    await t.rejects(runInUml(['-e', halted], { wholeMs: 60_000 }), { message: /ended before it has run its program/ })
    t.same(leftovers(), before)
  }
)
