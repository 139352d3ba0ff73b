import t from 'tap'
import { LocalEndpoints } from '#agent/endpoints/local-endpoints.ts'
import type { NetnsRecord, SavedRecord } from '#agent/endpoints/netns-records.ts'
import { heldNetns } from '../held-netns.ts'
import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import { RULES } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { addSubnet, attach, Caller, detach, makeHost, NEW, register, remove } from '#test/allocator/fixtures.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { MemoryDevices } from '../memory-devices.ts'

const KEY = 'web/eth0' as EndpointKey
const NETNS = '/run/netns/web'

type World = {
  readonly local: LocalEndpoints
  readonly devices: MemoryDevices
  readonly caller: Caller
  readonly endpoint: Endpoint
  readonly saved: Map<EndpointKey, SavedRecord>
  /** What a lookup of a path does. */
  lookup: (path: string, id: string) => boolean
  mtu: number
  readonly time: ManualClock
  /** Endpoints whose containers have ended, as it reported them. */
  readonly ended: EndpointKey[]
  /** Are those released automatically? */
  released: boolean
}

/** Container web is allocated on this host, and not attached yet. */
function world(p: { readonly saved?: Map<EndpointKey, SavedRecord> } = {}): World {
  const [devices, caller, saved] = [new MemoryDevices(), Caller.ready(), p.saved ?? new Map<EndpointKey, SavedRecord>()]
  const endpoint = caller.endpoint(attach('red', 'web'))
  const time = new ManualClock()
  const local = new LocalEndpoints({
    ...{ bootId: 'boot-1', self: makeHost(1).peerId, state: caller.state, devices },
    records: {
      load: () => Promise.resolve(saved),
      save: ({ containerId, ifname }, record) => saved.set(endpointKey(containerId, ifname), record),
      remove: ({ containerId, ifname }) => saved.delete(endpointKey(containerId, ifname))
    },
    netns: {
      hold: path => heldNetns(path, own.lookup(path, `id of ${path}`) ? `id of ${path}` : 'another'),
      isNetns: (path, id) => own.lookup(path, id)
    },
    desired: () => thrown(new Error('these devices need no desired state')),
    overlayMtu: () => own.mtu,
    ended: ended => {
      own.ended.push(endpointKey(ended.containerId, ended.ifname))
      return own.released
    },
    clock: time.clock
  })
  const own: World = {
    ...{ local, devices, caller, endpoint, saved, time, ended: [], released: false },
    ...{ lookup: () => true, mtu: 1_450 }
  }
  return own
}

const record = (p: Partial<NetnsRecord> = {}): NetnsRecord => ({
  netns: NETNS,
  netnsId: `id of ${NETNS}`,
  bootId: 'boot-1',
  ...p
})

/** The error of netns.ts for a path that cannot be opened. */
const unopenable = (code: string): VxmeshError =>
  new VxmeshError('ERR_NETNS', `netns: cannot be opened (${code})`, { cause: Object.assign(new Error(code), { code }) })

t.test('a failed attach leaves the record of an earlier one', async t => {
  const { local, devices, endpoint, saved } = world()
  await local.attach(endpoint, { netns: heldNetns(NETNS) })
  devices.failures.set('attach', new VxmeshError('ERR_KERNEL', 'EBUSY'))
  await t.rejects(local.attach(endpoint, { netns: heldNetns('/run/netns/other') }), { code: 'ERR_KERNEL' })
  t.same(saved.get(KEY), record())
})

t.test('an endpoint’s namespace is judged by its record and its path', async t => {
  for (const [what, records, lookup, expected] of [
    ['no record', [], () => true, 'unrecorded'],
    ['the same namespace', [record()], () => true, 'alive'],
    ['another namespace at that path', [record()], () => false, 'gone'],
    ['a record of an earlier boot', [record({ bootId: 'boot-0' })], () => true, 'gone'],
    ['a path that is gone', [record()], () => thrown(unopenable('ENOENT')), 'gone'],
    ['a process that is gone', [record()], () => thrown(unopenable('ESRCH')), 'gone'],
    [
      'a file that is no namespace',
      [record()],
      () => thrown(new VxmeshError('ERR_NETNS', 'is not a namespace')),
      'gone'
    ],
    ['a path that cannot be read', [record()], () => thrown(unopenable('EACCES')), 'unreadable'],
    ['too many open files', [record()], () => thrown(unopenable('EMFILE')), 'unreadable']
  ] as readonly (readonly [string, readonly NetnsRecord[], World['lookup'], string])[]) {
    const own = world({ saved: new Map(records.map(each => [KEY, each])) })
    await own.local.load()
    own.lookup = lookup
    t.equal(own.local.netnsState(KEY), expected, what)
  }
})

t.test('a lost interface is recreated in the recorded namespace', async t => {
  const own = world({ saved: new Map([[KEY, record()]]) })
  await own.local.load()
  t.equal(await own.local.restore(KEY), 'restored')
  t.match([...own.devices.interfaces.values()], [{ netns: NETNS, mtu: 1_450 }])
})

t.test('a lost interface that cannot be recreated is an error with the reason', async t => {
  for (const [what, saved, prepare, expected] of [
    ['no record', [], () => undefined, { code: 'ERR_NETNS', message: /its namespace is not known; attach it again/ }],
    ['rebooted', [record({ bootId: 'boot-0' })], () => undefined, { code: 'ERR_NETNS', message: /rebooted/ }],
    [
      'gone',
      [record()],
      own => (own.lookup = () => thrown(unopenable('ENOENT'))),
      { message: /\/run\/netns\/web is gone/ }
    ],
    ['another', [record()], own => (own.lookup = () => false), { message: /another namespace by now/ }],
    [
      'the kernel',
      [record()],
      own => own.devices.failures.set('attach', new VxmeshError('ERR_KERNEL', 'EBUSY')),
      { code: 'ERR_KERNEL', message: /web\/eth0 is gone and cannot be made again: EBUSY/ }
    ]
  ] as readonly (readonly [string, readonly NetnsRecord[], (own: World) => unknown, object])[]) {
    const own = world({ saved: new Map(saved.map(each => [KEY, each])) })
    await own.local.load()
    prepare(own)
    const outcome = await own.local.restore(KEY)
    t.ok(outcome instanceof VxmeshError, what)
    t.match(outcome, expected, what)
  }
})

t.test('the lost interface of a container that has ended is no error, unless nobody will release it', async t => {
  for (const [what, saved, lookup, ended] of [
    ['its path is gone', record(), () => thrown(unopenable('ENOENT')), true],
    ['its process is gone', record(), () => thrown(unopenable('ESRCH')), true],
    ['its path is another namespace’s', record(), () => false, true],
    ['its namespace is there', record(), () => true, false],
    ['its path cannot be read', record(), () => thrown(unopenable('EACCES')), false],
    ['the host was rebooted', record({ bootId: 'boot-0' }), () => thrown(unopenable('ENOENT')), false]
  ] as readonly (readonly [string, NetnsRecord, World['lookup'], boolean])[]) {
    const own = world({ saved: new Map([[KEY, saved]]) })
    await own.local.load()
    own.lookup = lookup
    own.released = true
    t.equal((await own.local.restore(KEY)) === 'pending', ended, what)
    t.same(own.ended, ended ? [KEY] : [], what)
    own.released = false
    t.not(await own.local.restore(KEY), 'pending', `${what}, and nothing is released`)
  }
})

t.test('an endpoint is young for 10 s after this agent attached it', async t => {
  const own = world({ saved: new Map([[KEY, record()]]) })
  await own.local.load()
  t.notOk(own.local.isYoung(KEY), 'an earlier agent attached it')
  await own.local.attach(own.endpoint, { netns: heldNetns(NETNS) })
  t.ok(own.local.isYoung(KEY))
  await own.time.advance(9_999)
  t.ok(own.local.isYoung(KEY))
  await own.time.advance(1)
  t.notOk(own.local.isYoung(KEY))
  await own.local.attach(own.endpoint, { netns: heldNetns(NETNS) })
  own.local.forget(own.endpoint)
  t.notOk(own.local.isYoung(KEY), 'it was detached')
})

t.test('a busy endpoint, and one that is not of this host, are not restored', async t => {
  const own = world({ saved: new Map([[KEY, record()]]) })
  await own.local.load()
  await own.local.handle(KEY, async () => t.equal(await own.local.restore(KEY), 'pending'))
  own.caller.do(detach('web'))
  t.equal(await own.local.restore(KEY), 'pending')
  own.caller.do(attach('red', 'web', { host: 2 }))
  t.equal(await own.local.restore(KEY), 'pending')
  t.same(own.devices.calls, [])
})

t.test('an endpoint is busy until its last task has ended, whether it succeeds or fails', async t => {
  const { local } = world()
  await local.handle(KEY, async () => {
    await t.rejects(local.handle(KEY, () => Promise.reject(new Error('failed'))))
    t.ok(local.isBusy(KEY), 'the outer task is still running')
  })
  t.notOk(local.isBusy(KEY))
})

t.test('a changed MTU is applied to the containers once', async t => {
  const own = world({ saved: new Map([[KEY, record()]]) })
  await own.local.load()
  const mtus = (): (string | undefined)[] => own.devices.calls.map(call => call.split(' ')[2])
  await own.local.follow(null)
  await own.local.follow(null)
  t.same(mtus(), ['1450'])
  own.mtu = 1_400
  own.devices.failures.set('updateContainer', new VxmeshError('ERR_KERNEL', 'EBUSY'))
  await t.rejects(own.local.follow(null), { code: 'ERR_KERNEL' })
  own.devices.failures.set('updateContainer', new VxmeshError('ERR_NETNS', 'gone'))
  await own.local.follow(null)
  await own.local.follow(null)
  t.same(mtus(), ['1450', '1400', '1400'], 'retried after a kernel error; a missing namespace is no error')
})

t.test('a pass gives nothing to a container that was attached with all of it', async t => {
  const own = world()
  await own.local.attach(own.endpoint, { netns: heldNetns(NETNS) })
  const { length } = own.devices.calls
  await own.local.follow(own.endpoint.vni)
  t.equal(own.devices.calls.length, length)
  own.mtu = 1_400
  await own.local.follow(own.endpoint.vni)
  t.match(own.devices.calls.slice(length), [/^updateContainer ve\w+ 1400 /])
})

t.test(
  'the second subnet of a network gives its containers an address once, after a pass over that network',
  async t => {
    const own = world({ saved: new Map([[KEY, record()]]) })
    await own.local.load()
    await own.local.follow(null)
    const { length } = own.devices.calls
    own.caller.rules = RULES
    for (const n of [1, 2]) own.caller.do(register(n, { version: NEW }))
    own.caller.do(addSubnet('red', 'fd00:1::/64'))
    await own.local.follow((own.endpoint.vni + 1) as Vni)
    t.equal(own.devices.calls.length, length, 'another network')
    for (let pass = 0; pass < 2; pass++) await own.local.follow(own.endpoint.vni)
    t.match(own.devices.calls.slice(length), [/^updateContainer ve\w+ 1450 10\.1\.0\.\d+ fd00:1::\d+$/])
    await own.local.follow(null)
    t.equal(own.devices.calls.length, length + 1)
  }
)

t.test('endpoints that the state no longer places here are forgotten, unless they are busy', async t => {
  const own = world({ saved: new Map([[KEY, record()]]) })
  await own.local.load()
  own.local.prune()
  t.equal(own.local.netnsState(KEY), 'alive')
  own.caller.do(detach('web'))
  await own.local.handle(KEY, async () => {
    own.local.prune()
    return Promise.resolve()
  })
  t.equal(own.local.netnsState(KEY), 'alive')
  own.local.prune()
  t.same([own.local.netnsState(KEY), own.saved.size], ['unrecorded', 0])
})

t.test('an endpoint of a network that was deleted is not attached', async t => {
  const own = world()
  own.caller.do(remove('red', true))
  await t.rejects(own.local.attach(own.endpoint, { netns: heldNetns(NETNS) }), { code: 'ERR_NETWORK_NOT_FOUND' })
  t.equal(own.devices.interfaces.size, 0)
})

function thrown(err: Error): never {
  throw err
}
