import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import {
  checkContainerNetns,
  checkNetns,
  inNetns,
  isNetns,
  isSysctlWritable,
  lastingNetnsId,
  netnsOfPid,
  OWN_NETNS,
  withNetns,
  writeSysctls
} from '#platform/netns.ts'
import { run } from '#platform/process.ts'
import { newNetns } from './new-netns.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: network namespaces'

t.test('a path that is not a network namespace is refused with its field', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'netns-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  writeFileSync(join(dir, 'file'), '')
  await run('mkfifo', [join(dir, 'fifo')])
  const paths = [
    '',
    'relative',
    '/no/such/path',
    '/a\0b',
    dir,
    join(dir, 'file'),
    join(dir, 'fifo'),
    '/dev/null',
    '/proc/self/ns/user',
    '/proc/self/ns/mnt'
  ]
  for (const path of paths) {
    t.throws(() => checkNetns(path), { code: 'ERR_NETNS', field: 'netns' }, path)
    t.throws(() => checkNetns(path, 'pid'), { code: 'ERR_NETNS', field: 'pid' }, path)
  }
})

t.test('a pid gives the path of its namespace, and an invalid pid is refused', async t => {
  t.equal(checkNetns(netnsOfPid(process.pid)), checkNetns(OWN_NETNS))
  for (const pid of [0, -1, 1.5, NaN, 2 ** 22, 2 ** 31]) {
    t.throws(() => netnsOfPid(pid), { code: 'ERR_NETNS', field: 'pid' }, String(pid))
  }
})

t.test('a lasting id tells a namespace from a later one with the same inode', { skip }, async t => {
  const [one, two] = [await newNetns(t), await newNetns(t)]
  const [id, other] = [lastingNetnsId(one), lastingNetnsId(two)]
  t.match(id, /^\d+:\d+:\d+$/)
  t.equal(id, `${checkNetns(one)}:${id.split(':')[2]}`)
  t.ok(isNetns(one, id))
  t.notOk(isNetns(two, id))
  const cookie = other.split(':')[2]
  t.not(id.split(':')[2], cookie)
  t.notOk(isNetns(one, `${checkNetns(one)}:${cookie}`), 'the same inode with another cookie')
  t.ok(isNetns(one, checkNetns(one)), 'an id without a cookie')
  t.throws(() => isNetns('/run/netns/nowhere', id), { code: 'ERR_NETNS' })
})

t.test("the host's own namespace is not a container's", { skip }, async t => {
  const path = await newNetns(t)
  const check = (of: string, hosts: readonly string[] = []): void =>
    withNetns(of, fd => checkContainerNetns(fd, { path: of, hosts }))
  t.doesNotThrow(() => check(path))
  for (const own of [OWN_NETNS, '/proc/1/ns/net']) {
    t.throws(() => check(own), { code: 'ERR_NETNS', field: 'netns' }, own)
  }
  t.throws(() => check(path, [path]), { code: 'ERR_NETNS' })
})

t.test('the thread returns to its own namespace, also after an error', { skip }, async t => {
  const path = await newNetns(t)
  const original = checkNetns(OWN_NETNS)
  t.equal(
    inNetns(path, () => checkNetns(OWN_NETNS)),
    checkNetns(path)
  )
  t.equal(checkNetns(OWN_NETNS), original)
  t.throws(
    () =>
      inNetns(path, () => {
        throw new Error('inside')
      }),
    /inside/
  )
  t.equal(checkNetns(OWN_NETNS), original)
  t.throws(() => inNetns(path, () => Promise.resolve()), /synchronous/)
})

t.test('a socket stays in the namespace where it was opened', { skip }, async t => {
  const path = await newNetns(t)
  const socket = NetlinkSocket.open(path)
  t.teardown(() => socket.close())
  const links = socket.dump({ type: 18, flags: 0, body: new Uint8Array(16) }, type => type, 'read links')
  t.strictSame(links, [16], 'only lo')
  t.throws(() => socket.request({ type: 17, flags: 0, body: new Uint8Array(16) }, 'delete nothing'), {
    code: 'ERR_KERNEL',
    message: /^delete nothing: .*EINVAL/
  })
})

t.test('a batch reports the outcome of every message, over many sends', { skip }, async t => {
  const socket = NetlinkSocket.openScratch()
  t.teardown(() => socket.close())
  // Index 1 is lo: setting it up succeeds; index 99 does not exist.
  const setUp = (index: number) => {
    const body = new Uint8Array(16)
    const view = new DataView(body.buffer)
    view.setInt32(4, index, true)
    view.setUint32(8, 1, true)
    view.setUint32(12, 1, true)
    return { type: 16, flags: 0, body }
  }
  const refusals = socket.batch(
    Array.from({ length: 1000 }, (_, i) => setUp(i % 7 === 0 ? 99 : 1)),
    'set up'
  )
  t.equal(refusals.length, 1000)
  t.ok(refusals.every((refusal, i) => (i % 7 === 0 ? refusal?.errno === 'ENODEV' : refusal === null)))
  t.strictSame(socket.batch([], 'nothing'), [])
  await t.rejects(socket.requestAsync(setUp(99), 'set up'), { code: 'ERR_KERNEL' })
  await socket.requestAsync(setUp(1), 'set up')
  t.equal(errnoOf(new Error('x')), null)

  // A synchronous request in the meantime receives the replies to the threads' requests.
  const pending = [setUp(1), setUp(99), setUp(1)].map(request => socket.requestAsync(request, 'set up'))
  const settled = Promise.allSettled(pending)
  for (const until = performance.now() + 200; performance.now() < until;) socket.request(setUp(1), 'set up')
  t.match(await settled, [
    { status: 'fulfilled' },
    { status: 'rejected', reason: { code: 'ERR_KERNEL', context: { errno: 'ENODEV' } } },
    { status: 'fulfilled' }
  ])
})

t.test('sysctls are those of the namespace', { skip }, async t => {
  const path = await newNetns(t)
  const key = 'net/ipv4/ip_forward'
  t.equal(isSysctlWritable(path, 'net/ipv4/none'), false)
  if (!isSysctlWritable(path, key)) return
  const { stdout: before } = await run('cat', [`/proc/sys/${key}`])
  writeSysctls(path, [{ key, value: before === '1' ? '0' : '1' }])
  t.equal((await run('cat', [`/proc/sys/${key}`])).stdout, before, "the process's own value is unchanged")
  t.throws(() => writeSysctls(path, [{ key: 'net/ipv4/none', value: '1' }]), { code: 'ERR_KERNEL' })
})
