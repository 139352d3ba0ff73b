import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { holdContainerNetns } from '#platform/container-netns.ts'
import { checkNetns, isNetns, isSameNetns, lastingNetnsId } from '#platform/netns.ts'
import { newNetns } from './new-netns.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: network namespaces'

function scratch(t: { teardown(fn: () => unknown): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'netns-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  return dir
}

t.test('only names directly below the directories, and processes’ namespaces, are opened', { skip }, async t => {
  const path = await newNetns(t)
  const dir = scratch(t)
  writeFileSync(join(dir, 'file'), '')
  symlinkSync('../../../../../../etc/hostname', join(dir, 'out'))
  symlinkSync('/proc/self/ns/net', join(dir, 'own'))
  symlinkSync(join(dir, 'loop'), join(dir, 'loop'))
  const directories = ['/run/netns', dir]
  const refused = [
    '',
    'relative',
    '/run/netns',
    '/run/netns/',
    '/run/netns/.',
    '/run/netns/..',
    `/run/netns/../netns/${path.slice('/run/netns/'.length)}`,
    `/run/./netns/${path.slice('/run/netns/'.length)}`,
    `/run//netns/${path.slice('/run/netns/'.length)}`,
    `${path}/x`,
    `${path}\0`,
    '/proc/self/ns/net',
    '/proc/thread-self/ns/net',
    '/proc/1/ns/mnt',
    '/proc/01/ns/net',
    '/proc/1/root/run/netns/x',
    '/etc/hostname',
    join(dir, 'none'),
    join(dir, 'file'),
    join(dir, 'out'),
    join(dir, 'own'),
    join(dir, 'loop')
  ]
  for (const one of refused) {
    t.throws(() => holdContainerNetns(one, directories), { code: 'ERR_NETNS', field: 'netns' }, one)
  }
  t.throws(() => holdContainerNetns(path, [dir]), { code: 'ERR_NETNS' }, 'a directory that is not configured')
  for (const one of [path, `/proc/${process.pid}/ns/net`]) {
    const held = holdContainerNetns(one, directories)
    t.equal(held.id, lastingNetnsId(one))
    held.close()
  }
})

t.test('a link from one directory to another, or to a process, is followed', { skip }, async t => {
  const path = await newNetns(t)
  const dir = scratch(t)
  symlinkSync(path, join(dir, 'to-name'))
  symlinkSync(`/proc/${process.pid}/ns/net`, join(dir, 'to-process'))
  for (const [name, target] of [
    ['to-name', path],
    ['to-process', `/proc/${process.pid}/ns/net`]
  ] as const) {
    const held = holdContainerNetns(join(dir, name), ['/run/netns', dir])
    t.equal(checkNetns(held.held), checkNetns(target))
    held.close()
  }
  t.throws(() => holdContainerNetns(join(dir, 'to-name'), [dir]), { message: /links to/ })
})

t.test('an open namespace stays the same when its name is given to another one', { skip }, async t => {
  const [one, two] = [await newNetns(t), await newNetns(t)]
  const dir = scratch(t)
  symlinkSync(one, join(dir, 'name'))
  const held = holdContainerNetns(join(dir, 'name'), ['/run/netns', dir])
  rmSync(join(dir, 'name'))
  symlinkSync(two, join(dir, 'name'))
  t.equal(checkNetns(held.held), checkNetns(one))
  t.ok(isNetns(held.held, lastingNetnsId(one)))
  held.close()
  t.throws(() => checkNetns(held.held), { code: 'ERR_NETNS' }, 'until it is closed')
})

t.test('ids compare with their cookie, and without it where a kernel has none', t => {
  for (const [id, noted, same] of [
    ['4:10:7', '4:10:7', true],
    ['4:10:7', '4:10', true],
    ['4:10', '4:10', true],
    ['4:10:7', '4:10:8', false],
    ['4:10:7', '4:1', false],
    ['4:100', '4:10', false],
    ['4:10', '4:10:7', false]
  ] as const) {
    t.equal(isSameNetns(id, noted), same, `${id} ${noted}`)
  }
  t.end()
})

t.test('a path below /var/run counts as below /run, and no other alias does', t => {
  const refusal = (path: string): string => {
    try {
      holdContainerNetns(path, ['/run/netns']).close()
      return 'held'
    } catch (err) {
      return (err as Error).message
    }
  }
  t.match(refusal('/var/run/netns/absent-for-this-test'), /cannot be opened \(ENOENT\)/)
  t.match(refusal('/var/run/../run/netns/absent-for-this-test'), /must be below/)
  t.match(refusal('/srv/var/run/netns/absent-for-this-test'), /must be below/)
  t.end()
})
