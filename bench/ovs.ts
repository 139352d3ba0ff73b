// Installs the flows of 10,000 remote endpoints in one Open vSwitch: our whole pass (observe, plan, one bundle) into an empty
// table, compared with a bare `ovs-ofctl replace-flows` of the same flows into an empty table of the same bridge.

import { bundleOf } from '#overlay/plan/switch/flow.ts'
import { hostFlows, networkFlows } from '#overlay/plan/switch/pipeline.ts'
import { SWITCH } from '#overlay/plan/network/names.ts'
import { vtepsOf } from '#overlay/plan/underlay/peers.ts'
import { formatIpv4, parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { must } from '../test/lab/kernel.ts'
import { red, Stage } from '../test/lab/stage.ts'
import { makeEndpoint } from '../test/overlay/fixtures.ts'
import { median, say, type Report } from './report.ts'

const ENDPOINTS = 10_000
const ROUNDS = 5

export async function bench(): Promise<Report> {
  const closers: (() => Promise<void>)[] = []
  const owner = { teardown: (close: () => Promise<void>) => closers.push(close) }
  try {
    const stage = await Stage.open(owner, 'ovs-netdev', { hosts: 1, places: { r1: [red, 1, '10.1.0.2'] } })
    return await measure(stage)
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

async function measure(stage: Stage): Promise<Report> {
  stage.members = [1, 2]
  const base = parseIpv4('10.1.1.0')
  const remote = Array.from({ length: ENDPOINTS }, (_, i) =>
    makeEndpoint(red, { container: `m${i}`, host: 2, address: formatIpv4((base + i) as Ipv4) })
  )
  stage.endpoints = [...stage.endpoints, ...remote]
  const want = stage.want(1)
  const network = want.networks.get(red.vni)
  if (network === undefined) throw new Error('no network')
  // The port numbers of local containers vary; flows of remote endpoints do not contain them.
  const set = new Map([...hostFlows({ vteps: vtepsOf(want.peers), port: 4789 }), ...networkFlows(network, new Map())])
  const bundle = bundleOf([{ owner: red.vni, set, remove: [] }])
  const input = bundle.replaceAll(/^add /gm, '')
  const ours: number[] = []
  const peer: number[] = []
  const idle: number[] = []
  say(`ovs: ${ENDPOINTS} endpoints, ${set.size} flows, ${ROUNDS} rounds by turns`)
  for (let n = 0; n < ROUNDS; n++) {
    await stage.ovs(1).ofctl(SWITCH, 'del-flows')
    ours.push(await timed(() => stage.pass(1)))
    idle.push(await timed(() => stage.pass(1)))
    await stage.ovs(1).ofctl(SWITCH, 'del-flows')
    const target = stage.ovs(1).target(SWITCH)
    const args = ['-O', 'OpenFlow14', '--bundle', 'replace-flows', target, '-']
    peer.push(await timed(() => must('ovs-ofctl', args, { input, timeoutMs: 60_000 })))
  }
  return {
    ours: { programMs: median(ours) },
    peer: { programMs: median(peer) },
    facts: { idlePassMs: Math.round(median(idle)), endpoints: ENDPOINTS, flows: set.size, bundleBytes: bundle.length }
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const since = performance.now()
  await work()
  return performance.now() - since
}
