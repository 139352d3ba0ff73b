// Traffic between containers through every failure of the control plane: no packet may be lost.

import type { Test } from 'tap'
import { bare } from '../lab/container.ts'
import { CHAOS, sleep } from '../lab/chaos.ts'
import { startFlow, type FlowReport } from '../lab/flow.ts'
import { kill } from '../lab/kernel.ts'
import type { LabOptions } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { waitFor } from '../lab/wait.ts'
import { deviceIndexes, meshLab, nth } from './mesh-lab.ts'

export async function losesNothing(t: Test, options: Pick<LabOptions, 'family'> = {}): Promise<void> {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 3, attached: 2, ...options })
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)]
  await expectOracle(lab)
  const indexes = [await deviceIndexes(h1), await deviceIndexes(h2)]
  const during = async (title: string, inject: () => Promise<void>): Promise<void> => {
    const flow = await startFlow({
      from: nth(containers, 1),
      to: nth(containers, 2),
      address: bare(nth(endpoints, 2).address),
      packetsPerSecond: 1_000
    })
    let report: FlowReport
    try {
      await inject()
    } finally {
      report = await flow.stop()
    }
    t.comment(`${title}: ${report.sent} packets sent, longest gap ${report.longestGapMs} ms`)
    t.ok(report.sent > 500, `${title}: there was traffic`)
    t.equal(report.lost, 0, `${title}: no packet of ${report.sent} is lost`)
    t.ok(report.tcpAlive && report.tcpBytes > 0, `${title}: the TCP connection survives`)
    t.strictSame([await deviceIndexes(h1), await deviceIndexes(h2)], indexes, `${title}: no device was recreated`)
  }

  await during(`${CHAOS.kills} times kill -9 of an agent, every other time with its Serf`, async () => {
    for (let n = 0; n < CHAOS.kills; n++) {
      const host = n % 2 === 0 ? h1 : h2
      const serf = host.serfPid
      await host.killAgent()
      if (n % 4 >= 2 && serf !== null) kill(serf)
      await host.startAgent()
      await host.waitReady()
    }
  })
  await expectOracle(lab)

  await during(`all agents and Serfs dead for ${CHAOS.deadMs} ms`, async () => {
    for (const host of lab.hosts) {
      const serf = host.serfPid
      await host.killAgent()
      if (serf !== null) kill(serf)
    }
    await sleep(CHAOS.deadMs)
    for (const host of lab.hosts) await host.startAgent()
    for (const host of lab.hosts) await host.waitReady()
  })
  await expectOracle(lab, { timeoutMs: 20_000 })

  await during(`the control links between the hosts cut for ${CHAOS.cutMs} ms`, async () => {
    for (const one of lab.hosts)
      for (const other of lab.hosts) if (one !== other) await one.dropFrom(other, [7946, 7947])
    await sleep(CHAOS.cutMs)
    const isDetected = async (): Promise<boolean> => (await h1.members()).some(({ status }) => status === 'failed')
    await waitFor('the cut is detected', isDetected, { timeoutMs: 30_000 })
    for (const host of lab.hosts) await host.heal()
    await waitFor('all are alive again', async () => (await h1.members()).every(m => m.status === 'alive'), {
      timeoutMs: 60_000
    })
    await h3.waitReady()
  })
  await expectOracle(lab, { timeoutMs: 30_000 })
}
