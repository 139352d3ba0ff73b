// A reload over actions that record what is done. The compiler checks that each reloadable key has an action; this test
// checks that the compiler's list of keys is that of the schema.

import t from 'tap'
import { carryOutReload, readOnUse, type ReloadAction, type ReloadActions } from '#agent/reload.ts'
import { KEY_FACTS, type Config, type ReloadableKey } from '#config/schema.ts'

/** Actions that log each step; keys in `refused` are refused while they are prepared. */
function recording(refused: readonly ReloadableKey[] = []): { actions: ReloadActions; steps: string[] } {
  const steps: string[] = []
  const action =
    (key: ReloadableKey): ReloadAction =>
    () => {
      steps.push(`prepare ${key}`)
      if (refused.includes(key)) throw new Error(`${key} is refused`)
      return {
        commit: () => void steps.push(`commit ${key}`),
        undo: () => Promise.resolve(void steps.push(`undo ${key}`))
      }
    }
  const actions = {
    'http.listen': action('http.listen'),
    collectAfter: action('collectAfter'),
    'overlay.mtu': action('overlay.mtu'),
    'egress.local': action('egress.local'),
    'overlay.vteps': readOnUse,
    'dns.search': readOnUse,
    'dns.upstreams': readOnUse,
    'dns.forward': readOnUse,
    'namespaces.unmapped': readOnUse,
    'namespaces.range': readOnUse,
    'namespaces.prefixLength': readOnUse,
    'log.level': action('log.level'),
    join: action('join')
  }
  return { actions, steps }
}

const config = { name: 'h1' } as Config

t.test('the actions are those of the keys that the schema declares reloadable', t => {
  const declared = KEY_FACTS.filter(({ change }) => change === 'reloadable').map(({ key }) => key)
  t.same(Object.keys(recording().actions).sort(), declared.sort())
  t.end()
})

t.test('changed keys are prepared, then the configuration is adopted, then the changes are committed', async t => {
  const { actions, steps } = recording()
  const adopt = (adopted: Config): void => void steps.push(`adopt ${adopted.name}`)
  await carryOutReload({ actions, changed: ['join', 'namespaces.range', 'http.listen'], config, adopt })
  t.same(steps, ['prepare http.listen', 'prepare join', 'adopt h1', 'commit http.listen', 'commit join'])
})

t.test('without a changed key the configuration is adopted, and nothing is done', async t => {
  const { actions, steps } = recording()
  await carryOutReload({ actions, changed: [], config, adopt: () => void steps.push('adopt') })
  t.same(steps, ['adopt'])
})

t.test('a refused change undoes the earlier ones in reverse, and nothing is adopted or committed', async t => {
  const { actions, steps } = recording(['join'])
  const adopt = (): void => void steps.push('adopt')
  const changed = ['join', 'overlay.mtu', 'http.listen'] as const
  await t.rejects(carryOutReload({ actions, changed, config, adopt }), { message: 'join is refused' })
  t.same(steps, ['prepare http.listen', 'prepare overlay.mtu', 'prepare join', 'undo overlay.mtu', 'undo http.listen'])
})

t.test('a change that is refused first leaves nothing to undo', async t => {
  const { actions, steps } = recording(['http.listen'])
  await t.rejects(carryOutReload({ actions, changed: ['http.listen', 'join'], config, adopt: () => undefined }))
  t.same(steps, ['prepare http.listen'])
})
