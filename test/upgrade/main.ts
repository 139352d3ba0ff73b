// A rolling upgrade of a real cluster: four hosts of another version start this one, one after the other, under traffic between
// containers and under allocations. What the new version has in addition must be refused until the last host is new (ADR 54).
//   node test/upgrade/main.ts CHECKOUT      a set-up checkout of the version before; the last line is one JSON object

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { BOTH_FAMILIES, LABELS, rulesOfVersion, SERVICES } from '#model/command.ts'
import { asVxmeshError } from '#model/errors.ts'
import { findFaults } from '../chaos/find-faults.ts'
import type { LoadReport } from '../chaos/load.ts'
import { bare, type LabContainer } from '../lab/container.ts'
import { startFlow } from '../lab/flow.ts'
import { VXMESH, type LabHost } from '../lab/host.ts'
import { JsonProcess } from '../lab/json-process.ts'
import { Lab } from '../lab/lab.ts'
import { countReplies } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'

const SERVERS = 3
const PACKETS_PER_SECOND = 1_000
const LANES = 8
const NETWORK = 'claims'
/** Of one agent's start. Stretched on a busy machine. */
const READY_MS = 60_000

type Package = { readonly version: string }

const [checkout] = process.argv.slice(2)
if (checkout === undefined) {
  console.error('upgrade: name a set-up checkout of the version before')
  process.exit(2)
}
const before = resolve(checkout, 'bin/vxmesh')
const known = rulesOfVersion((JSON.parse(readFileSync(resolve(checkout, 'package.json'), 'utf8')) as Package).version)
const lab = await Lab.create()
try {
  const hosts = await oldCluster(before)
  const [first, , third] = hosts
  if (first === undefined || third === undefined) throw new Error('no hosts')
  await first.api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/16' })
  await first.api.call('POST', '/v1/networks', { name: NETWORK, subnet: '10.2.0.0/16' })
  const [from, to, ...later] = await lab.containers(['from', 'to', 'six-1', 'six-2'])
  if (from === undefined || to === undefined) throw new Error('no containers')
  await first.attach(from, 'red')
  const { address } = await third.attach(to, 'red')
  await waitFor(
    'the containers reach each other',
    async () => (await countReplies(from, bare(address), { waitMs: 500 })) === 3
  )
  const loader = await lab.addHost({ role: 'client', join: ['192.0.2.1'], logLevel: 'warn' })
  const script = resolve(import.meta.dirname, '../chaos/load.ts')
  const load = await JsonProcess.start(loader.namespace, script, [loader.configFile, NETWORK, `${LANES}`])
  const flow = await startFlow({ from, to, address: bare(address), packetsPerSecond: PACKETS_PER_SECOND })

  /** What the version before does not know. */
  const news = [
    ...(known < BOTH_FAMILIES ? [{ name: 'IPv6', ask: createSix }] : []),
    ...(known < LABELS ? [{ name: 'labels', ask: label }] : []),
    ...(known < SERVICES ? [{ name: 'services', ask: serve }] : [])
  ]
  const refusals: string[] = []
  for (const host of hosts) {
    await host.stopAgent()
    host.program = VXMESH
    await host.startAgent()
    await host.waitReady(READY_MS)
    const isLast = host === hosts.at(-1)
    console.log(`${host.name} is new`)
    for (const { name, ask } of isLast ? [] : news) {
      refusals.push(await ask(host))
      console.log(`  ${name}: ${refusals.at(-1) ?? ''}`)
    }
  }
  await waitFor('IPv6 is accepted once all are new', async () => (await createSix(first)) === 'done')
  await waitFor('labels are accepted once all are new', async () => (await label(first)) === 'done')
  await waitFor('every host has the label', async () => (await Promise.all(hosts.map(labelled))).every(Boolean))
  await waitFor('services are accepted once all are new', async () => (await serve(first)) === 'done')
  await waitFor('every host has the service', async () => (await Promise.all(hosts.map(served))).every(Boolean))
  const reached = await reachSix([first, third], later)
  const packets = await flow.stop()
  const report = (await load.ask('stop')) as LoadReport
  await load.stop()
  const faults = await findFaults({ servers: hosts.slice(0, SERVERS), network: NETWORK, report })
  for (const fault of faults.slice(0, 20)) console.log(`FAULT ${fault}`)
  const drift = (await Promise.all(hosts.map(host => host.status()))).map(({ overlay }) => overlay.drift)
  const { sent, lost, tcpAlive, longestGapMs } = packets
  const isGated = refusals.every(text => text === 'ERR_UNSUPPORTED')
  const result = { hosts: hosts.length, sent, lost, tcpAlive, longestGapMs, allocations: report.acknowledged }
  console.log(
    JSON.stringify({ ...result, faults: faults.length, refusedBefore: refusals.length, isGated, reached, drift })
  )
  const isFine =
    lost === 0 &&
    tcpAlive &&
    report.acknowledged > 0 &&
    faults.length === 0 &&
    isGated &&
    reached === 3 &&
    drift.every(count => count === 0)
  process.exitCode = isFine ? 0 : 7
} finally {
  await lab.destroy()
}

/** Three servers and a client that run another program. */
async function oldCluster(program: string): Promise<LabHost[]> {
  const join = ['192.0.2.1']
  for (let n = 0; n < SERVERS; n++) await lab.addHost({ bootstrapExpect: SERVERS, join })
  await lab.addHost({ role: 'client', join })
  for (const host of lab.hosts) {
    host.program = program
    await host.startAgent()
  }
  await Promise.all(lab.hosts.map(host => host.waitReady(READY_MS)))
  return [...lab.hosts]
}

function createSix({ api }: LabHost): Promise<string> {
  return answer(api.call('POST', '/v1/networks', { name: 'six', subnets: ['fd00:6::/64'], requestId: 'six' }))
}

function label({ api }: LabHost): Promise<string> {
  return answer(api.call('PATCH', '/v1/endpoints/from', { labels: { app: 'from' } }))
}

async function labelled({ api }: LabHost): Promise<boolean> {
  return (await api.list('/v1/endpoints?network=red&label=app=from')).length === 1
}

/** Asked of servers. */
function serve({ api }: LabHost): Promise<string> {
  const service = { network: 'red', name: 'web', ports: ['80'], select: ['app=from'], requestId: 'web' }
  return answer(api.call('POST', '/v1/services', service))
}

async function served({ api }: LabHost): Promise<boolean> {
  const [service] = await api.list<{ endpoints: number }>('/v1/services?network=red')
  return service?.endpoints === 1
}

/** @returns `done`, or the code of the refusal */
async function answer(change: Promise<unknown>): Promise<string> {
  try {
    await change
    return 'done'
  } catch (err) {
    return asVxmeshError(err).code
  }
}

/** @returns how many of 3 pings over IPv6 are answered, from one host to the other */
async function reachSix([one, other]: readonly LabHost[], [a, b]: readonly LabContainer[]): Promise<number> {
  if (one === undefined || other === undefined || a === undefined || b === undefined) throw new Error('two of each')
  await one.attach(a, 'six')
  const { address } = await other.attach(b, 'six')
  return waitFor('IPv6 crosses hosts', async () => {
    const replies = await countReplies(a, bare(address))
    return replies === 3 ? replies : null
  })
}
