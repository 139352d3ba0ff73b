// Mutants of whole hosts: a mutant replaces a piece of the source text of one file. That file and the files that import it,
// directly or through others, are loaded once more for each mutant, under a query in the module URLs. All others are shared:
// they are the same code, which is compiled already.

import { readFileSync } from 'node:fs'
import { registerHooks, stripTypeScriptTypes } from 'node:module'
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
const WORLD = new URL('./host-world.ts', import.meta.url).href
const QUERY = '?mutant='
/** Name of the load that only shows who imports whom. */
const NO_MUTANT = 'none'

type World = typeof import('./host-world.ts')

/** The simulation with a mutant in it. */
export async function loadMutant(mutant: SourceMutant): Promise<(seed: number) => Promise<RunResult>> {
  const source = stripTypeScriptTypes(mutate(mutant))
  const target = `${ROOT}/${mutant.file}`
  const changed = dependentsOf(target, await importers())
  if (!changed.has(WORLD)) throw new Error(`${mutant.name}: the simulation does not import ${mutant.file}`)
  const { simulateHosts } = await loadWorld(mutant.name, {
    isOwn: url => changed.has(url),
    sourceOf: url => (url === target ? source : strippedSource(url))
  })
  return simulateHosts
}

type Load = {
  /** Whether the file is loaded anew. */
  readonly isOwn: (url: string) => boolean
  readonly sourceOf: (url: string) => string
  readonly onImport?: (importer: string, imported: string) => void
}

async function loadWorld(name: string, { isOwn, sourceOf, onImport }: Load): Promise<World> {
  const query = `${QUERY}${name}`
  const hooks = registerHooks({
    resolve(specifier, context, nextResolve) {
      const resolved = nextResolve(specifier, context)
      const { parentURL = '' } = context
      const isOurs = resolved.url.startsWith(`${ROOT}/`) && !resolved.url.includes('/node_modules/')
      if (!parentURL.endsWith(query) || !isOurs || resolved.url.includes('?')) return resolved
      onImport?.(withoutQuery(parentURL), resolved.url)
      return isOwn(resolved.url) ? { ...resolved, url: `${resolved.url}${query}` } : resolved
    },
    load(url, context, nextLoad) {
      if (!url.endsWith(query)) return nextLoad(url, context)
      return { format: 'module', source: sourceOf(withoutQuery(url)), shortCircuit: true }
    }
  })
  try {
    return (await import(`${WORLD}${query}`)) as World
  } finally {
    hooks.deregister()
  }
}

let known: Promise<ReadonlyMap<string, ReadonlySet<string>>> | null = null

/** The files of the simulation with those that import them, as the loader sees it. */
function importers(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  known ??= (async () => {
    const found = new Map<string, Set<string>>()
    const onImport = (importer: string, imported: string): void => {
      const some = found.get(imported) ?? new Set()
      found.set(imported, some.add(importer))
    }
    await loadWorld(NO_MUTANT, { isOwn: () => true, sourceOf: strippedSource, onImport })
    return found
  })()
  return known
}

/** A file, and what imports it, directly or through others. */
function dependentsOf(url: string, importers: ReadonlyMap<string, ReadonlySet<string>>): ReadonlySet<string> {
  const all = new Set([url])
  for (const each of all) for (const importer of importers.get(each) ?? []) all.add(importer)
  return all
}

const stripped = new Map<string, string>()

/** Without types. Each file is read once, however many mutants load it. */
function strippedSource(url: string): string {
  const text = stripped.get(url) ?? stripTypeScriptTypes(readFileSync(fileURLToPath(url), 'utf8'))
  stripped.set(url, text)
  return text
}

const withoutQuery = (url: string): string => url.replace(/\?.*/, '')

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
