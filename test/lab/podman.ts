// Debian's podman on a host of the lab, with CNI as its network backend, its own state and our plugin. It is unpacked, not
// installed.

import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { debianProgram } from '../../bench/drivers/debian.ts'
import { installCni } from './cni-runtime.ts'
import type { LabHost } from './host.ts'
import { makeRootfs } from './rootfs.ts'
import type { RunningContainer } from './running-container.ts'
import { run } from './run.ts'

/** Libraries of podman and conmon that a small machine may lack, by package. */
const LIBRARIES = {
  libgpgme11: ['usr/lib', 'libgpgme.so.11'],
  libassuan0: ['usr/lib', 'libassuan.so.0'],
  libsubid4: ['usr/lib', 'libsubid.so.4'],
  libseccomp2: ['usr/lib', 'libseccomp.so.2'],
  'libdevmapper1.02.1': ['lib', 'libdevmapper.so.1.02.1'],
  'libglib2.0-0': ['usr/lib', 'libglib-2.0.so.0']
} as const

export class Podman {
  readonly #host: LabHost
  readonly #dir: string
  readonly #command: readonly string[]

  private constructor(host: LabHost, dir: string, command: readonly string[]) {
    this.#host = host
    this.#dir = dir
    this.#command = command
  }

  /** Sets it up; podman has no daemon. All containers join `network`. */
  static async setUp(host: LabHost, { network }: { readonly network: string }): Promise<Podman> {
    const dir = join(host.dir, 'podman')
    const places = { bin: join(dir, 'cni-bin'), conf: join(dir, 'cni-conf') }
    await mkdir(dir, { recursive: true })
    await installCni(host, places, network)
    await makeRootfs(join(dir, 'root'))
    const libraries: string[] = []
    for (const [name, [folder, file]] of Object.entries(LIBRARIES)) {
      libraries.push(dirname(await debianProgram(name, `${folder}/${multiarch()}/${file}`)))
    }
    const podman = await debianProgram('podman', 'usr/bin/podman')
    const programs = {
      runc: await debianProgram('runc', 'usr/sbin/runc'),
      conmon: await debianProgram('conmon', 'usr/bin/conmon')
    }
    await writeFile(join(dir, 'containers.conf'), configOf(dir, places, programs))
    const env = [`CONTAINERS_CONF=${join(dir, 'containers.conf')}`, `LD_LIBRARY_PATH=${libraries.join(':')}`]
    const storage = ['--root', join(dir, 'storage'), '--runroot', join(dir, 'run'), '--storage-driver', 'vfs']
    const runtime = ['--runtime-flag', `root=${join(dir, 'runc')}`]
    return new Podman(host, dir, ['env', ...env, podman, ...storage, ...runtime])
  }

  /** A container with a sleeping process. */
  async run(name: string): Promise<RunningContainer> {
    const rootfs = ['--rootfs', join(this.#dir, 'root'), '/bin/busybox', 'sleep', '600']
    await this.podman('run', '--detach', '--name', name, '--network', 'vxmesh', ...rootfs)
    return {
      exec: (...words) => this.podman('exec', name, ...words),
      remove: async () => {
        await this.podman('rm', '--force', '--time', '0', name)
      }
    }
  }

  async podman(...args: readonly string[]): Promise<string> {
    // `ip netns exec` would hide the namespaces that podman mounts from the agent.
    const command = [`--net=/run/netns/${this.#host.namespace}`, ...this.#command, ...args]
    const { exitCode, stdout, stderr } = await run('nsenter', command, { timeoutMs: 60_000 })
    if (exitCode !== 0) throw new Error(`podman ${args.join(' ')}: ${stderr}`)
    return stdout
  }

  /** Removes all containers. */
  async stop(): Promise<void> {
    await this.podman('rm', '--all', '--force', '--time', '0')
  }
}

function multiarch(): string {
  return process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu'
}

function configOf(
  dir: string,
  places: { readonly bin: string; readonly conf: string },
  programs: { readonly conmon: string; readonly runc: string }
): string {
  const text = (value: string): string => JSON.stringify(value)
  // podman's default limits exceed what root may set on some machines.
  return `
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "cni"
cni_plugin_dirs = [${text(places.bin)}]
network_config_dir = ${text(places.conf)}
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
static_dir = ${text(join(dir, 'static'))}
tmp_dir = ${text(join(dir, 'tmp'))}
volume_path = ${text(join(dir, 'volumes'))}
conmon_path = [${text(programs.conmon)}]
runtime = "runc"
[engine.runtimes]
runc = [${text(programs.runc)}]
`
}
