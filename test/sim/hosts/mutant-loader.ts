// Mutants of whole hosts: a mutant replaces a piece of the source text of one file. The module graph of the simulation is
// loaded once more for each mutant, under a query in the module URLs, with that file changed on its way in.

import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { RunResult } from '../run-result.ts'

type Edit = {
  /** Occurs once in the file. */
  readonly find: string
  readonly replace: string
}

export type SourceMutant = Edit & {
  readonly name: string
  /** What it does wrong. */
  readonly bug: string
  /** From the root of the repository. */
  readonly file: string
  /** Further changes of the same file, where a bug was in several places. */
  readonly also?: readonly Edit[]
}

const ROOT = pathToFileURL(join(import.meta.dirname, '../../..')).href
const QUERY = 'mutant='

/** The simulation with a mutant in it. */
export async function loadMutant(mutant: SourceMutant): Promise<(seed: number) => Promise<RunResult>> {
  mutate(mutant)
  const hooks = registerHooks({
    resolve(specifier, context, nextResolve) {
      const resolved = nextResolve(specifier, context)
      const isMutated = context.parentURL?.endsWith(`?${QUERY}${mutant.name}`) === true
      const isOurs = resolved.url.startsWith(ROOT) && !resolved.url.includes('/node_modules/')
      if (!isMutated || !isOurs || resolved.url.includes('?')) return resolved
      return { ...resolved, url: `${resolved.url}?${QUERY}${mutant.name}` }
    },
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      const isTarget = url === `${ROOT}/${mutant.file}?${QUERY}${mutant.name}`
      return isTarget ? { ...loaded, source: mutate(mutant) } : loaded
    }
  })
  try {
    const url = new URL(`./host-world.ts?${QUERY}${mutant.name}`, import.meta.url)
    const { simulateHosts } = (await import(url.href)) as typeof import('./host-world.ts')
    return simulateHosts
  } finally {
    hooks.deregister()
  }
}

/** @throws Error when the text does not occur exactly once: the file has changed, and the mutant must follow */
export function mutate({ name, file, also = [], ...first }: SourceMutant): string {
  let source = readFileSync(fileURLToPath(`${ROOT}/${file}`), 'utf8')
  for (const { find, replace } of [first, ...also]) {
    const pieces = source.split(find)
    if (pieces.length !== 2) throw new Error(`${name}: ${file} contains "${find}" ${pieces.length - 1} times`)
    source = pieces.join(replace)
  }
  return source
}
