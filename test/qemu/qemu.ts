// Runs a program of ours on Debian's own kernel: QEMU emulates a machine without acceleration, which is some 40 times slower,
// on this machine's own root file system (9p). Changes of it stay in the guest's memory. Its clock counts instructions, one a
// nanosecond, so deadlines there hold however slow the emulation is. There is no network device, the time is bounded from
// outside and inside, and QEMU ends with its caller.

import { spawn, type ChildProcess } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { quote, runGuest, type GuestRun } from '../lab/guest.ts'
import type { DebianKernel } from './debian-kernel.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const BOOT_MS = 180_000
/** The kernel powers off this long after the caller's own bound, so that the caller reports the reason. */
const GRACE_MS = 15_000
/**
 * Page table isolation would flush the emulator's translated addresses at each system call. Mitigations change nothing that a
 * network shows. The emulated TSC needs no watchdog, which might choose a slower clock.
 */
const KERNEL_OPTIONS = 'console=ttyS0 panic=-1 mitigations=off tsc=reliable nowatchdog'

/**
 * Boots, runs `node ARGS` in the project's root, powers off.
 * @throws Error with the end of the console when it does not boot in time, does not end in time, or dies
 */
export async function runInQemu(
  kernel: DebianKernel,
  args: readonly string[],
  p: {
    readonly wholeMs: number
    readonly bootMs?: number
    readonly memory?: string
    readonly env?: Readonly<Record<string, string>>
  }
): Promise<GuestRun> {
  const { bootMs = BOOT_MS, wholeMs, memory = '4G' } = p
  const dir = await mkdtemp(join(tmpdir(), 'vxqemu-'))
  const clean = (): void => rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
  process.once('exit', clean)
  const script = initScript({ kernel, args, seconds: Math.ceil((wholeMs + GRACE_MS) / 1_000), env: p.env })
  await writeFile(join(dir, 'init'), script, { mode: 0o700 })
  const share = 'security_model=none,multidevs=remap'
  const argv = [
    ...['-accel', 'tcg', '-icount', 'shift=0', '-cpu', 'max', '-smp', '1', '-m', memory],
    ...['-nodefaults', '-no-user-config', '-nic', 'none', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', kernel.image, '-initrd', kernel.initramfs, '-append', KERNEL_OPTIONS],
    ...['-virtfs', `local,path=/,mount_tag=machine,readonly=on,${share}`],
    ...['-virtfs', `local,path=${dir},mount_tag=run,${share}`]
  ]
  // It dies with its parent.
  const start = (log: number): ChildProcess =>
    spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...argv], {
      cwd: dir,
      detached: true,
      stdio: ['ignore', log, log],
      // The waits for it stretch on a busy machine, and time passes slowly in the guest.
      timeout: bootMs + wholeMs + 2 * GRACE_MS,
      killSignal: 'SIGKILL'
    })
  try {
    return await runGuest({ name: 'QEMU', dir, bootMs, wholeMs, start })
  } finally {
    clean()
    process.off('exit', clean)
  }
}

/**
 * The script of process 1 after initramfs.sh. It powers off after the program, whatever the program does, and after `seconds`
 * at the latest. The kernel itself loads the modules that it needs, as on a Debian host.
 */
function initScript(p: {
  readonly kernel: DebianKernel
  readonly args: readonly string[]
  readonly seconds: number
  readonly env: Readonly<Record<string, string>> | undefined
}): string {
  const bin = join(ROOT, 'node_modules/.bin')
  // Loading and compiling an agent's modules takes it much longer than running them.
  const { NODE_COMPILE_CACHE = join(ROOT, 'node_modules/.cache/node'), LAB_VXMESH } = process.env
  const env = { NODE_COMPILE_CACHE, ...(LAB_VXMESH === undefined ? {} : { LAB_VXMESH }), ...p.env }
  const modules = `/lib/modules/${p.kernel.release}`
  return `#!/bin/sh
export PATH=${quote(`${bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`)}
export HOME=/run/home TMPDIR=/run/tmp LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/home /run/tmp /run/netns ${modules}
mount --bind ${quote(p.kernel.modules)} ${modules}
ip link set lo up
${Object.entries(env)
  .map(([name, value]) => `export ${name}=${quote(value)}`)
  .join('\n')}
(sleep ${p.seconds}; echo o >/proc/sysrq-trigger) &
cd ${quote(ROOT)}
echo up >/mnt/up
${[join(bin, 'node'), ...p.args].map(quote).join(' ')} >/mnt/stdout 2>/mnt/stderr
echo $? >/mnt/exit
sync
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
`
}
