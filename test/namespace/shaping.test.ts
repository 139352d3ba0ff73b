// Queues of containers on a real kernel, without an agent: tc(8) and ip(8) are the oracle. shaping-rates.test.ts measures
// the rates of real traffic.

import t, { type Test } from 'tap'
import type { Endpoint } from '#model/endpoint.ts'
import { attachRequest, detachRequest, shapeRequest, type AttachRequest } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import { ifbName } from '#overlay/plan/network/names.ts'
import { describe } from '#overlay/plan/network/op.ts'
import { plan } from '#overlay/plan/network/plan-network.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../overlay/fixtures.ts'
import { waitFor } from '../lab/wait.ts'
import { keepFilters } from './guard-lab.ts'
import { ip, removeNamespaces } from '../lab/kernel.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { Lab } from '../lab/lab.ts'
import type { LabContainer } from '../lab/container.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const MTU = 1450
const red = makeNetwork('red', 0xabc)
const both = { ingressRate: 10e6, egressRate: 20e6, delayUs: 0 }
const SAME = { network: red, overlayMtu: MTU, withRoute: true }
const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }

/** One host, one container of network red, attached with the given rates. */
class ShapedContainer {
  readonly lab: Lab
  readonly container: LabContainer
  driver: LinuxDriver
  endpoint: Endpoint

  private constructor(lab: Lab, container: LabContainer, shaping: typeof both) {
    this.lab = lab
    this.container = container
    this.driver = this.#open()
    this.endpoint = { ...makeEndpoint(red, { container: 'c1', host: 1, address: '10.1.0.2' }), ...shaping }
  }

  static async open(t: Test, shaping = both): Promise<ShapedContainer> {
    const lab = await Lab.create({ hosts: 1 })
    t.teardown(() => lab.destroy())
    const shaped = new ShapedContainer(lab, await lab.container('c1'), shaping)
    t.teardown(() => shaped.driver.close())
    await shaped.pass()
    await shaped.driver.devices.attach(shaped.request)
    return shaped
  }

  get request(): AttachRequest {
    const { endpoint, container } = this
    return attachRequest({ ...SAME, endpoint, netns: container.netns })
  }

  get veth(): string {
    return this.request.hostInterface
  }

  get ifb(): string {
    return ifbName(this.request.hostInterface)
  }

  want(endpoints: readonly Endpoint[] = [this.endpoint]): DesiredHost {
    return desired({
      self: peer(1),
      selfVtep: this.lab.host(1).vtep,
      networks: [red],
      endpoints: byNetwork(endpoints),
      hosts: [makeHost(1)],
      memberStatus: null,
      overlayMtu: MTU,
      vxlanPort: 4789
    })
  }

  /** Runs one full pass. @returns what it did */
  async pass(): Promise<string[]> {
    const { ops } = plan(this.want(), await this.driver.forwarding.observe())
    const { failures } = await this.driver.forwarding.execute(ops)
    if (failures[0] !== undefined) throw failures[0].error
    return ops.map(describe)
  }

  async restart(): Promise<void> {
    await this.driver.close()
    this.driver = this.#open()
  }

  /** Changes the shaping like `endpoint update`. */
  async shape(shaping: typeof both): Promise<void> {
    this.endpoint = { ...this.endpoint, ...shaping }
    const { endpoint } = this
    await this.driver.devices.shape(shapeRequest({ endpoint, network: red, overlayMtu: MTU }))
  }

  async tc(args: string): Promise<string> {
    const { stdout, stderr, exitCode } = await run('tc', ['-n', this.lab.host(1).namespace, ...args.split(' ')])
    if (exitCode !== 0) throw new Error(`tc ${args}: ${stderr}`)
    return stdout
  }

  async ip(args: string): Promise<string> {
    return ip(this.lab.host(1).namespace, args)
  }

  /** All queues and redirections of the host, without counters and action indexes. */
  async queues(): Promise<{ qdiscs: string[]; filters: string[] }> {
    type Qdisc = { kind: string; handle: string; dev: string; root?: true; parent?: string; options: object }
    const qdiscs = JSON.parse(await this.tc('-j qdisc show')) as Qdisc[]
    const text = await this.tc(`filter show dev ${this.veth} ingress`)
    return {
      qdiscs: qdiscs
        .filter(q => q.kind !== 'noqueue')
        .map(q => `${q.dev} ${q.kind} ${q.handle} ${q.parent ?? 'root'} ${JSON.stringify(q.options)}`)
        .sort(),
      filters: text.split('\n').filter(line => /match|mirred/.test(line))
    }
  }

  #open(): LinuxDriver {
    const { vtep, netns } = this.lab.host(1)
    return LinuxDriver.open({ underlay: vxlanUnderlay(vtep), hostNetns: netns, clock: systemClock })
  }
}

t.test('attach creates the queues: rate, burst and limit on veth and IFB', { skip }, async t => {
  const w = await ShapedContainer.open(t)
  type Qdisc = { kind: string; handle: string; dev: string; options: { rate?: number; burst?: number; limit?: number } }
  const qdiscs = JSON.parse(await w.tc('-j qdisc show')) as Qdisc[]
  const tbf = (dev: string): Qdisc | undefined => qdiscs.find(q => q.dev === dev && q.kind === 'tbf')
  t.match(tbf(w.veth), { handle: '7678:', options: { rate: 1_262_069 } }, '10 Mbit/s of IP packets')
  t.match(tbf(w.ifb), { handle: '7678:', options: { rate: 2_524_138 } })
  t.ok(Math.abs((tbf(w.veth)?.options.burst ?? 0) - 12_500) < 20)
  t.match(await w.tc(`filter show dev ${w.veth} ingress`), new RegExp(`Egress Redirect to device ${w.ifb}`))
  t.match(JSON.parse(await w.ip(`-j -d link show ${w.ifb}`)), [
    { ifalias: 'vxmesh endpoint c1/eth0', mtu: MTU, operstate: 'UNKNOWN', linkinfo: { info_kind: 'ifb' } }
  ])
  t.strictSame(await w.pass(), [], 'nothing is left to do')
  t.strictSame(await w.driver.devices.installedShaping(w.request), both)
})

t.test('a restarted agent adopts the queues unchanged', { skip }, async t => {
  const w = await ShapedContainer.open(t)
  const before = await w.queues()
  const index = await w.ip(`-o link show ${w.ifb}`)
  await w.restart()
  t.strictSame(await w.pass(), [])
  t.match(await w.driver.devices.attach(w.request), { created: false })
  t.strictSame(await w.queues(), before)
  t.equal(await w.ip(`-o link show ${w.ifb}`), index)
})

t.test('drift of any kind is repaired by one pass', { skip }, async t => {
  const w = await ShapedContainer.open(t)
  const before = await w.queues()
  const inner = (await w.driver.devices.shapingSupport()).fqCodel ? 'handle 767a: fq_codel' : 'handle 767b: bfifo'
  const drifts: [string, (() => Promise<unknown>)[]][] = [
    ['a deleted queue of the veth', [() => w.tc(`qdisc del dev ${w.veth} root`)]],
    ['a deleted queue of the IFB', [() => w.tc(`qdisc del dev ${w.ifb} root`)]],
    ['a deleted inner queue', [() => w.tc(`qdisc del dev ${w.ifb} parent 7678:1`)]],
    ['another rate', [() => w.tc(`qdisc change dev ${w.veth} root handle 7678: tbf rate 1gbit burst 1m limit 1m`)]],
    ['another limit', [() => w.tc(`qdisc change dev ${w.veth} parent 7678:1 ${inner} limit 1000`)]],
    ['another root', [() => w.tc(`qdisc replace dev ${w.veth} root handle 1: bfifo limit 1000`)]],
    ['a deleted filter', [() => w.tc(`filter del dev ${w.veth} ingress`)]],
    ['no room for filters', [() => w.tc(`qdisc del dev ${w.veth} clsact`)]],
    [
      'a filter that matches less',
      [
        () => w.tc(`filter del dev ${w.veth} ingress`),
        () =>
          w.tc(
            `filter add dev ${w.veth} ingress prio 30328 u32 match ip protocol 17 0xff action mirred egress redirect dev ${w.ifb}`
          )
      ]
    ],
    ['an IFB that is down', [() => w.ip(`link set ${w.ifb} down`)]],
    ['an IFB without its alias', [() => run('ip', ['-n', w.lab.host(1).namespace, 'link', 'set', w.ifb, 'alias', ''])]],
    ['a deleted IFB', [() => w.ip(`link del ${w.ifb}`)]]
  ]
  for (const [what, steps] of drifts) {
    for (const step of steps) await step()
    t.not((await w.pass()).length, 0, `${what} is noticed`)
    t.strictSame(await w.pass(), [], `${what} is settled`)
    t.strictSame(await w.queues(), before, `${what} is repaired`)
    t.match(await w.ip(`-o link show ${w.ifb}`), /,UP,.*/, what)
  }
})

t.test('a change of the rate keeps the queue: its counters continue', { skip }, async t => {
  const w = await ShapedContainer.open(t)
  type Counted = { dev: string; kind: string; bytes: number }
  const sent = async (): Promise<number> => {
    const all = JSON.parse(await w.tc('-s -j qdisc show')) as Counted[]
    return all.find(q => q.dev === w.ifb && q.kind === 'tbf')?.bytes ?? 0
  }
  await countReplies(w.container, '10.1.0.77', { count: 2 })
  const before = await sent()
  t.ok(before > 0, 'the queue has carried packets')
  await w.shape({ ingressRate: 1e9, egressRate: 2e9, delayUs: 0 })
  t.ok((await sent()) >= before)
  t.strictSame(await w.driver.devices.installedShaping(w.request), { ingressRate: 1e9, egressRate: 2e9, delayUs: 0 })
  t.strictSame(await w.pass(), [], 'a pass has nothing to do')
})

t.test('rate 0 removes everything, by a change and by a pass', { skip }, async t => {
  const w = await ShapedContainer.open(t)
  await w.shape(unshaped)
  t.strictSame(await w.queues(), { qdiscs: [], filters: [] })
  t.notMatch(await w.ip('-o link show'), /vi[0-9a-f]{13}/)
  t.strictSame(await w.pass(), [])
  await w.shape(both)
  w.endpoint = { ...w.endpoint, ...unshaped }
  await w.pass()
  t.strictSame(await w.queues(), { qdiscs: [], filters: [] })
  t.notMatch(await w.ip('-o link show'), /vi[0-9a-f]{13}/)
  t.strictSame(await w.driver.devices.installedShaping(w.request), unshaped)
})

t.test('foreign queues and devices stay', { skip }, async t => {
  const w = await ShapedContainer.open(t, unshaped)
  await w.tc(`qdisc add dev ${w.veth} root handle 1: tbf rate 1gbit burst 1m limit 1m`)
  await w.tc(`qdisc add dev ${w.veth} clsact`)
  await w.tc(`filter add dev ${w.veth} egress prio 5 u32 match u32 0 0 action mirred egress mirror dev lo`)
  const theirs = await w.queues()
  t.strictSame(await w.pass(), [])
  await w.shape({ ingressRate: 0, egressRate: 1e6, delayUs: 0 })
  await w.shape(unshaped)
  t.strictSame(await w.queues(), theirs)
  await w.ip('link add ifb9 type ifb')
  await w.ip('link add vi0000000000000 type ifb')
  t.strictSame(await w.pass(), [], 'a name alone does not make an IFB device ours')
  t.match(await w.ip('-o link show'), /ifb9[^]*vi0000000000000/)
})

t.test('a name in use fails the shaping of its container with a conflict', { skip }, async t => {
  const w = await ShapedContainer.open(t, unshaped)
  await w.ip(`link add ${w.ifb} type ifb`)
  await t.rejects(w.shape(both), { code: 'ERR_KERNEL', message: new RegExp(w.ifb) })
  const { conflicts, ops } = plan(w.want(), await w.driver.forwarding.observe())
  t.match(conflicts, [{ device: w.ifb, reason: /no alias of ours/ }])
  t.strictSame(ops, [])
})

t.test('detach leaves nothing, even without the namespace', { skip }, async t => {
  for (const gone of [false, true]) {
    const w = await ShapedContainer.open(t)
    if (gone) {
      await removeNamespaces([w.container.namespace])
      // The kernel takes a namespace's devices apart after `ip netns del` has returned.
      await waitFor('the veth is gone', async () => !(await w.ip('-o link show')).includes(w.veth))
      await w.shape({ ...both, ingressRate: 1e6 })
    }
    await w.driver.devices.detach(detachRequest(w.endpoint))
    t.strictSame(
      (await run('ip', ['-n', w.lab.host(1).namespace, '-o', 'link'])).stdout.match(/v[ei][0-9a-f]{13}/g),
      null
    )
  }
})

t.test('an IFB device whose endpoint is gone is removed by a pass', { skip }, async t => {
  const w = await ShapedContainer.open(t)
  await removeNamespaces([w.container.namespace])
  const { ops } = plan({ networks: new Map(), peers: new Map() }, await w.driver.forwarding.observe())
  await w.driver.forwarding.execute(ops)
  t.notMatch(await w.ip('-o link show'), /vi[0-9a-f]{13}/)
})

t.test('the next attach completes a device that a crash left unmarked', { skip }, async t => {
  const w = await ShapedContainer.open(t, unshaped)
  await w.driver.devices.detach(detachRequest(w.endpoint))
  w.endpoint = { ...w.endpoint, ...both }
  await w.ip(`link add ${w.ifb} group 0x76786d type ifb`)
  await w.driver.devices.attach(w.request)
  t.match(await w.ip(`-o link show ${w.ifb}`), /,UP,.*alias vxmesh endpoint c1\/eth0/)
  t.strictSame(await w.pass(), [])
})

t.test('the features match what this kernel can shape', { skip }, async t => {
  const w = await ShapedContainer.open(t)
  const features = new Map((await w.driver.features()).map(f => [f.name, f]))
  const { rate, fqCodel, delay } = await w.driver.devices.shapingSupport()
  t.match(features.get('rate'), { present: rate, required: false })
  t.match(features.get('fq-codel'), { present: fqCodel })
  t.match(features.get('delay'), { present: delay })
  if (!delay) t.match(features.get('delay')?.detail, /unknown/i, 'with the kernel’s message')
  await w.shape({ ...both, delayUs: 10_000 })
  t.match(await w.driver.devices.installedShaping(w.request), { ...both, delayUs: delay ? 10_000 : 0 })
})

t.test('the redirection of a shaped container does not bypass port security', { skip }, async t => {
  const w = await ShapedContainer.open(t, unshaped)
  const other = makeEndpoint(red, { container: 'c2', host: 1, address: '10.1.0.3' })
  const { netns } = await w.lab.container('c2')
  const request = attachRequest({ ...SAME, endpoint: other, netns })
  await ip(w.container.namespace, 'addr add 10.1.0.9/16 dev eth0')
  const arrived = async (): Promise<number> => {
    const received = async (): Promise<number> =>
      (await w.driver.devices.counters()).get(request.hostInterface)?.rxPackets ?? Number.NaN
    const before = await received()
    const from = ['-I', '10.1.0.9', '-c', '3', '-i', '0.05', '-W', '1']
    await run('ip', ['netns', 'exec', w.container.namespace, 'ping', '-n', ...from, '10.1.0.3'])
    return (await received()) - before
  }
  await w.driver.devices.attach(request)
  await ip(w.container.namespace, `neigh replace 10.1.0.3 lladdr ${other.mac} dev eth0`)
  await w.shape(both)
  t.ok((await arrived()) >= 3, 'without a guard a spoofed address passes')
  await w.driver.setGuard(4789)
  await keepFilters(w.driver, { wanted: w.want([w.endpoint, other]), mayRemove: true })
  for (const shaping of [unshaped, both]) {
    await w.shape(shaping)
    t.equal(await arrived(), 0, 'a spoofed address is dropped')
  }
  t.equal(await countReplies(w.container, '10.1.0.3', { count: 1, waitMs: 1_000 }), 1, 'its own address passes')
})
