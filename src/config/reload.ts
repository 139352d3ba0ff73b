// Plans a reload: which keys change at once, and which only at a restart.

import { isDeepStrictEqual } from 'node:util'
import { KEY_FACTS, type Config, type KeyFacts, type ReloadableKey } from './schema.ts'

export type Reload = {
  /** The running configuration with the new values of reloadable keys. */
  readonly config: Config
  /** Reloadable keys that differ. */
  readonly changed: readonly ReloadableKey[]
  /** Other keys that differ; they keep their old value until a restart. */
  readonly restart: readonly string[]
}

export function planReload(running: Config, wanted: Config): Reload {
  const differing = KEY_FACTS.filter(({ key }) => !isDeepStrictEqual(valueOf(running, key), valueOf(wanted, key)))
  const keys = (change: KeyFacts['change']): string[] => differing.filter(f => f.change === change).map(f => f.key)
  const changed = keys('reloadable') as ReloadableKey[]
  return {
    config: changed.reduce((config, key) => take(config, wanted, key), running),
    changed,
    restart: keys('restart')
  }
}

function valueOf(config: Config, key: string): unknown {
  return key.split('.').reduce<unknown>((at, part) => (at as Readonly<Record<string, unknown>>)[part], config)
}

/** Takes one key from `wanted`. A reloadable key is at most one section deep. */
function take(config: Config, wanted: Config, key: string): Config {
  const [section = ''] = key.split('.')
  if (section === key) return Object.freeze({ ...config, [key]: valueOf(wanted, key) })
  const inner = { ...(valueOf(config, section) as object), [key.slice(section.length + 1)]: valueOf(wanted, key) }
  return Object.freeze({ ...config, [section]: Object.freeze(inner) })
}
