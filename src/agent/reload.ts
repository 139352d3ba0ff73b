// Carries out a configuration reload: every reloadable key has an entry in a table, which the compiler holds against the
// keys that src/config/schema.ts declares reloadable.

import type { Config, ReloadableKey } from '#config/schema.ts'

/** How a change of one key takes effect. */
export type ReloadStep = {
  /** Carries the change out once no step was refused. Must not fail. */
  readonly commit?: () => void | Promise<void>
  /** Reverts what preparing has done, because a later step was refused. */
  readonly undo?: () => Promise<void>
}

/** Prepares a change to the new configuration. @throws what the change is refused with */
export type ReloadAction = (config: Config) => ReloadStep | Promise<ReloadStep>

/** Prepared in the table's order; so a step that cannot be undone comes last. */
export type ReloadActions = Readonly<Record<ReloadableKey, ReloadAction>>

/** For a key whose value is read anew at every use. */
export const readOnUse: ReloadAction = () => ({})

/**
 * @param adopt makes the configuration the current one; called between preparing and committing
 * @throws the refusal of one step, after the earlier ones were undone; then nothing has changed
 */
export async function carryOutReload(p: {
  readonly actions: ReloadActions
  readonly changed: readonly ReloadableKey[]
  readonly config: Config
  readonly adopt: (config: Config) => void
}): Promise<void> {
  const { actions, changed, config, adopt } = p
  const steps: ReloadStep[] = []
  try {
    for (const key of Object.keys(actions) as ReloadableKey[]) {
      if (changed.includes(key)) steps.push(await actions[key](config))
    }
  } catch (err) {
    for (const step of steps.reverse()) await step.undo?.()
    throw err
  }
  adopt(config)
  for (const step of steps) await step.commit?.()
}
