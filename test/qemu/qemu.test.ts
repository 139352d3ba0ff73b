// Debian's kernel under QEMU: it returns a program's result and leaves nothing behind, even when it is stopped.

import t from 'tap'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listPids } from '#platform/pids.ts'
import { TEST_TIMEOUT_MS } from '../lab/wait.ts'
import { cannotRunQemu, debianKernel } from './debian-kernel.ts'
import { runInQemu } from './qemu.ts'

const skip = await cannotRunQemu()
// Other kernels may run beside this file's.
const folder = mkdtempSync(join(tmpdir(), 'qemu-test-'))
process.env['TMPDIR'] = folder
t.teardown(() => rmSync(folder, { recursive: true }))

/** Folders and processes of this file's kernels. */
function leftovers(): string[] {
  const folders = readdirSync(tmpdir()).filter(name => name.startsWith('vxqemu-'))
  const processes = listPids().filter(pid => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(join(tmpdir(), 'vxqemu-'))
    } catch {
      return false
    }
  })
  return [...folders, ...processes.map(String)]
}

t.test(
  'a program runs there on Debian’s kernel, with the machine’s files',
  { skip, timeout: TEST_TIMEOUT_MS },
  async t => {
    const written = join(import.meta.dirname, 'written')
    const program = `
    const { readFileSync, writeFileSync, readdirSync, statfsSync } = require('node:fs')
    const { execFileSync } = require('node:child_process')
    const before = readdirSync('/sys/class/net')
    execFileSync('ip', ['link', 'add', 'vxqemua', 'type', 'veth', 'peer', 'name', 'vxqemub'])
    execFileSync('tc', ['qdisc', 'add', 'dev', 'vxqemua', 'clsact'])
    execFileSync('nft', ['add table inet vxtry; add table ip vxtry; add table bridge vxtry'])
    writeFileSync(${JSON.stringify(written)}, '')
    console.log(JSON.stringify({
      before,
      kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
      memory: [require('node:os').tmpdir(), '/run', '/tmp'].map(dir => statfsSync(dir).type),
      said: process.env.WORD
    }))
    console.error('aside')
    process.exit(7)`
    const kernel = await debianKernel()
    const { exitCode, stdout, stderr } = await runInQemu(kernel, ['-e', program], {
      wholeMs: 180_000,
      env: { WORD: "it's" }
    })
    t.match({ exitCode, stderr }, { exitCode: 7, stderr: 'aside\n' })
    const TMPFS = 0x01021994
    t.strictSame(JSON.parse(stdout || '{}'), {
      before: ['lo'],
      kernel: kernel.release,
      memory: [TMPFS, TMPFS, TMPFS],
      said: "it's"
    })
    t.notOk(existsSync('/sys/class/net/vxqemua'), 'the machine itself is unchanged')
    t.notOk(existsSync(written), 'and so are its files')
    t.same(leftovers(), [])
  }
)

t.test(
  'a kernel that hangs, does not boot or dies is an error with its console',
  { skip, timeout: TEST_TIMEOUT_MS },
  async t => {
    const kernel = await debianKernel()
    const [endless, soon] = ["console.error('still here'); setInterval(() => 0, 1000)", { wholeMs: 180_000 }]
    const late = { message: /has run its program[^]*--- console[^]*--- program\nstill here/ }
    await t.rejects(runInQemu(kernel, ['-e', endless], { wholeMs: 40_000 }), late)
    t.same(leftovers(), [])
    await t.rejects(runInQemu(kernel, ['-e', ''], { ...soon, bootMs: 100 }), { message: /boots[^]*--- console/ })
    t.same(leftovers(), [])
    const lame = { ...kernel, initramfs: kernel.image }
    await t.rejects(runInQemu(lame, ['-e', ''], soon), { message: /ended before it boots[^]*Kernel panic/ })
    const halted = "require('node:fs').writeFileSync('/proc/sysrq-trigger', 'o'); setInterval(() => 0, 1000)"
    await t.rejects(runInQemu(kernel, ['-e', halted], soon), { message: /ended before it has run its program/ })
    t.same(leftovers(), [])
  }
)
