// Copies the packages with machine code, reduced to what this machine loads: their JavaScript as a bundler resolves it, and
// the shared objects that a Node process has loaded after importing them.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { build } from 'esbuild'
import { NATIVE } from './bundle.ts'

const FOLDER = 'node_modules/'

/** @returns the files that were copied, relative to the checkout */
export async function copyNatives(root: string, into: string): Promise<readonly string[]> {
  const sources = await sourcesOf(root)
  const objects = loadedObjects(root)
  if (objects.length !== NATIVE.length) throw new Error(`${NATIVE.length} native packages load ${objects.join(', ')}`)
  const described = [...sources, ...objects].map(file => join(packageOf(file), 'package.json'))
  // A package that consists of one object is imported by its name, which needs its entry file.
  const entries = objects.map(file => join(packageOf(file), 'index.js')).filter(file => existsSync(join(root, file)))
  const files = [...new Set([...sources, ...objects, ...described, ...entries])]
  for (const file of files) {
    const target = join(into, placeOf(file))
    mkdirSync(dirname(target), { recursive: true })
    cpSync(join(root, file), target)
  }
  reduceManifest(join(into, 'zeromq/build'))
  return files
}

async function sourcesOf(root: string): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: root,
    stdin: { contents: "import 'koffi'; import 'zeromq'; import 'msgpackr-extract'", resolveDir: root },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    external: ['*.node'],
    alias: { 'msgpackr-extract': join(root, 'node_modules/msgpackr/node_modules/msgpackr-extract') },
    metafile: true,
    logLevel: 'error'
  })
  return Object.keys(metafile.inputs).filter(name => name.includes(FOLDER))
}

/** The shared objects of a Node process that has imported them, relative to the checkout. */
function loadedObjects(root: string): string[] {
  const script = `
    import 'koffi'
    import 'zeromq'
    import 'msgpackr'
    process.report.excludeNetwork = true
    console.log(JSON.stringify(process.report.getReport().sharedObjects))`
  const options = { cwd: root, encoding: 'utf8' } as const
  const all = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', script], options)) as string[]
  return all.filter(path => path.endsWith('.node')).map(path => relative(root, path))
}

/** The folder of the package that a file belongs to. */
function packageOf(file: string): string {
  const inner = placeOf(file).split('/')
  const name = inner.slice(0, inner[0]?.startsWith('@') === true ? 2 : 1).join('/')
  return `${file.slice(0, file.lastIndexOf(FOLDER))}${FOLDER}${name}`
}

/** Nested packages are moved to the top level, where their names do not collide. */
function placeOf(file: string): string {
  return file.slice(file.lastIndexOf(FOLDER) + FOLDER.length)
}

/** zeromq tries every object in its manifest, the newest first. */
function reduceManifest(folder: string): void {
  const source = join(import.meta.dirname, '../node_modules/zeromq/build/manifest.json')
  const all = JSON.parse(readFileSync(source, 'utf8')) as Record<string, string>
  const here = Object.entries(all).filter(([, file]) => existsSync(join(folder, file)))
  if (here.length !== 1) throw new Error(`${here.length} objects of zeromq's manifest exist, not 1`)
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(Object.fromEntries(here)))
}
