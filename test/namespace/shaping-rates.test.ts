// Rates as containers experience them, with real agents: two hosts, TCP and UDP by iperf3, read from the kernel's counters.
// The default covers each value of each dimension; VXMESH_TEST_RATES=all takes minutes and covers the whole matrix.

import t, { type Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import type { EndpointView, NetworkView } from '#model/views.ts'
import type { LabContainer } from '../lab/container.ts'
import { bare } from '../lab/container.ts'
import { Lab } from '../lab/lab.ts'
import { ipRate, measureReceived, openMeter, startTraffic, type Flow, type Protocol } from '../lab/traffic.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { cannotRun } from '../lab/requirements.ts'

const skip = cannotRun()
const MBIT = 1e6
/** The kernel enforces upper bounds. A busy machine may send less, so the best of several attempts counts. */
const ATTEMPTS = 5
/** Long enough that no traffic ends by itself while it is measured, even on a busy machine. */
const UNTIL_STOPPED = 60

type Direction = 'ingress' | 'egress'
type Place = 'same host' | 'across hosts'
type Case = readonly [mbit: number, direction: Direction, protocol: Protocol, place: Place]

const SOME: readonly Case[] = [
  [1, 'ingress', 'tcp', 'same host'],
  [1, 'egress', 'udp', 'across hosts'],
  [10, 'egress', 'tcp', 'same host'],
  [10, 'ingress', 'udp', 'across hosts'],
  [100, 'ingress', 'tcp', 'across hosts'],
  [100, 'egress', 'udp', 'same host'],
  [1000, 'egress', 'tcp', 'across hosts'],
  [1000, 'ingress', 'udp', 'same host']
]
const ALL: readonly Case[] = [1, 10, 100, 1000].flatMap(mbit =>
  (['ingress', 'egress'] as const).flatMap(direction =>
    (['tcp', 'udp'] as const).flatMap(protocol =>
      (['same host', 'across hosts'] as const).map(place => [mbit, direction, protocol, place] as const)
    )
  )
)
const CASES = process.env['VXMESH_TEST_RATES'] === 'all' ? ALL : SOME
// Agents inherit the environment and refuse settings that they do not know.
delete process.env['VXMESH_TEST_RATES']

t.test('rates', { skip, timeout: TEST_TIMEOUT_MS }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const [h1, h2] = await lab.addServerAndClient()
  await h1.cliJson<NetworkView>('network', 'create', 'red', '--subnet', '10.1.0.0/24')
  const [one, two, far] = (await lab.containers(['one', 'two', 'far'])) as [LabContainer, LabContainer, LabContainer]
  const addresses = new Map<LabContainer, string>()
  for (const [host, container] of [
    [h1, one],
    [h1, two],
    [h2, far]
  ] as const) {
    await container.exec('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1')
    addresses.set(container, bare((await host.attach(container, 'red')).address))
  }
  const addressOf = (container: LabContainer): string => addresses.get(container) ?? ''
  /** Container `one` is the shaped one. */
  const shape = (...flags: string[]): Promise<EndpointView> =>
    h1.cliJson<EndpointView>('endpoint', 'update', one.name, ...flags)
  const show = (name: string): Promise<EndpointView> => h1.cliJson<EndpointView>('endpoint', 'show', name)

  for (const [mbit, direction, protocol, place] of CASES) {
    await t.test(
      `${mbit} Mbit/s ${direction}, ${protocol}, ${place}: within 5 %, first second within 20 %`,
      async t => {
        const rate = mbit * MBIT
        const none = direction === 'ingress' ? '--egress-rate' : '--ingress-rate'
        const view = await shape(`--${direction}-rate`, `${mbit}mbit`, none, 'none')
        t.match(view.installed, { [`${direction}Rate`]: rate })
        const peer = place === 'same host' ? two : far
        const [from, to] = direction === 'ingress' ? [peer, one] : [one, peer]
        await t.resolves(within(t, { from, to, address: addressOf(to), protocol, rate }))
      }
    )
  }

  await t.test('a change of the rate takes effect within a second, up and down', async t => {
    await shape('--ingress-rate', '10mbit', '--egress-rate', 'none')
    const traffic = await startTraffic({
      from: far,
      to: one,
      address: addressOf(one),
      protocol: 'tcp',
      seconds: UNTIL_STOPPED,
      offered: 0
    })
    const meter = openMeter(one.netns)
    t.teardown(() => meter.close())
    await measureReceived({ meter, sender: meter, protocol: 'tcp', steadyMs: 200 })
    for (const mbit of [50, 5]) {
      const rate = mbit * MBIT
      await shape('--ingress-rate', `${mbit}mbit`)
      await pause(1_000)
      let is = 0
      for (let attempt = 0; attempt < ATTEMPTS && is < rate * 0.95; attempt++) {
        const from = meter.read()
        await pause(1_000)
        is = ipRate({ from, to: meter.read(), protocol: 'tcp', way: 'rx' })
        t.ok(is <= rate * 1.05, `${mbit} Mbit/s are not exceeded`)
      }
      near(t, { is, rate, percent: 5, what: `after the change to ${mbit}` })
    }
    traffic.stop()
    await traffic.result
  })

  await t.test('two containers do not disturb each other', async t => {
    await shape('--ingress-rate', 'none', '--egress-rate', '10mbit')
    await h1.cliJson('endpoint', 'update', two.name, '--egress-rate', '40mbit')
    const address = addressOf(far)
    const flows = [
      await startTraffic({ from: one, to: far, address, protocol: 'udp', seconds: 3, offered: 30 * MBIT, port: 5301 }),
      await startTraffic({ from: two, to: far, address, protocol: 'udp', seconds: 4, offered: 100 * MBIT, port: 5302 })
    ]
    const [first, second] = await Promise.all(flows.map(flow => flow.result))
    const rateOf = (result: typeof first): number => {
      const { bytes = 0, packets = 0, lost_packets: lost = 0 } = result?.end.sum ?? {}
      const seconds = result === first ? 3 : 4
      return ((bytes / packets + 28) * (packets - lost) * 8) / seconds
    }
    near(t, { is: rateOf(first), rate: 10 * MBIT, percent: 5, what: 'the first' })
    near(t, { is: rateOf(second), rate: 40 * MBIT, percent: 5, what: 'the second' })
    await h1.cliJson('endpoint', 'update', two.name, '--egress-rate', 'none')
  })

  await t.test('counters match the kernel’s and iperf3’s, survive a restart of the agent, and yield rates', async t => {
    await shape('--ingress-rate', 'none', '--egress-rate', '100mbit')
    const before = await show(one.name)
    const farBefore = await h2.cliJson<EndpointView>('endpoint', 'show', far.name)
    const flow = await startTraffic({
      from: one,
      to: far,
      address: addressOf(far),
      protocol: 'udp',
      seconds: 12,
      offered: 50 * MBIT
    })
    const expected = 50 * MBIT * (1442 / 1400)
    const during = await waitFor('the window is full of traffic', async () => {
      const view = await show(one.name)
      return Math.abs((view.txRate ?? 0) / expected - 1) <= 0.1 && view
    })
    const { end } = await flow.result
    const after = await show(one.name)
    near(t, { is: during.txRate ?? 0, rate: expected, percent: 10, what: 'rate over the window' })
    const sent = (end.sum?.packets ?? 0) * 1442
    const counted = (after.txBytes ?? 0) - (before.txBytes ?? 0)
    t.ok(Math.abs(counted - sent) <= sent * 0.001, `counted ${counted} bytes, iperf3 sent ${sent}`)
    const received = await h2.cliJson<EndpointView>('endpoint', 'show', far.name)
    const arrived = ((end.sum?.packets ?? 0) - (end.sum?.lost_packets ?? 0)) * 1442
    const arrivedBytes = (received.rxBytes ?? 0) - (farBefore.rxBytes ?? 0)
    // Packets that the socket had no room for still arrived at the interface.
    t.ok(
      arrivedBytes >= arrived * 0.999 && arrivedBytes <= sent * 1.001,
      `counted ${arrivedBytes} bytes, iperf3 received ${arrived} of ${sent}`
    )
    type Stats = { stats64: Record<'rx' | 'tx', { bytes: number; packets: number }> }
    const inside = async (): Promise<readonly number[]> => {
      const [link] = JSON.parse((await one.exec('ip', '-j', '-s', 'link', 'show', 'eth0')).stdout) as [Stats]
      const { rx, tx } = link.stats64
      return [rx.bytes, rx.packets, tx.bytes, tx.packets]
    }
    // The last packets may still be in flight: the agent's figures count while nothing has moved around them.
    const quiet = await waitFor('the interface is quiet', async () => {
      const kernel = await inside()
      const view = await show(one.name)
      return kernel.join() === (await inside()).join() && { kernel, view }
    })
    const now = quiet.view
    t.strictSame([now.rxBytes, now.rxPackets, now.txBytes, now.txPackets], quiet.kernel)
    await h1.killAgent()
    await h1.startAgent()
    await h1.waitReady()
    const restarted = await show(one.name)
    t.equal(restarted.hostIfindex, now.hostIfindex, 'it is the same device')
    t.ok((restarted.txBytes ?? 0) >= (now.txBytes ?? 0))
    t.match(restarted, { egressRate: 100 * MBIT, installed: { egressRate: 100 * MBIT, ingressRate: 0 } })
  })

  await t.test('an invalid change is refused by name and changes nothing', async t => {
    const before = await show(one.name)
    const refused: [string[], RegExp, number][] = [
      [['endpoint', 'update', one.name], /at least one/, 2],
      [['endpoint', 'update', one.name, '--ingress-rate', 'fast'], /ingress-rate/, 2],
      [['endpoint', 'update', one.name, '--ingress-rate', '1kbit'], /ingress-rate/, 2],
      [['endpoint', 'update', one.name, '--delay', '-1ms'], /delay/, 2],
      [['endpoint', 'update', 'nobody', '--egress-rate', '1mbit'], /nobody/, 4],
      [['endpoint', 'update', one.name, '--ifname', 'eth9', '--egress-rate', '1mbit'], /eth9/, 4],
      [['endpoint', 'update', far.name, '--delay', '10ms'], /h2/, 1]
    ]
    for (const [args, words, exit] of refused) {
      const result = await h1.cli(...args)
      t.match(result.stderr, words, args.join(' '))
      t.equal(result.exitCode, exit, args.join(' '))
    }
    const after = await show(one.name)
    t.strictSame([after.ingressRate, after.egressRate, after.delayUs], [before.ingressRate, before.egressRate, 0])
    const remote = await h1.cliJson<EndpointView>('endpoint', 'update', far.name, '--ingress-rate', '7mbit')
    t.match(remote, { ingressRate: 7 * MBIT, installed: null }, 'a rate may be changed from any host')
  })

  await t.test('a delay is added in both directions, or refused as a whole with its own code', async t => {
    const plain = await h1.cli(
      'endpoint',
      'update',
      one.name,
      '--egress-rate',
      '50mbit',
      '--delay',
      '20ms',
      '-o',
      'json'
    )
    const view = await show(one.name)
    if (plain.exitCode === 0) {
      t.match(view, { delayUs: 20_000, installed: { delayUs: 20_000, egressRate: 50 * MBIT } })
      const { stdout } = await two.exec('ping', '-n', '-c', '3', '-i', '0.2', addressOf(one))
      const rtt = Number(/min\/avg\/max\/mdev = ([0-9.]+)/.exec(stdout)?.[1])
      t.ok(rtt >= 40, `round trip ${rtt} ms`)
    } else {
      t.match(plain.stderr, /netem/)
      t.match(view, { delayUs: 0, egressRate: 100 * MBIT, installed: { delayUs: 0, egressRate: 100 * MBIT } })
    }
  })

  await t.test('rate 0 removes every queue, and a detach leaves nothing', async t => {
    const { hostInterface } = await show(one.name)
    const ours = async (): Promise<string> =>
      (await h1.exec('sh', '-c', `tc qdisc show; ip -o link | grep -o 'vi${hostInterface.slice(2)}'`)).stdout
    const anchors = (qdiscs: string): number => qdiscs.match(/clsact/g)?.length ?? 0
    await shape('--ingress-rate', '0', '--egress-rate', '0', '--delay', '0')
    // Programs at the ports have an anchor, too, which shaping shares.
    const unshaped = anchors(await ours())
    await shape('--ingress-rate', '1mbit', '--egress-rate', '1mbit')
    t.match(await ours(), /tbf[^]*clsact[^]*vi/)
    await shape('--ingress-rate', '0', '--egress-rate', '0', '--delay', '0')
    t.notMatch(await ours(), /tbf|bfifo|fq_codel|netem|vi/)
    t.equal(anchors(await ours()), unshaped)
    await shape('--egress-rate', '1mbit')
    await h1.detach(one)
    t.notMatch(await ours(), new RegExp(`tbf|${hostInterface.slice(2)}`))
  })
})

async function within(
  t: Test,
  p: { from: LabContainer; to: LabContainer; address: string; protocol: Protocol; rate: number }
): Promise<void> {
  const { protocol, rate } = p
  const meter = openMeter(p.to.netns)
  t.teardown(() => meter.close())
  const sender = openMeter(p.from.netns)
  t.teardown(() => sender.close())
  for (let attempt = 1; ; attempt++) {
    const traffic = await startTraffic({ ...p, seconds: UNTIL_STOPPED, offered: rate * 1.5 })
    const { firstSecond, steady } = await measureReceived({ meter, sender, protocol, steadyMs: 2_000 })
    traffic.stop()
    await traffic.result
    t.comment(`first second ${share(firstSecond, rate)}, steady ${share(steady, rate)}`)
    t.ok(firstSecond.received <= rate * 1.2, 'the first second does not exceed the rate')
    t.ok(steady.received <= rate * 1.05, 'the steady rate does not exceed the rate')
    // A sender that was starved of a processor proves nothing.
    const good = firstSecond.received >= rate * 0.8 && steady.received >= rate * 0.95
    const starved = protocol === 'udp' && Math.min(firstSecond.sent, steady.sent) < rate
    if (!good && attempt < ATTEMPTS) continue
    near(t, {
      is: firstSecond.received,
      rate: starved ? Math.min(firstSecond.sent, rate) : rate,
      percent: 20,
      what: 'first second'
    })
    near(t, { is: steady.received, rate: starved ? Math.min(steady.sent, rate) : rate, percent: 5, what: 'steady' })
    return
  }
}

function share({ received, sent }: Flow, rate: number): string {
  return `${(received / rate).toFixed(3)} of the rate (sent ${(sent / rate).toFixed(3)})`
}

function near(t: Test, p: { is: number; rate: number; percent: number; what: string }): void {
  const share = p.is / p.rate
  t.ok(Math.abs(share - 1) <= p.percent / 100, `${p.what}: ${share.toFixed(3)} of the rate`)
}
