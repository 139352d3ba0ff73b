import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import {
  createNamedNetns,
  isAbandonedName,
  listNetnsNames,
  namedNetns,
  removeNamedNetns
} from '#platform/named-netns.ts'
import { waitFor } from '../lab/wait.ts'
import { tryFlock } from '#platform/libc.ts'
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
    const given = await createNamedNetns([name], async path => {
      t.notOk(listNetnsNames().includes(name), 'no name yet')
      prepared = checkNetns(path)
    })
    t.equal(given, name)
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
    createNamedNetns([name], () => Promise.reject(new Error('not prepared'))),
    { message: 'not prepared' }
  )
  t.notOk(existsSync(namedNetns(name)))
})

t.test('a name that exists is passed over or refused, and its namespace is kept', { skip }, async t => {
  const name = freshName(t)
  const other = freshName(t)
  await createNamedNetns([name], nothing)
  const before = checkNetns(namedNetns(name))
  await t.rejects(createNamedNetns([name], nothing), { code: 'ERR_KERNEL', message: /exist already/ })
  t.equal(await createNamedNetns([name, other], nothing), other)
  t.equal(checkNetns(namedNetns(name)), before)
  t.not(checkNetns(namedNetns(other)), before)
})

t.test('of eight who want one name at once, one gets it, and each of the others its second', { skip }, async t => {
  const name = freshName(t)
  const seconds = Array.from({ length: 8 }, () => freshName(t))
  const given = await Promise.all(seconds.map(second => createNamedNetns([name, second], nothing)))
  t.equal(given.filter(got => got === name).length, 1)
  t.equal(given.filter((got, i) => got === seconds[i]).length, 7)
  t.equal(new Set(given.map(got => checkNetns(namedNetns(got)))).size, 8)
})

t.test(
  'a name that a live process is mounting or removing is told from one that a crash has left',
  { skip },
  async t => {
    const name = freshName(t)
    await createNamedNetns([freshName(t)], nothing)
    t.equal(isAbandonedName(name), false, 'no file')
    const fd = openSync(namedNetns(name), 'w')
    // Another file of the tests may be removing a name at this moment.
    await waitFor('nobody has locked it', () => isAbandonedName(name))
    t.equal(tryFlock(fd).value, 0)
    t.equal(isAbandonedName(name), false, 'it is being mounted')
    closeSync(fd)
    await waitFor('its process has ended', () => isAbandonedName(name))

    const other = await createNamedNetns([freshName(t)], nothing)
    const removed = removeNamedNetns(other)
    t.equal(isAbandonedName(name), false, 'names are being removed')
    await removed
    await waitFor('they have been', () => isAbandonedName(name))
  }
)

t.test('a name without a namespace, left by a crash, is listed and removed', { skip }, async t => {
  const name = freshName(t)
  await createNamedNetns([freshName(t)], nothing)
  writeFileSync(namedNetns(name), '')
  t.ok(listNetnsNames().includes(name))
  await removeNamedNetns(name)
  t.notOk(listNetnsNames().includes(name))
})
