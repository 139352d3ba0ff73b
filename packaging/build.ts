// Builds the .deb: Node, the bundle, native modules, the CNI plugin and Debian's metadata. Times, owners and order are fixed,
// so that a commit builds the same package on every machine.

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'
import packageJson from '../package.json' with { type: 'json' }
import { bundle } from './bundle.ts'
import { licences } from './licences.ts'
import { manPage } from './man-page.ts'
import { copyNatives } from './natives.ts'

const root = resolve(import.meta.dirname, '..')
const debian = join(import.meta.dirname, 'debian')
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }
/** A Debian version without an epoch. */
const VERSION = /^[0-9][A-Za-z0-9.+~-]*$/
/** Programs that it runs: Serf; nft for the guard and NAT; modprobe, with which the kernel loads vxlan and bridge. */
const RUNS = ['serf', 'nftables', 'kmod']
const MAINTAINER = 'vxmesh maintainers <maintainers@vxmesh.invalid>'
/** Node is 100 MB: a higher level takes minutes and hardly makes the package smaller. */
const COMPRESSION = ['-Zxz', '-z1']

const { values } = parseArgs({
  options: {
    version: { type: 'string', default: packageJson.version },
    output: { type: 'string', default: 'dist' },
    uncompressed: { type: 'boolean', default: false }
  }
})
const architecture = ARCHITECTURES[process.arch]
if (architecture === undefined) throw new Error(`${process.arch} is not supported`)
if (!VERSION.test(values.version)) throw new Error(`--version: ${values.version} is not a Debian version`)
const epoch = Number(process.env['SOURCE_DATE_EPOCH'])
if (!Number.isSafeInteger(epoch)) throw new Error('SOURCE_DATE_EPOCH is not set: run scripts/package')
console.log(await build({ version: values.version, output: resolve(root, values.output), architecture }))

async function build(p: { version: string; output: string; architecture: string }): Promise<string> {
  mkdirSync(p.output, { recursive: true })
  const tree = join(p.output, `.vxmesh-${p.version}-${process.pid}`)
  try {
    const put = (path: string, data: string | Uint8Array, mode = 0o644): void => {
      mkdirSync(dirname(join(tree, path)), { recursive: true, mode: 0o755 })
      writeFileSync(join(tree, path), data)
      chmodSync(join(tree, path), mode)
    }
    const own = (name: string): Buffer => readFileSync(join(debian, name))
    await program(tree, p.version)
    put('usr/bin/vxmesh', own('vxmesh'), 0o755)
    put('lib/systemd/system/vxmesh.service', own('vxmesh.service'))
    put('etc/vxmesh/vxmesh.yaml', own('vxmesh.yaml'))
    put('usr/share/man/man8/vxmesh.8.gz', packed(manPage(p.version, epoch)))
    put('usr/share/doc/vxmesh/copyright', own('copyright'))
    put('usr/share/doc/vxmesh/changelog.Debian.gz', packed(changelog(p.version)))
    put('usr/share/doc/vxmesh/changelog.gz', packed(readFileSync(join(root, 'CHANGELOG.md'))))
    for (const page of readdirSync(join(root, 'docs')).filter(name => name.endsWith('.md'))) {
      put(`usr/share/doc/vxmesh/${page}`, readFileSync(join(root, 'docs', page)))
    }
    put('usr/share/doc/vxmesh/README.md', readFileSync(join(root, 'README.md')))
    put('usr/share/lintian/overrides/vxmesh', own('lintian-overrides'))
    for (const name of ['postinst', 'prerm', 'postrm']) put(`DEBIAN/${name}`, own(name), 0o755)
    put('DEBIAN/conffiles', '/etc/vxmesh/vxmesh.yaml\n')
    put('DEBIAN/md5sums', md5sums(tree))
    put('DEBIAN/control', control({ ...p, libraries: libraries(tree), kib: kibOf(tree) }))
    settle(tree)
    const file = join(p.output, `vxmesh_${p.version}_${p.architecture}.deb`)
    const aside = `${file}.new`
    const compression = values.uncompressed ? ['-Znone'] : COMPRESSION
    execFileSync('dpkg-deb', ['--root-owner-group', ...compression, '--build', tree, aside], { stdio: 'pipe' })
    renameSync(aside, file)
    return file
  } finally {
    rmSync(tree, { recursive: true, force: true })
  }
}

/** /usr/lib/vxmesh: Node, its flags, and the bundle two folders deep, like src/cli in the checkout, so that relative paths hold. */
async function program(tree: string, version: string): Promise<void> {
  const home = join(tree, 'usr/lib/vxmesh')
  mkdirSync(home, { recursive: true })
  const bundled = await bundle(root, { outdir: join(home, 'app/bundle'), version })
  const natives = await copyNatives(root, join(home, 'node_modules'))
  cpSync(process.execPath, join(home, 'node'), { dereference: true })
  execFileSync('strip', ['--strip-unneeded', join(home, 'node')])
  cpSync(join(root, 'bin/runtime.sh'), join(home, 'runtime.sh'))
  execFileSync(join(root, 'scripts/build-cni'), [join(home, 'dist/vxmesh-cni')], { stdio: 'pipe' })
  execFileSync(join(root, 'scripts/build-bpf'), [join(home, 'dist/bpf')], { stdio: 'pipe' })
  mkdirSync(join(tree, 'usr/share/doc/vxmesh'), { recursive: true })
  const text = licences(root, [...bundled, ...natives])
  writeFileSync(join(tree, 'usr/share/doc/vxmesh/third-party-licenses.gz'), packed(text))
}

function control(p: { version: string; architecture: string; libraries: string; kib: number }): string {
  return `Package: vxmesh
Version: ${p.version}
Architecture: ${p.architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${p.kib}
Depends: ${[p.libraries, ...RUNS].join(', ')}
Recommends: iproute2
Section: net
Priority: optional
Description: mesh of isolated tenant networks for containers on bare-metal hosts
 One agent a host turns Linux machines into one mesh of isolated tenant
 networks for containers, without a central controller: Serf knows which hosts
 are there, Raft decides on VNIs and addresses, and every host keeps its own
 bridges, VXLAN devices and forwarding entries in the state that follows.
 .
 The package brings its own Node.js in /usr/lib/vxmesh.
`
}

/** The packages of the shared libraries of Node and its native modules, according to dpkg-shlibdeps. */
function libraries(tree: string): string {
  const home = join(tree, 'usr/lib/vxmesh')
  const addons = readdirSync(home, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.node'))
  mkdirSync(join(tree, 'debian'))
  writeFileSync(join(tree, 'debian/control'), 'Source: vxmesh\n\nPackage: vxmesh\nArchitecture: any\n')
  const files = ['node', ...addons].map(name => `-e${join(home, name)}`)
  const output = execFileSync('dpkg-shlibdeps', ['-O', '--ignore-missing-info', ...files], {
    cwd: tree,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore']
  })
  rmSync(join(tree, 'debian'), { recursive: true })
  return output.trim().replace(/^shlibs:Depends=/, '')
}

function changelog(version: string): string {
  const date = new Date(epoch * 1_000).toUTCString().replace('GMT', '+0000')
  return `vxmesh (${version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- ${MAINTAINER}  ${date}\n`
}

/** Gzip without a timestamp. */
function packed(data: string | Uint8Array): Uint8Array {
  return gzipSync(data, { level: 9 })
}

function md5sums(tree: string): string {
  const files = filesIn(tree).filter(name => !name.startsWith('DEBIAN/') && name !== 'etc/vxmesh/vxmesh.yaml')
  return execFileSync('md5sum', ['--', ...files], { cwd: tree, encoding: 'utf8' })
}

/** The sum of all files, each rounded up to KiB (Debian Policy 5.6.20). */
function kibOf(tree: string): number {
  return filesIn(tree).reduce((sum, name) => sum + Math.ceil(readFileSync(join(tree, name)).byteLength / 1_024), 0)
}

function filesIn(tree: string): string[] {
  return readdirSync(tree, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(tree.length + 1))
    .sort()
}

/** Sets modes and times that do not depend on who builds it, or when. */
function settle(tree: string): void {
  for (const entry of readdirSync(tree, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const executable =
      /\/usr\/lib\/vxmesh\/(node|dist\/vxmesh-cni)$|\/usr\/bin\/vxmesh$|\/DEBIAN\/p(ost|re)(inst|rm)$/.test(path)
    chmodSync(path, entry.isDirectory() || executable ? 0o755 : 0o644)
    utimesSync(path, epoch, epoch)
  }
  chmodSync(join(tree, 'etc/vxmesh'), 0o700)
  chmodSync(tree, 0o755)
  utimesSync(tree, epoch, epoch)
}
