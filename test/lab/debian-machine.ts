// A host of the lab with its own file system: an overlayfs over this machine's, in a mount namespace that ends with its
// last process. Debian's own dpkg installs packages in it without changing this machine.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ApiClient } from '#cli/client.ts'
import { startDetached, type RunResult } from '#platform/process.ts'
import type { LabHost } from './host.ts'
import { waitFor } from './wait.ts'
import { run } from './run.ts'

/**
 * Its own /run, /tmp and /var/lib/cni, where container runtimes of other tests keep files; named namespaces are shared with
 * this machine. `$1` holds all of it, `$2` is mounted at /mnt.
 */
const SET_UP = `
set -e
mkdir -p "$1"
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
for place in proc sys dev; do mount --rbind "/$place" "$place"; done
mkdir -p var/lib/cni
for place in run tmp var/lib/cni; do mount -t tmpfs tmpfs "$place"; done
mkdir -p run/netns run/lock
mount --rbind /run/netns run/netns
# A namespace stays in use as long as its name is mounted a second time.
umount --recursive --lazy /run/netns
mount --bind "$2" mnt
exec chroot . sh -c 'touch /run/up; exec sleep infinity'
`

const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' }

export class DebianMachine {
  readonly #pid: number

  private constructor(pid: number) {
    this.#pid = pid
  }

  /** @param shown a directory of this machine, mounted at its /mnt */
  static async start(host: LabHost, shown: string): Promise<DebianMachine> {
    const args = ['netns', 'exec', host.namespace, 'sh', '-c', SET_UP, 'sh', join(host.dir, 'machine'), shown]
    const { pid } = await startDetached('ip', args, { logFile: join(host.dir, 'machine.log') })
    const machine = new DebianMachine(pid)
    await waitFor('the machine is up', async () => (await machine.run('test', '-e', '/run/up')).exitCode === 0)
    return machine
  }

  /** The path of one of its files on this machine. */
  path(file: string): string {
    return `/proc/${this.#pid}/root${file}`
  }

  /** The command line that executes a program in it, without our own environment. */
  command(argv: readonly string[], env: Readonly<Record<string, string>> = {}): readonly [string, ...string[]] {
    const words = Object.entries({ ...ENVIRONMENT, ...env }).map(([name, value]) => `${name}=${value}`)
    const enter = ['--mount', '--net', '--root', '--wd', '--', 'env', '-i', ...words]
    return ['nsenter', `--target=${this.#pid}`, ...enter, ...argv]
  }

  run(...argv: readonly string[]): Promise<RunResult> {
    const [file, ...args] = this.command(argv)
    return run(file, args, { timeoutMs: 60_000 })
  }

  /** Runs a program that must succeed. @returns its standard output */
  async must(...argv: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...argv)
    if (exitCode !== 0) throw new Error(`${argv.join(' ')}: exit ${exitCode}: ${stdout}${stderr}`)
    return stdout
  }

  async write(file: string, text: string, mode = 0o644): Promise<void> {
    await writeFile(this.path(file), text, { mode })
  }

  /** A client of its agent, on the packaged socket. */
  api(): ApiClient {
    return new ApiClient(this.path('/run/vxmesh/agent.sock'))
  }
}
