// Builds one frozen Config from flags, environment, file and defaults, in that order of precedence. Errors name the key and
// its origin. Unknown keys are errors, so that a misspelt key does not go unnoticed.

import { hostname } from 'node:os'
import { isMap, isScalar, LineCounter, parseDocument, type Document } from 'yaml'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { formatIp, isIpv4, parseSubnet } from '#model/ip.ts'
import { joinIp } from '#model/join-address.ts'
import { checkRange } from '#model/namespace.ts'
import { readSmallFile } from '#platform/small-file.ts'
import { configSchema, KEY_FACTS, type Config } from './schema.ts'

/** A nested object as YAML gives it. */
type Tree = Record<string, unknown>

export type ConfigSources = {
  /** Path of the file; null for none. */
  readonly file: string | null
  readonly env: Readonly<Record<string, string | undefined>>
  /** Dotted keys to values: `serf.rpcPort`. */
  readonly flags: Readonly<Record<string, string | readonly string[]>>
}

/** Of the configuration file: thousands of join addresses. A megabyte of YAML takes a third of a second to parse. */
const MAX_FILE_BYTES = 256 * 1024

/** Every key in dotted form. */
export const CONFIG_KEYS: readonly string[] = KEY_FACTS.map(({ key }) => key)

/** VXMESH_ variables that are not configuration keys. */
const OTHER_VARIABLES: ReadonlySet<string> = new Set(['VXMESH_NODE', 'VXMESH_CONFIG'])

/** `serf.rpcPort` as a variable: VXMESH_SERF_RPC_PORT. */
export function variableOf(key: string): string {
  return `VXMESH_${words(key).join('_').toUpperCase()}`
}

/** `serf.rpcPort` as a flag: --serf-rpc-port. */
export function flagOf(key: string): string {
  return `--${words(key).join('-')}`
}

/** A configuration, and the origin of each key that is not a default: FILE:LINE, a variable or a flag. */
export type LoadedConfig = { readonly config: Config; readonly origins: ReadonlyMap<string, string> }

/** @throws ERR_CONFIG naming the key and where it came from */
export async function loadConfig(sources: ConfigSources): Promise<Config> {
  return (await loadConfigWithOrigins(sources)).config
}

/** @throws as loadConfig */
export async function loadConfigWithOrigins(sources: ConfigSources): Promise<LoadedConfig> {
  const origins = new Map<string, string>()
  const { tree, lineOf } = sources.file === null ? { tree: {}, lineOf: () => 0 } : await readTree(sources.file)
  for (const key of CONFIG_KEYS) {
    if (sources.file !== null && has(tree, key)) origins.set(key, `${sources.file}:${lineOf(key)}`)
    const variable = variableOf(key)
    const fromEnv = sources.env[variable]
    if (fromEnv !== undefined) place({ tree, key, value: fromEnv, origins, origin: variable })
    const fromFlag = sources.flags[key]
    if (fromFlag !== undefined) place({ tree, key, value: fromFlag, origins, origin: flagOf(key) })
  }
  refuseUnknownVariables(sources.env)
  if (!has(tree, 'name')) {
    place({ tree, key: 'name', value: hostname().toLowerCase().split('.')[0], origins, origin: 'the host name' })
  }
  return { config: check(tree, origins), origins }
}

function check(tree: Tree, origins: ReadonlyMap<string, string>): Config {
  const result = configSchema.safeParse(tree)
  if (!result.success) {
    const issue = result.error.issues[0]
    const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
    const field = [...(issue?.path ?? []).map(String), ...(unknown === undefined ? [] : [unknown])].join('.')
    const known = CONFIG_KEYS.find(key => field === key || field.startsWith(`${key}.`)) ?? field
    const origin = origins.get(known)
    const why =
      unknown !== undefined
        ? 'is not a known key'
        : !has(tree, known)
          ? 'is required'
          : issue?.code === 'invalid_type'
            ? 'must be a section with keys'
            : (issue?.message ?? 'is invalid')
    throw configError(known, origin === undefined ? why : `${why} (from ${origin})`)
  }
  const config = result.data
  refuseOtherFamily(config, origins)
  const { range, prefixLength } = config.namespaces
  try {
    checkRange({ range: parseSubnet(range), prefixLength }, 'namespaces.prefixLength')
  } catch (err) {
    const key = 'namespaces.prefixLength'
    const origin = origins.get(key) ?? origins.get('namespaces.range')
    throw configError(key, `${asVxmeshError(err).message.replace(/^[^:]+: /, '')} (from ${origin ?? 'the defaults'})`)
  }
  return deepFreeze(config)
}

/** A cluster has one underlay family. @throws ERR_CONFIG naming the key whose address is not of the family of `bind` */
function refuseOtherFamily({ bind, overlay, join }: Config, origins: ReadonlyMap<string, string>): void {
  const all = [['overlay.vtep', overlay.vtep] as const, ...join.map(text => ['join', joinIp(text)] as const)]
  for (const [key, address] of all) {
    if (isIpv4(address) === isIpv4(bind)) continue
    const why = `${formatIp(address)} and bind, ${formatIp(bind)}, must be of one family: so are all hosts of a cluster`
    throw configError(key, `${why} (from ${origins.get(key) ?? 'the defaults'})`)
  }
}

/** The contents of a file, and the line of each dotted key. */
async function readTree(file: string): Promise<{ tree: Tree; lineOf: (key: string) => number }> {
  let text: string
  try {
    ;({ text } = await readSmallFile(file, MAX_FILE_BYTES))
  } catch (err) {
    const why = err instanceof Error ? err.message : String(err)
    throw new VxmeshError('ERR_CONFIG', `config: ${why}`, { cause: err, field: 'config' })
  }
  try {
    const lines = new LineCounter()
    const document = parseDocument(text, { lineCounter: lines })
    const [error] = document.errors
    if (error !== undefined) throw error
    const tree: unknown = document.toJS({ maxAliasCount: 0 }) ?? {}
    if (typeof tree !== 'object' || tree === null || Array.isArray(tree)) throw new Error('must hold keys and values')
    dropEmpty(tree as Tree)
    return { tree: tree as Tree, lineOf: key => lines.linePos(offsetOf(document, key)).line }
  } catch (err) {
    const why = err instanceof Error ? err.message : String(err)
    throw new VxmeshError('ERR_CONFIG', `config: ${file}: ${why}`, { cause: err, field: 'config' })
  }
}

/** Offset of a dotted key; of its innermost section that is found, if the key is not written as a block. */
function offsetOf({ contents }: Document, key: string): number {
  let at: unknown = contents
  let offset = 0
  for (const part of key.split('.')) {
    const pair = isMap(at) ? at.items.find(({ key: name }) => isScalar(name) && name.value === part) : undefined
    if (pair === undefined) break
    offset = isScalar(pair.key) ? (pair.key.range?.[0] ?? offset) : offset
    at = pair.value
  }
  return offset
}

function refuseUnknownVariables(env: Readonly<Record<string, string | undefined>>): void {
  const known = new Set<string>(CONFIG_KEYS.map(variableOf))
  const unknown = Object.keys(env).find(n => n.startsWith('VXMESH_') && !known.has(n) && !OTHER_VARIABLES.has(n))
  if (unknown !== undefined) throw configError(unknown, 'no setting has this variable')
}

function has(tree: Tree, key: string): boolean {
  let at: unknown = tree
  for (const part of key.split('.')) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, part)) return false
    at = (at as Tree)[part]
  }
  return true
}

/** Removes known keys and sections without a value, such as a section whose lines are all commented out. */
function dropEmpty(tree: Tree, prefix = ''): void {
  for (const [name, inner] of Object.entries(tree)) {
    const at = `${prefix}${name}`
    const known = CONFIG_KEYS.some(key => key === at || key.startsWith(`${at}.`))
    if (inner === null && known) Reflect.deleteProperty(tree, name)
    else if (typeof inner === 'object' && inner !== null && known) dropEmpty(inner as Tree, `${at}.`)
  }
}

function place(p: { tree: Tree; key: string; value: unknown; origins: Map<string, string>; origin: string }): void {
  p.origins.set(p.key, p.origin)
  const parts = p.key.split('.')
  const last = parts.pop()
  let at = p.tree
  for (const part of parts) {
    const next = Object.hasOwn(at, part) ? at[part] : undefined
    // A scalar in place of a section stays: validation reports it.
    if (next !== undefined && (typeof next !== 'object' || next === null)) return
    const inner = (next ?? {}) as Tree
    at[part] = inner
    at = inner
  }
  if (last !== undefined) at[last] = p.value
}

/** `serf.rpcPort` is serf, rpc, port; `p2p` stays one word. */
function words(key: string): string[] {
  return key.split('.').flatMap(part => part.split(/(?=[A-Z])/).map(word => word.toLowerCase()))
}

function configError(field: string, message: string): VxmeshError {
  return new VxmeshError('ERR_CONFIG', `${field}: ${message}`, { field })
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) deepFreeze(inner as object)
  return Object.freeze(value)
}
