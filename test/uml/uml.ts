// Runs a program of ours on a complete kernel: User-Mode Linux, an ordinary process, boots on the machine's own root file
// system (hostfs) and runs the program as root. Its time is bounded from outside and inside, and it ends with its caller.
// Nothing is left but what the program itself wrote outside of /run and its folder.

import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { run } from '#platform/process.ts'
import { quote, runGuest, type GuestRun } from '../lab/guest.ts'

const KERNEL = 'linux.uml'
const MODULES = '/usr/lib/uml/modules'
const ROOT = resolve(import.meta.dirname, '../..')
const BOOT_MS = 60_000
/** The kernel powers off this long after the caller's own bound, so that the caller reports the reason. */
const GRACE_SECONDS = 15

/** Why it cannot run here, or false. */
export async function cannotRunUml(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root'
  const { exitCode } = await run('sh', ['-c', `command -v ${KERNEL}`])
  return exitCode === 0 && existsSync(MODULES)
    ? false
    : 'needs Debian’s user-mode-linux (scripts/setup.sh installs it where it is available)'
}

/**
 * Boots, runs `node ARGS` in the project's root, powers off. /run and the temporary folder are tmpfs, because sockets do not
 * work on hostfs; modules are loaded on demand.
 * @throws Error with the end of the console when it does not boot in time, does not end in time, or dies
 */
export async function runInUml(
  args: readonly string[],
  p: { readonly wholeMs: number; readonly bootMs?: number; readonly memory?: string; readonly env?: NodeJS.ProcessEnv }
): Promise<GuestRun> {
  const { bootMs = BOOT_MS, wholeMs, memory = '2G' } = p
  const dir = await mkdtemp(join(tmpdir(), 'vxuml-'))
  const at = (name: string): string => join(dir, name)
  // Loading and compiling an agent's modules takes it half a minute.
  const quick = ['NODE_COMPILE_CACHE', 'LAB_VXMESH'].filter(name => process.env[name] !== undefined)
  const given = Object.fromEntries(quick.map(name => [name, process.env[name]]))
  await writeFile(
    at('init'),
    initScript({ dir, args, seconds: Math.ceil(wholeMs / 1_000) + GRACE_SECONDS, env: { ...given, ...p.env } }),
    {
      mode: 0o700
    }
  )
  const shim = await buildShim(dir)
  const kernel = [KERNEL, `mem=${memory}`, 'rootfstype=hostfs', 'rootflags=/', 'rw', `init=${at('init')}`]
  const consoles = ['con=null', 'con0=null,fd:1', 'ssl=null', `uml_dir=${dir}`, 'umid=vm']
  // It dies with its parent.
  const start = (log: number): ChildProcess =>
    spawn('taskset', ['--cpu-list', oneProcessor(), 'setpriv', '--pdeathsig', 'KILL', ...kernel, ...consoles], {
      cwd: dir,
      detached: true,
      env: { ...process.env, LD_PRELOAD: shim },
      stdio: ['ignore', log, log]
    })
  try {
    return await runGuest({ name: 'User-Mode Linux', dir, bootMs, wholeMs, start })
  } finally {
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Builds what lets it run on this processor (xstate.c); its path. */
async function buildShim(dir: string): Promise<string> {
  const path = join(dir, 'xstate.so')
  const flags = ['-O2', '-Wall', '-Werror', '-shared', '-fPIC', '-o', path]
  const { exitCode, stderr } = await run('gcc', [...flags, join(import.meta.dirname, 'xstate.c')])
  if (exitCode !== 0) throw new Error(`xstate.c cannot be built: ${stderr}`)
  return path
}

/**
 * Kernel and program are processes here, and each system call and page fault switches between them. On one processor that
 * is a context switch, on two a wake-up of the other, which takes three times as long.
 */
function oneProcessor(): string {
  const [, list = '0'] = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  const all = list.split(',').flatMap(range => {
    const [first = 0, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
  return String(all[Math.floor(Math.random() * all.length)] ?? 0)
}

/** The script of process 1. It powers off after the program, whatever the program does, and after `seconds` at the latest. */
function initScript(p: { dir: string; args: readonly string[]; seconds: number; env: NodeJS.ProcessEnv }): string {
  const node = join(ROOT, 'node_modules/.bin/node')
  const env = Object.entries(p.env).map(([name, value = '']) => `export ${name}=${quote(value)}`)
  return `#!/bin/sh
export PATH=${quote(`${join(ROOT, 'node_modules/.bin')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`)}
export HOME=/run/home TMPDIR=/run/tmp LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/home /run/tmp /run/netns /run/lm/lib/modules
mount --bind ${MODULES} /run/lm/lib/modules
printf '#!/bin/sh\\nexec modprobe -d /run/lm "$@"\\n' >/run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
${env.join('\n')}
(sleep ${p.seconds}; echo o >/proc/sysrq-trigger) &
cd ${quote(ROOT)}
echo up >${quote(join(p.dir, 'up'))}
${[node, ...p.args].map(quote).join(' ')} >${quote(join(p.dir, 'stdout'))} 2>${quote(join(p.dir, 'stderr'))}
echo $? >${quote(join(p.dir, 'exit'))}
sync
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
`
}
