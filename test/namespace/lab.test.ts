// The lab itself: several processes remove one lab at once, as when tests start in parallel after a killed run.

import { existsSync } from 'node:fs'
import t from 'tap'
import { Lab } from '../lab/lab.ts'
import { LAB_PREFIX, listNamespaces, removeNamespaces } from '../lab/kernel.ts'
import { teardown } from '../lab/teardown.ts'
import { cannotRun } from '../lab/requirements.ts'

t.test('a lab may be removed by several at once', { skip: cannotRun() }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  await lab.addHost()
  await lab.containers(Array.from({ length: 20 }, (_, n) => `c${n}`))
  const names = listNamespaces(LAB_PREFIX + lab.id)
  t.equal(names.length, 22)
  // All of them work on the same list of names.
  await Promise.all([1, 2, 3].map(() => removeNamespaces(names.slice(0, 11))))
  await Promise.all([1, 2, 3].map(() => teardown(lab.id)))
  t.same(listNamespaces(LAB_PREFIX + lab.id), [])
  t.notOk(existsSync(lab.dir))
})
