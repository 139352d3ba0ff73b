// Debian's own kernel and QEMU: installs QEMU, and unpacks the kernel's package into a cache outside of the checkout. The
// kernel is not installed on the machine.

import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { run } from '#platform/process.ts'

const CACHE = join(process.env['XDG_CACHE_HOME'] ?? '/var/cache', 'vxmesh-test')
const PROGRAMS = { 'qemu-system-x86_64': 'qemu-system-x86', busybox: 'busybox-static' } as const
const DOWNLOAD_MS = 300_000
/** What mounts the machine's root, in the order in which they depend on each other. */
const MODULES = [
  'drivers/virtio/virtio_ring',
  'drivers/virtio/virtio',
  'drivers/virtio/virtio_pci_modern_dev',
  'drivers/virtio/virtio_pci_legacy_dev',
  'drivers/virtio/virtio_pci',
  'net/9p/9pnet',
  'net/9p/9pnet_virtio',
  'fs/netfs/netfs',
  'fs/fscache/fscache',
  'fs/9p/9p',
  'fs/overlayfs/overlay'
] as const
/** Mount points of initramfs.sh. */
const FOLDERS = ['bin', 'dev', 'machine', 'changes', 'root', 'modules'] as const

export type DebianKernel = {
  readonly image: string
  readonly initramfs: string
  /** The folder of all its modules, and the name that /lib/modules has for it. */
  readonly modules: string
  readonly release: string
}

/** Why it cannot run here, or false. Installs and fetches what is missing. */
export async function cannotRunQemu(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root'
  if (process.arch !== 'x64') return 'needs an x86-64 machine'
  return debianKernel().then(
    () => false,
    (err: unknown) => (err instanceof Error ? err.message : String(err)).trim().replaceAll('\n', '; ')
  )
}

let kernel: Promise<DebianKernel> | null = null

/** Fetches what is missing. One kernel for the whole process, even if a newer one appears. @throws Error with apt's reason */
export function debianKernel(): Promise<DebianKernel> {
  return (kernel ??= findKernel())
}

async function findKernel(): Promise<DebianKernel> {
  const missing = await missingPrograms()
  let name = await newestPackage()
  if (missing.length > 0 || name === null || !existsSync(join(CACHE, name))) {
    await must('apt-get', ['update', '-q'])
    name = await newestPackage()
  }
  if (name === null) throw new Error('apt knows no package linux-image-amd64')
  if (missing.length > 0) await must('apt-get', ['install', '-qy', '--no-install-recommends', ...missing])
  const dir = join(CACHE, name)
  const release = name.replace('linux-image-', '')
  if (!existsSync(dir)) await unpack(name, { dir, release })
  const initramfs = await buildInitramfs(dir, release)
  return { image: join(dir, `boot/vmlinuz-${release}`), initramfs, modules: join(dir, 'lib/modules', release), release }
}

/** @returns the packages to install */
async function missingPrograms(): Promise<string[]> {
  const missing: string[] = []
  for (const [program, name] of Object.entries(PROGRAMS)) {
    const { exitCode } = await run('sh', ['-c', `command -v ${program}`])
    if (exitCode !== 0) missing.push(name)
  }
  return missing
}

/** The package of the newest kernel that apt knows. */
async function newestPackage(): Promise<string | null> {
  const { stdout } = await run('apt-cache', ['depends', 'linux-image-amd64'])
  return /Depends: (linux-image-\S+)/.exec(stdout)?.[1] ?? null
}

/** Into a folder of its own first, because another run may do the same now. */
async function unpack(name: string, p: { readonly dir: string; readonly release: string }): Promise<void> {
  const { dir, release } = p
  await mkdir(CACHE, { recursive: true })
  const own = await mkdtemp(`${dir}.`)
  try {
    // apt-get hands the download to a user of its own.
    await chmod(own, 0o755)
    const script = 'cd "$1" && apt-get -q download "$2" && dpkg-deb -x ./*.deb . && rm ./*.deb && depmod -b . "$3"'
    await must('sh', ['-c', script, 'sh', own, name, release])
    await rename(own, dir).catch((err: unknown) => {
      if (!existsSync(dir)) throw err
    })
  } finally {
    await rm(own, { recursive: true, force: true })
  }
}

/** @returns the path of the initial RAM disk, beside the kernel */
async function buildInitramfs(dir: string, release: string): Promise<string> {
  const tree = await mkdtemp(`${dir}.initramfs.`)
  try {
    for (const folder of FOLDERS) await mkdir(join(tree, folder))
    for (const module of MODULES) {
      const file = `${basename(module)}.ko`
      await copyFile(join(dir, 'lib/modules', release, 'kernel', `${module}.ko`), join(tree, 'modules', file))
    }
    await writeFile(join(tree, 'modules/order'), MODULES.map(module => `${basename(module)}\n`).join(''))
    await must('sh', ['-c', 'cp "$(command -v busybox)" "$1/bin/busybox"', 'sh', tree])
    await copyFile(join(import.meta.dirname, 'initramfs.sh'), join(tree, 'init'))
    await chmod(join(tree, 'init'), 0o755)
    const archive = `${tree}.cpio`
    await must('sh', ['-c', 'cd "$1" && find . | busybox cpio -o -H newc >"$2"', 'sh', tree, archive])
    const path = join(dir, 'initramfs.cpio')
    await rename(archive, path)
    return path
  } finally {
    await rm(tree, { recursive: true, force: true })
  }
}

async function must(file: string, args: readonly string[]): Promise<void> {
  const command = ['DEBIAN_FRONTEND=noninteractive', file, ...args]
  const result = await run('env', command, { timeoutMs: DOWNLOAD_MS })
  if (result.exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: ${result.stdout}${result.stderr}`)
}
