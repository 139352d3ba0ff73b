// The egress rate of a network on a real kernel, measured by iperf3(1).

import t from 'tap'
import { GatewayLab, red, settled } from './gateway-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

t.test('the egress rate is met within 5 %, also after a change under traffic', { skip: cannotRun() }, async t => {
  const g = await GatewayLab.open(1)
  t.teardown(() => g.close())
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const server = g.startServer()
  try {
    const free = await g.measure(r1, 2)
    t.comment(`without a limit ${format(free)}`)
    for (const rate of [10e6, 100e6, 1_000e6]) {
      g.networks = g.networks.map(network => (network.vni === red.vni ? { ...network, egressRate: rate } : network))
      const { problems } = await g.pass(1)
      t.strictSame(problems, [])
      await settled(t, g)
      if (free < rate * 1.5) {
        t.comment(`this machine cannot send ${format(rate * 1.5)}: ${format(rate)} is not tested`)
        continue
      }
      // A sender that was starved of a processor stays below the rate: it has three attempts, none of which may exceed it.
      let got = 0
      for (let attempt = 0; attempt < 3 && got < rate * 0.95; attempt++) {
        got = await g.measure(r1, 4)
        t.ok(got <= rate * 1.05, `${format(rate)}: ${format(got)}`)
      }
      t.ok(got >= rate * 0.95, `${format(rate)} is used: ${format(got)}`)
    }
    g.networks = g.networks.map(network => (network.vni === red.vni ? red : network))
    await g.pass(1)
    t.ok((await g.measure(r1, 2)) > Math.min(free / 3, 1_100e6), 'without a limit again')
    await settled(t, g)
  } finally {
    server.stop()
  }
})

const format = (rate: number): string => `${(rate / 1e6).toFixed(1)} Mbit/s`
