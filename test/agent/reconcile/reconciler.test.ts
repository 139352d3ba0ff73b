import t from 'tap'
import { endpointKey } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { bridgeName, vxlanName } from '#overlay/plan/network/names.ts'
import type { Op } from '#overlay/plan/network/op.ts'
import { makeNetwork } from '../../overlay/fixtures.ts'
import { blue, ReconcilerWorld, red } from './reconciler-world.ts'

const refused = new VxmeshError('ERR_KERNEL', 'no such thing')

/** Refuses ops of a kind in a network. */
function refusing(kind: Op['kind'], vni: Vni | null): (op: Op) => void {
  return op => {
    if (op.kind === kind && op.vni === vni) throw refused
  }
}

t.test('a wake creates what the state desires, and wakes are coalesced into one pass', async t => {
  const w = new ReconcilerWorld()
  w.add(red, { container: 'here', host: 1, address: '10.1.0.2' })
  t.equal(w.reconciler.fullPassAgeMs, null)
  for (let n = 0; n < 100; n++) w.reconciler.wake()
  await w.clock.advance(0)
  t.strictSame(w.passes, ['full'])
  t.ok(w.has(bridgeName(red.vni)))
  t.notOk(w.has(bridgeName(blue.vni)), 'blue has no container here')
  t.strictSame(w.reconciler.status(), { drift: 0, degraded: [], repaired: {} }, 'changes of the state are no drift')
  t.equal(w.reconciler.fullPassAgeMs, 0)
  for (let n = 0; n < 100; n++) w.reconciler.wake([red.vni])
  await w.clock.advance(0)
  t.strictSame(w.passes, ['full', 'network'])
  t.strictSame(w.forwarding.looks, [null, red.vni])
})

t.test('a wake without networks starts no pass', async t => {
  const w = await ReconcilerWorld.settled()
  w.reconciler.wake([])
  w.reconciler.changed([])
  await w.clock.advance(0)
  t.strictSame(w.passes, [])
})

t.test('a device that somebody else deleted is recreated and counted by kind of op', async t => {
  const w = await ReconcilerWorld.settled()
  w.forwarding.kernel.links.delete(vxlanName(red.vni))
  w.reconciler.changed([red.vni])
  await w.clock.advance(0)
  t.ok(w.has(vxlanName(red.vni)))
  const { drift, repaired } = w.reconciler.status()
  t.equal(drift, 0)
  t.equal(repaired['vxlan-create'], 1)
})

t.test('an added endpoint is no drift', async t => {
  const w = await ReconcilerWorld.settled()
  w.add(red, { container: 'more', host: 2, address: '10.1.0.4' })
  w.reconciler.wake([red.vni])
  await w.clock.advance(0)
  t.strictSame(w.reconciler.status().repaired, {})
})

t.test('while the state may be stale removals are deferred, and status counts them', async t => {
  const w = await ReconcilerWorld.settled()
  w.mayRemove = false
  w.endpoints = []
  w.reconciler.wake()
  await w.clock.advance(0)
  t.ok(w.has(bridgeName(red.vni)))
  const { drift, degraded } = w.reconciler.status()
  t.ok(drift > 0)
  t.strictSame(degraded, [], 'without a reason: they only have to wait')
  w.mayRemove = true
  await w.clock.advance(500)
  t.notOk(w.has(bridgeName(red.vni)))
  t.equal(w.reconciler.status().drift, 0)
})

t.test('a pass while the state may be stale is followed by another as soon as it is not', async t => {
  const w = new ReconcilerWorld()
  w.mayRemove = false
  w.reconciler.wake()
  await w.clock.advance(2_000)
  t.strictSame(w.passes, ['full'], 'nothing was left to do')
  w.mayRemove = true
  await w.clock.advance(250)
  t.strictSame(w.passes, ['full', 'full'], 'the filters, for example, were not installed yet')
  await w.clock.advance(2_000)
  t.strictSame(w.passes, ['full', 'full'])
})

t.test('a network with a refused op backs off by itself and says why; the others are created', async t => {
  const w = new ReconcilerWorld()
  w.add(red, { container: 'r', host: 1, address: '10.1.0.2' })
  w.add(blue, { container: 'b', host: 1, address: '10.1.0.2' })
  w.forwarding.refuse = refusing('vxlan-create', red.vni)
  w.reconciler.wake()
  await w.clock.advance(0)
  t.ok(w.has(vxlanName(blue.vni)))
  t.match(w.reconciler.status(), { drift: 1, degraded: [/^network red: .*no such thing/] })
  for (const waitMs of [500, 1_000, 2_000]) {
    const before = w.passes.length
    await w.clock.advance(waitMs - 1)
    t.equal(w.passes.length, before, `not before ${waitMs} ms`)
    await w.clock.advance(1)
    t.equal(w.passes.length, before + 1)
  }
  t.strictSame(w.passes, ['full', 'network', 'network', 'network'])
  w.forwarding.refuse = () => undefined
  await w.clock.advance(4_000)
  t.ok(w.has(vxlanName(red.vni)))
  t.match(w.reconciler.status(), { drift: 0, degraded: [] })
})

t.test('filters that cannot be set degrade the host and stop nothing else', async t => {
  const w = new ReconcilerWorld()
  w.add(red, { container: 'r', host: 1, address: '10.1.0.2' })
  w.filters.observeError = refused
  w.reconciler.wake()
  await w.clock.advance(0)
  t.ok(w.has(bridgeName(red.vni)))
  t.strictSame(w.reconciler.status().degraded, ['host: no such thing'])
  w.filters.observeError = null
  await w.clock.advance(500)
  t.strictSame(w.reconciler.status().degraded, [])
})

t.test('a kernel that cannot be read fails the pass, which is retried; nothing else runs', async t => {
  const w = new ReconcilerWorld()
  w.add(red, { container: 'r', host: 1, address: '10.1.0.2' })
  w.forwarding.observeError = refused
  w.reconciler.wake()
  await w.clock.advance(0)
  t.match(w.reconciler.status(), { drift: 1, degraded: ['host: no such thing'] })
  t.equal(w.routers.looks.length, 0)
  t.equal(w.reconciler.fullPassAgeMs, null, 'it does not count as succeeded')
  t.equal(w.reconciler.silentMs, 0, 'but the loop is alive')
  w.reconciler.wake([red.vni])
  await w.clock.advance(0)
  t.strictSame(w.reconciler.status().degraded, ['host: no such thing', 'vni 1: no such thing'])
  w.forwarding.observeError = null
  await w.clock.advance(500)
  t.match(w.reconciler.status(), { drift: 0, degraded: [] })
})

t.test('a failure before or after a full pass degrades the host and does not stop the pass', async t => {
  for (const step of ['before', 'after'] as const) {
    const w = new ReconcilerWorld()
    w.add(red, { container: 'r', host: 1, address: '10.1.0.2' })
    w[step] = () => Promise.reject(refused)
    w.reconciler.wake()
    await w.clock.advance(0)
    t.ok(w.has(bridgeName(red.vni)), step)
    t.strictSame(w.reconciler.status().degraded, ['host: no such thing'], step)
  }
})

t.test('what follows a pass is told the network, and its failure degrades that network alone', async t => {
  const w = await ReconcilerWorld.settled()
  const told: (number | null)[] = []
  w.after = vni => {
    told.push(vni)
    return vni === null ? Promise.resolve() : Promise.reject(refused)
  }
  w.networks = [{ ...red, egressRate: 8_000 }, blue]
  w.reconciler.wake([red.vni])
  await w.clock.advance(0)
  t.strictSame(told, [red.vni])
  t.strictSame(w.reconciler.status().degraded, ['network red: no such thing'])
  w.after = () => Promise.resolve()
  await w.clock.advance(500)
  t.strictSame(w.reconciler.status().degraded, [], 'and it is tried again')
})

t.test('routers are polled every 5 s, and a problem of theirs leads to a full pass that reports it', async t => {
  const w = await ReconcilerWorld.settled()
  const polled = w.routers.looks.length
  await w.clock.advance(4_999)
  t.equal(w.routers.looks.length, polled)
  w.routers.planned = [{ vni: red.vni, error: refused, effect: 'no way to the outside' }]
  await w.clock.advance(1)
  t.strictSame(w.passes, ['full'])
  t.strictSame(w.reconciler.status().degraded, ['network red: no way to the outside: no such thing'])
  t.equal(w.filters.looks.length, 2, 'filters are not polled')
})

t.test('a change of the peers reaches filters and routers without a pass over the devices', async t => {
  const w = await ReconcilerWorld.settled()
  const [filters, routers] = [w.filters.looks.length, w.routers.looks.length]
  for (let n = 0; n < 100; n++) w.reconciler.wakePeers()
  await w.clock.advance(0)
  t.strictSame([w.filters.looks.length - filters, w.routers.looks.length - routers], [1, 1])
  t.strictSame(w.forwarding.looks, [])
  t.strictSame(w.passes, [])
  w.filters.observeError = refused
  w.reconciler.wakePeers()
  await w.clock.advance(0)
  t.strictSame(w.passes, ['full'], 'which reports the problem')
  t.strictSame(w.reconciler.status().degraded, ['host: no such thing'])
})

t.test('where forwarding itself holds the peers, their change is a full pass', async t => {
  const w = await ReconcilerWorld.settled()
  w.holdsPeers()
  w.reconciler.wakePeers()
  await w.clock.advance(0)
  t.strictSame(w.passes, ['full'])
})

t.test('a poll of routers counts repairs', async t => {
  const w = await ReconcilerWorld.settled()
  w.routers.repairs = true
  w.routers.desired.add('router')
  await w.clock.advance(5_000)
  t.strictSame(w.reconciler.status().repaired, { add: 1 })
  t.strictSame(w.passes, [], 'and starts no pass')
})

t.test('a full pass comes every 30 s', async t => {
  const w = await ReconcilerWorld.settled()
  await w.clock.advance(29_999)
  t.strictSame(w.passes, [])
  t.equal(w.reconciler.fullPassAgeMs, 29_999)
  t.equal(w.reconciler.silentMs, 29_999)
  await w.clock.advance(1)
  t.strictSame(w.passes, ['full'])
  t.equal(w.reconciler.silentMs, 0)
})

t.test('a storm of kernel changes gets a fifth of the time; changes of the state do not wait', async t => {
  const w = new ReconcilerWorld()
  w.before = async () => {
    await w.clock.clock.sleep(100)
  }
  w.reconciler.wake()
  await w.clock.advance(100)
  t.strictSame(w.passes, ['full'])
  w.reconciler.changed(null)
  await w.clock.advance(399)
  t.strictSame(w.passes, ['full'])
  await w.clock.advance(101)
  t.strictSame(w.passes, ['full', 'full'])
  w.reconciler.changed(null)
  w.reconciler.wake()
  await w.clock.advance(100)
  t.strictSame(w.passes, ['full', 'full', 'full'])
})

t.test('more than 64 networks are one full pass', async t => {
  const w = new ReconcilerWorld()
  w.networks = Array.from({ length: 65 }, (_, n) => makeNetwork(`n${n}`, n + 1))
  w.reconciler.wake(w.networks.map(({ vni }) => vni))
  await w.clock.advance(0)
  t.strictSame(w.passes, ['full'])
})

t.test('a lost interface is found by a full pass, attached again and counted', async t => {
  const w = await ReconcilerWorld.settled()
  const [here] = w.endpoints
  if (here === undefined) throw new Error('no endpoint')
  const key = endpointKey(here.containerId, here.ifname)
  w.removeVeth(here)
  w.reconciler.changed([red.vni])
  await w.clock.advance(0)
  t.strictSame(w.passes, ['network', 'full'])
  t.strictSame(w.restored, [key])
  t.equal(w.reconciler.status().repaired['endpoint-attach'], 1)
})

t.test('an interface whose attach is in flight is no drift', async t => {
  const w = await ReconcilerWorld.settled()
  const [here] = w.endpoints
  if (here === undefined) throw new Error('no endpoint')
  w.inFlight.add(endpointKey(here.containerId, here.ifname))
  w.removeVeth(here)
  w.reconciler.changed([red.vni])
  await w.clock.advance(0)
  t.strictSame(w.passes, ['network'])
  t.match(w.reconciler.status(), { drift: 0, repaired: { 'endpoint-attach': undefined } })
})

t.test('an interface that cannot be attached again degrades its network and is retried', async t => {
  const w = await ReconcilerWorld.settled()
  const [here] = w.endpoints
  if (here === undefined) throw new Error('no endpoint')
  w.restoreFails = new VxmeshError('ERR_NETNS', 'its namespace is gone')
  w.removeVeth(here)
  w.reconciler.wake()
  await w.clock.advance(0)
  t.strictSame(w.reconciler.status().degraded, ['network red: its namespace is gone'])
  w.restoreFails = null
  await w.clock.advance(500)
  t.equal(w.restored.length, 1)
  t.strictSame(w.reconciler.status().degraded, [])
})

t.test('a deleted port leads to a full pass, which removes it from the filters', async t => {
  const w = await ReconcilerWorld.settled()
  const filtered = w.filters.looks.length
  w.endpoints = w.endpoints.slice(1)
  w.reconciler.wake([red.vni])
  await w.clock.advance(0)
  t.strictSame(w.passes, ['network', 'full'])
  t.equal(w.filters.looks.length, filtered + 1)
})

t.test('work in a network that is known to be right runs without a pass', async t => {
  const w = await ReconcilerWorld.settled()
  t.equal(await w.reconciler.withNetwork(red.vni, async () => 'done'), 'done')
  t.strictSame(w.forwarding.looks, [])
  t.equal(w.routers.looks.length, 1, 'nor at its router')
})

t.test('with hostAccess the router gets its route to the container first', async t => {
  const w = new ReconcilerWorld()
  const open = makeNetwork('open', 3, { hostAccess: true })
  w.networks = [open]
  w.add(open, { container: 'c', host: 1, address: '10.1.0.2' })
  w.reconciler.wake()
  await w.clock.advance(0)
  w.routers.looks.splice(0)
  w.routers.planned = [{ vni: open.vni, error: refused, effect: 'no way in' }]
  t.equal(await w.reconciler.withNetwork(open.vni, async () => w.routers.looks.length), 1)
  t.match(w.routers.looks[0], { scope: open.vni, trust: true })
})

t.test('work in a network that may differ is preceded by a pass over it', async t => {
  const cases: Record<string, (w: ReconcilerWorld) => unknown> = {
    'the kernel changed in it': w => w.reconciler.changed([red.vni]),
    'a full pass is asked for': w => w.reconciler.wake(),
    'the state has another network there': w => (w.networks = [{ ...red }]),
    'an op in it failed': async w => {
      w.forwarding.refuse = refusing('vxlan-create', red.vni)
      w.forwarding.kernel.links.delete(vxlanName(red.vni))
      w.reconciler.changed([red.vni])
      await w.clock.advance(0)
      w.forwarding.refuse = () => undefined
      w.forwarding.looks.splice(0)
    }
  }
  for (const [title, change] of Object.entries(cases)) {
    const w = await ReconcilerWorld.settled()
    await change(w)
    await w.reconciler.withNetwork(red.vni, async () => t.strictSame(w.forwarding.looks, [red.vni], title))
    await w.reconciler.stop()
  }
})

t.test('the first container of a network finds its bridge', async t => {
  const w = await ReconcilerWorld.settled()
  w.add(blue, { container: 'b', host: 1, address: '10.1.0.2' })
  await w.reconciler.withNetwork(blue.vni, async () => t.ok(w.has(bridgeName(blue.vni))))
})

t.test('work does not run in a network that cannot be created; a failed router does not stop it', async t => {
  const w = await ReconcilerWorld.settled()
  w.add(blue, { container: 'b', host: 1, address: '10.1.0.2' })
  w.forwarding.refuse = refusing('bridge-create', blue.vni)
  let ran = false
  const work = async (): Promise<void> => void (ran = true)
  await t.rejects(w.reconciler.withNetwork(blue.vni, work), { code: 'ERR_KERNEL' })
  t.notOk(ran)
  w.forwarding.refuse = () => undefined
  w.routers.observeError = refused
  await w.reconciler.withNetwork(blue.vni, work)
  t.ok(ran)
})

t.test('work that the kernel refuses is retried once after a pass; other failures are final', async t => {
  const w = await ReconcilerWorld.settled()
  let runs = 0
  const failing = (code: 'ERR_KERNEL' | 'ERR_NETNS') => async (): Promise<never> => {
    runs++
    throw new VxmeshError(code, 'no')
  }
  await t.rejects(w.reconciler.withNetwork(red.vni, failing('ERR_NETNS')), { code: 'ERR_NETNS' })
  t.equal(runs, 1)
  t.strictSame(w.forwarding.looks, [])
  await t.rejects(w.reconciler.withNetwork(red.vni, failing('ERR_KERNEL')), { code: 'ERR_KERNEL' })
  t.equal(runs, 3)
  t.strictSame(w.forwarding.looks, [red.vni])
})

t.test('work on the kernel and passes take turns', async t => {
  const w = await ReconcilerWorld.settled()
  const trace: string[] = []
  let release: () => void = () => undefined
  const held = new Promise<void>(resolve => (release = resolve))
  const work = w.reconciler.exclusively(async () => {
    await held
    trace.push('work')
  })
  w.after = async () => void trace.push('pass')
  w.reconciler.wake()
  await w.clock.advance(0)
  t.strictSame(trace, [])
  release()
  await work
  await w.clock.advance(0)
  t.strictSame(trace, ['work', 'pass'])
})

t.test('a wake while a pass waits for the kernel is part of that pass', async t => {
  const w = await ReconcilerWorld.settled()
  let release: () => void = () => undefined
  const held = new Promise<void>(resolve => (release = resolve))
  const work = w.reconciler.exclusively(() => held)
  w.reconciler.wake([red.vni])
  await w.clock.advance(0)
  w.reconciler.wake([red.vni])
  release()
  await work
  await w.clock.advance(0)
  t.strictSame(w.passes, ['network'])
})

t.test('stop waits for the pass in flight, and no other pass runs after it', async t => {
  const w = await ReconcilerWorld.settled()
  let release: () => void = () => undefined
  w.before = () => new Promise<void>(resolve => (release = resolve))
  w.reconciler.wake()
  await w.clock.advance(0)
  let stopped = false
  const stop = w.reconciler.stop().then(() => (stopped = true))
  await w.clock.advance(0)
  t.notOk(stopped)
  release()
  await stop
  t.strictSame(w.passes, ['full'])
  w.reconciler.wake()
  w.reconciler.changed(null)
  await w.clock.advance(120_000)
  t.strictSame(w.passes, ['full'])
  t.equal(w.clock.pending, 0, 'no timer is left')
})
