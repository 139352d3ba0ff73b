// Bundles the program into a few JavaScript files: the command line, and the agent, which other commands do not load.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'

/** Packages that load machine code from their own folder: they are not bundled. */
export const NATIVE = ['koffi', 'zeromq', 'msgpackr-extract']

/** @returns its source files, relative to the checkout */
export async function bundle(root: string, p: { outdir: string; version: string }): Promise<readonly string[]> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: { main: 'src/main.ts' },
    outdir: p.outdir,
    outExtension: { '.js': '.mjs' },
    chunkNames: '[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    // V8 keeps the text of what it has loaded: without comments, and in one byte a character, which takes ASCII throughout. Names
    // and lines stay for stack traces.
    charset: 'ascii',
    minifyWhitespace: true,
    lineLimit: 160,
    legalComments: 'none',
    external: NATIVE,
    metafile: true,
    // CommonJS packages in an ES module need a `require`.
    banner: {
      js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);"
    },
    plugins: [
      {
        name: 'version',
        setup: hooks => {
          hooks.onLoad({ filter: /\/package\.json$/ }, ({ path }) =>
            path === join(root, 'package.json')
              ? { contents: JSON.stringify({ version: p.version }), loader: 'json' }
              : { contents: readFileSync(path), loader: 'json' }
          )
        }
      }
    ]
  })
  return Object.keys(metafile.inputs)
}
