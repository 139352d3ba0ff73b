// Mutants: each replaces a piece of the source text of one file. That file and the files that import it, directly or through
// others, are loaded once more for each mutant, under a query in the module URLs. All others are shared: they are the same
// code, which is compiled already.

import { readFileSync } from 'node:fs'
import { registerHooks, stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

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

const ROOT = pathToFileURL(join(import.meta.dirname, '..')).href
const QUERY = '?mutant='
/** Name of the load that only shows who imports whom. */
const NO_MUTANT = 'none'

/** A module with a mutant in it. @param entry URL of the module, which imports the mutant's file, directly or through others */
export async function loadMutated(entry: string, mutant: SourceMutant): Promise<unknown> {
  const source = stripTypeScriptTypes(mutate(mutant))
  const target = `${ROOT}/${mutant.file}`
  const changed = dependentsOf(target, await importers(entry))
  if (!changed.has(entry)) throw new Error(`${mutant.name}: ${entry} does not import ${mutant.file}`)
  return load(entry, mutant.name, {
    isOwn: url => changed.has(url),
    sourceOf: url => (url === target ? source : strippedSource(url))
  })
}

type Load = {
  /** Whether the file is loaded anew. */
  readonly isOwn: (url: string) => boolean
  readonly sourceOf: (url: string) => string
  readonly onImport?: (importer: string, imported: string) => void
}

async function load(entry: string, name: string, { isOwn, sourceOf, onImport }: Load): Promise<unknown> {
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
    return (await import(`${entry}${query}`)) as unknown
  } finally {
    hooks.deregister()
  }
}

const known = new Map<string, Promise<ReadonlyMap<string, ReadonlySet<string>>>>()

/** The files below an entry with those that import them, as the loader sees it. */
function importers(entry: string): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const look = async (): Promise<ReadonlyMap<string, ReadonlySet<string>>> => {
    const found = new Map<string, Set<string>>()
    const onImport = (importer: string, imported: string): void => {
      const some = found.get(imported) ?? new Set()
      found.set(imported, some.add(importer))
    }
    await load(entry, NO_MUTANT, { isOwn: () => true, sourceOf: strippedSource, onImport })
    return found
  }
  const looked = known.get(entry) ?? look()
  known.set(entry, looked)
  return looked
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
