// Debian's containerd on a host of the lab, with its own state and our plugin. It is unpacked, not installed.

import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { startDetached, type ChildHandle } from '#platform/process.ts'
import { debianProgram } from '../../bench/drivers/debian.ts'
import { installCni } from './cni-runtime.ts'
import { CriClient } from './cri.ts'
import type { LabHost } from './host.ts'
import type { RunningContainer } from './running-container.ts'
import { must } from './kernel.ts'
import { makeRootfs } from './rootfs.ts'
import { waitFor } from './wait.ts'
import { run } from './run.ts'

export const IMAGE = 'docker.io/library/lab:1'

export class Containerd {
  readonly host: LabHost
  readonly #dir: string
  readonly #path: string
  #child: ChildHandle | null = null
  #cri: CriClient | null = null

  private constructor(host: LabHost, dir: string, path: string) {
    this.host = host
    this.#dir = dir
    this.#path = path
  }

  /** Resolves once it accepts pods. All containers join `network`; without one the pod's namespace decides. */
  static async start(host: LabHost, { network }: { readonly network?: string } = {}): Promise<Containerd> {
    const programs = [
      await debianProgram('containerd', 'usr/bin/containerd'),
      await debianProgram('runc', 'usr/sbin/runc')
    ]
    const dir = join(host.dir, 'containerd')
    const places = { bin: join(dir, 'cni-bin'), conf: join(dir, 'cni-conf') }
    await mkdir(dir, { recursive: true })
    await installCni(host, places, network)
    // containerd calls it for every sandbox, in addition to the configured plugins.
    const loopback = await debianProgram('containernetworking-plugins', 'usr/lib/cni/loopback')
    await must('cp', [loopback, places.bin])
    await writeFile(join(dir, 'config.toml'), configOf(dir, places))
    const path = [...programs.map(dirname), process.env['PATH'] ?? ''].join(':')
    const containerd = new Containerd(host, dir, path)
    await containerd.#run()
    await containerd.#importImage()
    await waitFor('containerd accepts pods', () => containerd.cri.isReady(), {
      timeoutMs: 20_000,
      explain: () => readFileSync(join(dir, 'log'), 'utf8').slice(-2_000)
    })
    return containerd
  }

  get cri(): CriClient {
    return (this.#cri ??= new CriClient(join(this.#dir, 'c.sock')))
  }

  ctr(...args: readonly string[]): Promise<string> {
    return this.#must('ctr', ['--address', join(this.#dir, 'c.sock'), ...args])
  }

  /**
   * A container of `ctr run --cni` with a sleeping process. The client stays until the end: it calls ADD when it creates the
   * container, then starts the process, and calls DEL once the process has ended. It looks for plugins only in the standard
   * folders, so ours are linked there.
   */
  async runByCtr(id: string): Promise<RunningContainer> {
    const see = 'mount -t tmpfs none /etc && mount -t tmpfs none /opt && mkdir /etc/cni /opt/cni'
    const link = 'ln -s "$0/cni-conf" /etc/cni/net.d && ln -s "$0/cni-bin" /opt/cni/bin && exec "$@"'
    const ctr = ['ctr', '--address', join(this.#dir, 'c.sock')]
    const command = [...ctr, 'run', '--cni', '--rootfs', join(this.#dir, 'root'), id, '/bin/busybox', 'sleep', '600']
    const args = this.#onHost('unshare', '--mount', 'sh', '-c', `${see} && ${link}`, this.#dir, ...command)
    const logFile = join(this.#dir, `ctr-${id}.log`)
    const client = await startDetached('nsenter', args, { logFile })
    const runs = new RegExp(`^${id} +\\d+ +RUNNING`, 'm')
    await waitFor('its process runs', async () => runs.test(await this.ctr('task', 'list')), {
      timeoutMs: 20_000,
      explain: () => readFileSync(logFile, 'utf8')
    })
    return {
      // ctr may end before it has copied what a command printed (containerd 13931), so the output goes to a file.
      exec: async (...words) => {
        const toFile = ['/bin/busybox', 'sh', '-c', 'exec "$@" >/output 2>&1', 'sh', ...words]
        await this.ctr('task', 'exec', '--exec-id', `${id}-exec`, id, ...toFile)
        return readFile(join(this.#dir, 'root/output'), 'utf8')
      },
      remove: async () => {
        await this.ctr('task', 'kill', '--signal', 'SIGKILL', id)
        await client.exited
        const { exitCode } = await client.exited
        // The exit code is that of the killed process; the client itself must have printed nothing.
        const words = readFileSync(logFile, 'utf8')
        if (exitCode !== 137 || words !== '') throw new Error(`ctr run: exit ${exitCode}: ${words}`)
      }
    }
  }

  /** Removes all pods, then stops containerd. */
  async stop(): Promise<void> {
    for (const id of await this.cri.listPods()) {
      await this.cri.stopPod(id).catch(() => undefined)
      await this.cri.removePod(id).catch(() => undefined)
    }
    this.cri.close()
    this.#child?.kill('SIGTERM')
    await this.#child?.exited
  }

  async #run(): Promise<void> {
    // `ip netns exec` would hide the namespaces that containerd mounts from the agent.
    const args = this.#onHost('containerd', '--config', join(this.#dir, 'config.toml'))
    this.#child = await startDetached('nsenter', args, { logFile: join(this.#dir, 'log') })
    await waitFor('containerd listens', () => existsSync(join(this.#dir, 'c.sock')), {
      timeoutMs: 20_000,
      explain: () => readFileSync(join(this.#dir, 'log'), 'utf8').slice(-2_000)
    })
  }

  /** An image with nothing but busybox, whose process sleeps: for sandboxes and containers alike. */
  async #importImage(): Promise<void> {
    const dir = join(this.#dir, 'image')
    const root = join(this.#dir, 'root')
    await mkdir(join(dir, 'blobs/sha256'), { recursive: true })
    await makeRootfs(root)
    const put = async (bytes: Buffer): Promise<{ digest: string; size: number }> => {
      const hash = createHash('sha256').update(bytes).digest('hex')
      await writeFile(join(dir, 'blobs/sha256', hash), bytes)
      return { digest: `sha256:${hash}`, size: bytes.byteLength }
    }
    const putJson = (value: object): Promise<{ digest: string; size: number }> =>
      put(Buffer.from(JSON.stringify(value)))
    await must('tar', ['-C', root, '-cf', join(this.#dir, 'layer.tar'), '.'])
    const layer = await put(await readFile(join(this.#dir, 'layer.tar')))
    const oci = 'application/vnd.oci.image'
    const config = await putJson({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Entrypoint: ['/bin/busybox', 'sleep', '900'] },
      rootfs: { type: 'layers', diff_ids: [layer.digest] }
    })
    const manifest = await putJson({
      schemaVersion: 2,
      mediaType: `${oci}.manifest.v1+json`,
      config: { mediaType: `${oci}.config.v1+json`, ...config },
      layers: [{ mediaType: `${oci}.layer.v1.tar`, ...layer }]
    })
    const annotations = { 'io.containerd.image.name': IMAGE }
    const index = { schemaVersion: 2, manifests: [{ mediaType: `${oci}.manifest.v1+json`, ...manifest, annotations }] }
    await writeFile(join(dir, 'index.json'), JSON.stringify(index))
    await writeFile(join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
    await must('tar', ['-C', dir, '-cf', join(this.#dir, 'image.tar'), '.'])
    await this.ctr('-n', 'k8s.io', 'images', 'import', '--snapshotter', 'native', join(this.#dir, 'image.tar'))
  }

  async #must(file: string, args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await run('nsenter', this.#onHost(file, ...args), { timeoutMs: 60_000 })
    if (exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr}`)
    return stdout
  }

  #onHost(...command: readonly string[]): string[] {
    return [`--net=/run/netns/${this.host.namespace}`, 'env', `PATH=${this.#path}`, ...command]
  }
}

function configOf(dir: string, places: { bin: string; conf: string }): string {
  const text = (value: string): string => JSON.stringify(value)
  return `
version = 2
root = ${text(join(dir, 'r'))}
state = ${text(join(dir, 's'))}
[grpc]
  address = ${text(join(dir, 'c.sock'))}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = ${text(IMAGE)}
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = ${text(places.bin)}
    conf_dir = ${text(places.conf)}
`
}
