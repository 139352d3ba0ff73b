// TCP between two containers on two namespace hosts, compared with a hand-made VXLAN between the same hosts, a plain bridge
// and tunnel made by ip(8), in alternating runs of iperf3.

import { join } from 'node:path'
import type { EndpointView } from '#model/views.ts'
import { run, startDetached } from '#platform/process.ts'
import { bare } from '../test/lab/container.ts'
import type { LabHost } from '../test/lab/host.ts'
import { ipBatch, kill, must } from '../test/lab/kernel.ts'
import { Lab } from '../test/lab/lab.ts'
import { waitFor } from '../test/lab/wait.ts'
import { median, say, type Report } from './report.ts'

const ROUNDS = 7
const SECONDS = 3

type End = { readonly namespace: string; readonly address: string }

export async function bench(): Promise<Report> {
  if ((await run('iperf3', ['--version'])).exitCode !== 0) {
    throw new Error('throughput needs iperf3: apt-get install iperf3')
  }
  const lab = await Lab.create()
  try {
    const hosts = await lab.addServers(2)
    await lab.host(1).api.call('POST', '/v1/networks', { name: 'bench', subnet: '10.1.0.0/24' })
    const names = ['mesh1', 'mesh2', 'hand1', 'hand2']
    const [mesh1, mesh2, hand1, hand2] = await lab.containers(names)
    if (mesh1 === undefined || mesh2 === undefined || hand1 === undefined || hand2 === undefined) throw new Error('no')
    const mesh: End[] = []
    for (const [n, container] of [mesh1, mesh2].entries()) {
      const view: EndpointView = await lab.host(n + 1).attach(container, 'bench')
      mesh.push({ namespace: container.namespace, address: bare(view.address) })
    }
    const hand: End[] = []
    for (const [n, container] of [hand1, hand2].entries()) {
      await handMade(hosts, n, container.namespace)
      hand.push({ namespace: container.namespace, address: `10.2.0.${n + 1}` })
    }
    const rates = { ours: [] as number[], limit: [] as number[] }
    for (let round = 0; round < ROUNDS; round++) {
      rates.ours.push(await tcp(lab, mesh))
      rates.limit.push(await tcp(lab, hand))
      say(`throughput: ${gigabits(rates.ours)} Gbit/s, hand-made ${gigabits(rates.limit)} Gbit/s`)
    }
    const ratios = rates.ours.map((rate, n) => rate / (rates.limit[n] ?? NaN))
    return {
      ours: { tcpBitsPerSecond: median(rates.ours) },
      limit: { tcpBitsPerSecond: median(rates.limit) },
      facts: { rounds: ROUNDS, seconds: SECONDS, medianOfRatios: median(ratios) }
    }
  } finally {
    await lab.destroy()
  }
}

const gigabits = (rates: readonly number[]): string => ((rates.at(-1) ?? 0) / 1e9).toFixed(2)

/** The minimal setup with ip(8): a bridge, a tunnel with the other host as its remote, a veth. */
async function handMade(hosts: readonly LabHost[], n: number, container: string): Promise<void> {
  const [host, other] = [hosts[n], hosts[1 - n]]
  if (host === undefined || other === undefined) throw new Error('two hosts are needed')
  const tunnel = `id 9999 local ${host.address} remote ${other.address} dstport 4790`
  await ipBatch(
    [
      'link add hbr0 mtu 1450 type bridge',
      `link add hvx0 mtu 1450 type vxlan ${tunnel}`,
      `link add hve0 mtu 1450 type veth peer name eth0 mtu 1450 netns ${container}`,
      'link set hvx0 master hbr0 up',
      'link set hve0 master hbr0 up',
      'link set hbr0 up'
    ],
    host.namespace
  )
  await ipBatch(['link set lo up', `addr add 10.2.0.${n + 1}/24 dev eth0`, 'link set eth0 up'], container)
}

type IperfReport = {
  readonly end: { readonly sum_received?: { readonly bits_per_second: number } }
  readonly error?: string
}

/** One stream, measured at the receiver, bits/s. */
async function tcp(lab: Lab, [from, to]: readonly End[]): Promise<number> {
  if (from === undefined || to === undefined) throw new Error('two ends are needed')
  const server = await startDetached('ip', ['netns', 'exec', to.namespace, 'iperf3', '-s'], {
    logFile: join(lab.dir, 'iperf3.log')
  })
  try {
    const args = ['netns', 'exec', from.namespace, 'iperf3', '-J', '-t', `${SECONDS}`, '-O', '1', '-c', to.address]
    // It may exit with 0 and an `error` instead of a result.
    return await waitFor(
      'iperf3 runs',
      async () => {
        const { end, error } = JSON.parse(await must('ip', args, { timeoutMs: 30_000 })) as IperfReport
        if (end.sum_received === undefined) throw new Error(error ?? 'no result')
        return end.sum_received.bits_per_second
      },
      { timeoutMs: 60_000 }
    )
  } finally {
    kill(server.pid)
  }
}
