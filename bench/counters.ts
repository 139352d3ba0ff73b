// The cost of sampling the counters of many local endpoints: processor time of one sample by our reader, compared with a
// whole dump of the same links. The agent takes one sample per second.
//   npm run -s bench -- counters [--endpoints N] [--samples N]

import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { parseContainerId, parseIfName, parseVni } from '#model/ids.ts'
import { CounterReader } from '#overlay/linux/counters.ts'
import { readLinks } from '#overlay/kernel/kernel.ts'
import { createVeth, getLinks, setLink } from '#overlay/netlink/link.ts'
import { endpointAlias, OVERLAY_GROUP, vethName } from '#overlay/plan/network/names.ts'
import { macOf } from '#model/mac.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { withNetns } from '#platform/netns.ts'
import { ipBatch } from '../test/lab/kernel.ts'
import { median, quantile, say, type Figures, type Report } from './report.ts'

export async function bench(args: readonly string[]): Promise<Report> {
  const options = {
    endpoints: { type: 'string', default: '5000' },
    samples: { type: 'string', default: '40' }
  } as const
  const { values } = parseArgs({ args: [...args], options })
  const [endpoints, samples] = [Number(values.endpoints), Number(values.samples)]
  const names = ['host', 'inside'].map(role => `vxbench-${randomBytes(3).toString('hex')}-${role}`)
  const [host = '', inside = ''] = names
  await ipBatch(names.map(name => `netns add ${name}`))
  try {
    const socket = NetlinkSocket.open(`/run/netns/${host}`)
    withNetns(`/run/netns/${inside}`, netnsFd => makeEndpoints(socket, endpoints, netnsFd))
    say(`${endpoints} endpoints exist`)
    const reader = new CounterReader(socket, () => new Map())
    if (reader.read().size !== endpoints) throw new Error(`${reader.read().size} endpoints are counted`)
    const whole = (): number => readLinks(socket, getLinks({ kind: 'veth', counters: true })).length
    const [ours, limit]: [number[], number[]] = [[], []]
    for (let n = 0; n < samples; n++) {
      ours.push(cpuMs(() => reader.read()))
      limit.push(cpuMs(whole))
    }
    socket.close()
    return { ours: figures(ours), limit: figures(limit), facts: { endpoints, samples } }
  } finally {
    await ipBatch([host, inside].map(name => `netns del ${name}`))
  }
}

function makeEndpoints(socket: NetlinkSocket, count: number, netnsFd: number): void {
  const ifname = parseIfName('eth0')
  for (let n = 0; n < count; n++) {
    const containerId = parseContainerId(`c${n}`)
    const name = vethName(containerId, ifname)
    const peer = { name: `p${n}`, mac: macOf(parseVni(1), n as Ipv4), netnsFd }
    const messages = [
      createVeth({ name, mtu: 1450, group: OVERLAY_GROUP, peer }),
      setLink(name, { alias: endpointAlias(containerId, ifname) })
    ]
    for (const refusal of socket.batch(messages, 'make endpoint'))
      if (refusal !== null) throw new Error(refusal.message)
  }
}

function figures(samples: readonly number[]): Figures {
  const p50 = median(samples)
  // At one sample per second a millisecond is a tenth of a percent of a core.
  return { sampleCpuMs: p50, sampleCpuP99Ms: quantile(samples, 0.99), corePercent: p50 / 10 }
}

/** Processor time of this process, user and system. */
function cpuMs(run: () => unknown): number {
  const before = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1_000
}
