// The program that the suite's hosts run, bundled as the package bundles it: a start loads a few files instead of a thousand,
// which takes half the processor time, and the suite starts hundreds of agents. A test that is run by itself uses the sources.

import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundle } from '../../packaging/bundle.ts'

/** @returns the path of the program, below dist */
export async function buildProgram(root: string): Promise<string> {
  const dir = join(root, 'dist/suite')
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { recursive: true })
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  // The program looks for the CNI plugin two folders up, in dist, as it does from the sources and in the package.
  await bundle(root, { outdir: dir, version })
  const script = [
    '#!/bin/sh',
    `export NODE_COMPILE_CACHE="\${NODE_COMPILE_CACHE:-${root}/node_modules/.cache/node}"`,
    `. '${root}/bin/runtime.sh'`,
    `exec '${root}/node_modules/.bin/node' $NODE_FLAGS '${dir}/main.mjs' "$@"`
  ]
  const path = join(dir, 'vxmesh')
  await writeFile(path, `${script.join('\n')}\n`, { mode: 0o755 })
  return path
}
