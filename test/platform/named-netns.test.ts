import { randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { createNamedNetns, listNetnsNames, namedNetns, removeNamedNetns } from '#platform/named-netns.ts'
import { checkNetns, OWN_NETNS } from '#platform/netns.ts'
import { run } from '#platform/process.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: network namespaces'

function freshName(t: Test): string {
  const name = `nst${randomBytes(3).toString('hex')}`
  t.teardown(() => removeNamedNetns(name))
  return name
}

const nothing = (): Promise<void> => Promise.resolve()

t.test(
  'a name appears only once its namespace is prepared, ip(8) knows it, and removing it twice is success',
  { skip },
  async t => {
    const name = freshName(t)
    let prepared = ''
    await createNamedNetns(name, async path => {
      t.notOk(listNetnsNames().includes(name), 'no name yet')
      prepared = checkNetns(path)
    })
    t.equal(checkNetns(namedNetns(name)), prepared)
    t.not(prepared, checkNetns(OWN_NETNS))
    t.match((await run('ip', ['netns', 'list'])).stdout, new RegExp(`^${name}\\b`, 'm'))
    await removeNamedNetns(name)
    await removeNamedNetns(name)
    t.notOk(existsSync(namedNetns(name)))
  }
)

t.test('a preparation that fails leaves no name', { skip }, async t => {
  const name = freshName(t)
  await t.rejects(
    createNamedNetns(name, () => Promise.reject(new Error('not prepared'))),
    { message: 'not prepared' }
  )
  t.notOk(existsSync(namedNetns(name)))
})

t.test('a name that exists is refused, and its namespace is kept', { skip }, async t => {
  const name = freshName(t)
  await createNamedNetns(name, nothing)
  const before = checkNetns(namedNetns(name))
  await t.rejects(createNamedNetns(name, nothing), { code: 'ERR_KERNEL', message: /EEXIST/ })
  t.equal(checkNetns(namedNetns(name)), before)
})

t.test('a name without a namespace, left by a crash, is listed and removed', { skip }, async t => {
  const name = freshName(t)
  await createNamedNetns(freshName(t), nothing)
  writeFileSync(namedNetns(name), '')
  t.ok(listNetnsNames().includes(name))
  await removeNamedNetns(name)
  t.notOk(listNetnsNames().includes(name))
})
