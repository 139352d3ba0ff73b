// The guard's programs in real agents: they outlive the agent, are repaired, follow the driver from one kind to another
// under traffic, let only hosts of a network into it, and pass what is shaped by its queue.

import t, { type Test } from 'tap'
import { bare } from '../lab/container.ts'
import { CHAOS_TIMEOUT } from '../lab/chaos.ts'
import { startFlow } from '../lab/flow.ts'
import type { LabHost } from '../lab/host.ts'
import { json, must } from '../lab/kernel.ts'
import { expectOracle } from '../lab/oracle.ts'
import { bridgeOf, tunnelOf } from '../lab/oracle-view.ts'
import { cannotRun } from '../lab/requirements.ts'
import { Listener } from '../lab/packets/raw-socket.ts'
import { ETHER, ether, ipv4, mark, UDP, udp, vxlan } from '../lab/packets/frames.ts'
import { ifindexOf } from '../lab/scenarios/plane.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseMac } from '#model/mac.ts'
import { waitFor } from '../lab/wait.ts'
import { meshLab, nth, type MeshLab } from './mesh-lab.ts'
import { run } from '../lab/run.ts'

t.setTimeout(CHAOS_TIMEOUT)
const skip = cannotRun()

/** What a device runs, as tc(8) shows it. */
async function runs(host: LabHost, device: string): Promise<readonly string[]> {
  type Filter = { readonly kind?: string; readonly options?: { readonly bpf_name?: string } }
  const filters = await json<Filter>('tc', host.namespace, `filter show dev ${device} ingress`)
  return filters.flatMap(({ kind, options }) =>
    kind === 'bpf' && options?.bpf_name !== undefined ? [options.bpf_name] : []
  )
}

/** Runs `change` while containers 1 and 2 talk, 1,000 packets a second and a TCP connection: nothing may be lost. */
async function during(t: Test, m: MeshLab, title: string, change: () => Promise<void>): Promise<void> {
  const [from, to] = [nth(m.containers, 1), nth(m.containers, 2)]
  const address = bare(nth(m.endpoints, 2).address)
  const flow = await startFlow({ from, to, address, packetsPerSecond: 1_000 })
  try {
    await change()
  } finally {
    const { sent, lost, tcpAlive, longestGapMs } = await flow.stop()
    t.comment(`${title}: ${sent} packets sent, longest gap ${longestGapMs} ms`)
    t.ok(sent > 500, `${title}: there was traffic`)
    t.equal(lost, 0, `${title}: no packet of ${sent} is lost`)
    t.ok(tcpAlive, `${title}: the TCP connection survives`)
  }
}

async function restartAs(host: LabHost, driver: string, guard: string): Promise<void> {
  await host.changeOverlay({ driver, guard })
  await host.killAgent()
  await host.startAgent()
  await host.waitReady()
  await waitFor(`${host.name} runs ${driver}`, async () => {
    const { overlay } = await host.status()
    return overlay.driver === driver && overlay.guard === guard
  })
}

t.test('driver and guard change host by host under traffic', { skip }, async t => {
  const m = await meshLab(t, { servers: 2, attached: 2 })
  const [h1, h2] = [m.lab.host(1), m.lab.host(2)]
  const { overlay } = await h1.status()
  t.strictSame([overlay.driver, overlay.guard], ['bpf', 'bpf'], 'the default where the kernel can')
  await expectOracle(m.lab)
  for (const [driver, guard] of [
    ['linux', 'nft'],
    ['bpf', 'bpf'],
    ['linux', 'bpf'],
    ['bpf', 'bpf']
  ] as const) {
    for (const host of [h1, h2]) {
      await during(t, m, `${host.name} to ${driver} with ${guard}`, async () => {
        await restartAs(host, driver, guard)
        await expectOracle(m.lab)
      })
    }
    const { hostInterface } = nth(m.endpoints, 1)
    await waitFor('the other guard is gone', async () => {
      const tables = (await h1.exec('nft', 'list', 'tables')).stdout
      const isNft = tables.includes('bridge vxmesh_ports')
      return isNft === (guard === 'nft') && (await runs(h1, hostInterface)).length === (guard === 'nft' ? 0 : 1)
    })
  }
})

t.test('programs that another program removes come back, entries too, and traffic goes on', { skip }, async t => {
  const m = await meshLab(t, { servers: 1, attached: 1 })
  const host = m.lab.host(1)
  const second = await m.lab.container('c2')
  const { address, network } = await host.attach(second, 'red')
  const { hostInterface } = nth(m.endpoints, 1)
  const reaches = async (): Promise<boolean> =>
    (await nth(m.containers, 1).ping(address, { count: 3, intervalMs: 20 })).received === 3
  await waitFor('they reach each other', reaches)
  const [red] = (await host.api.call('GET', '/v1/networks')) as readonly {
    readonly name: string
    readonly vni: number
  }[]
  if (red === undefined) throw new Error(`no network ${network}`)
  const tc = (line: string): Promise<string> => must('tc', ['-n', host.namespace, ...line.split(' ')])
  for (const [device, program] of [
    [hostInterface, 'from_container'],
    [bridgeOf(red), 'to_host'],
    [tunnelOf(red), 'from_overlay'],
    ['eth0', 'from_underlay']
  ] as const) {
    await tc(`filter del dev ${device} ingress`)
    await waitFor(`${device} runs ${program} again`, async () => (await runs(host, device)).includes(program))
    await tc(`qdisc del dev ${device} clsact`)
    await waitFor(`${device} has its anchor again`, async () => (await runs(host, device)).includes(program))
  }
  const shown = await must('ip', ['netns', 'exec', host.namespace, 'bpftool', '-j', 'net', 'show'])
  const [net] = JSON.parse(shown) as readonly {
    readonly tc: readonly { readonly name: string; readonly id: number }[]
  }[]
  const id = net?.tc.find(({ name }) => name === 'from_container')?.id ?? 0
  const program = JSON.parse(await must('bpftool', ['-j', 'prog', 'show', 'id', `${id}`])) as { map_ids: number[] }
  for (const map of program.map_ids) {
    const { name } = JSON.parse(await must('bpftool', ['-j', 'map', 'show', 'id', `${map}`])) as { name: string }
    if (!['vxm_ports', 'vxm_stations', 'vxm_neighbours', 'vxm_networks'].includes(name)) continue
    const rows = JSON.parse(await must('bpftool', ['-j', 'map', 'dump', 'id', `${map}`])) as { key: string[] }[]
    for (const { key } of rows) await run('bpftool', ['map', 'delete', 'id', `${map}`, 'key', ...key])
  }
  await t.rejects(expectOracle(m.lab, { timeoutMs: 1 }), /port .*missing: \d+ by \d+/s, 'the oracle sees it')
  await expectOracle(m.lab, { timeoutMs: 60_000 })
  t.ok(await reaches())
  const repaired = (await host.status()).overlay.repaired
  t.ok((repaired['program-attach'] ?? 0) >= 8 && (repaired['entries-set'] ?? 0) >= 4, JSON.stringify(repaired))
})

t.test('a container that is gone leaves no entry', { skip }, async t => {
  const m = await meshLab(t, { servers: 1, attached: 1 })
  const host = m.lab.host(1)
  for (const n of [1, 2, 3]) {
    const container = await m.lab.container(`gone${n}`)
    await host.attach(container, 'red', { ...(n === 2 ? { ingressRate: 10e6, egressRate: 10e6 } : {}) })
    await expectOracle(m.lab)
    if (n === 3) await must('ip', ['netns', 'del', container.namespace])
    else await host.detach(container)
    await expectOracle(m.lab, { timeoutMs: 60_000 })
  }
  const { endpoints } = await host.status()
  t.equal(endpoints, 1)
})

t.test('VXLAN of a member is let in only where it has endpoints, and what is dropped is counted', { skip }, async t => {
  const m = await meshLab(t, { servers: 3, attached: 2 })
  const [h1, h2, h3] = [m.lab.host(1), m.lab.host(2), m.lab.host(3)]
  await expectOracle(m.lab)
  const [c1, c2] = [nth(m.endpoints, 1), nth(m.endpoints, 2)]
  const { netns, namespace } = nth(m.containers, 1)
  const [red] = (await h1.api.call('GET', '/v1/networks')) as readonly { readonly vni: number }[]
  const listener = Listener.frames(netns, await ifindexOf(namespace))
  t.teardown(() => listener.close())
  const inner = (id: number): Buffer => {
    const datagram = udp(5_000, 5_001, mark(id))
    const packet = ipv4({ from: parseIpv4(bare(c2.address)), to: parseIpv4(bare(c1.address)), protocol: UDP }, datagram)
    return ether({ to: parseMac(c1.mac), from: parseMac(c2.mac), type: ETHER.ipv4 }, packet)
  }
  const send = async (from: LabHost, id: number): Promise<void> => {
    const payload = vxlan({ vni: red?.vni ?? 0 }, inner(id)).toString('hex')
    const script = [
      'import socket, sys',
      's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)',
      'for _ in range(10): s.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 4789))'
    ].join('\n')
    await must('ip', ['netns', 'exec', from.namespace, 'python3', '-c', script, h1.address, payload])
  }
  const strangers = async (): Promise<number> => {
    const [net] = JSON.parse(await must('ip', ['netns', 'exec', h1.namespace, 'bpftool', '-j', 'net', 'show'])) as {
      readonly tc: readonly { readonly name: string; readonly id: number }[]
    }[]
    const id = net?.tc.find(({ name }) => name === 'from_underlay')?.id ?? 0
    const drops = await mapOf(id, 'vxm_drops')
    const [row] = drops as readonly {
      readonly formatted: { readonly values: readonly { value: { packets: number } }[] }
    }[]
    return row?.formatted.values.reduce((sum, { value }) => sum + value.packets, 0) ?? 0
  }
  const before = await strangers()
  await send(h3, 1)
  await send(h2, 2)
  await waitFor('the packets of the host with an endpoint arrive', () => listener.count(2) === 10)
  t.equal(listener.count(1), 0, 'those of the other host do not')
  t.equal((await strangers()) - before, 10, 'and are counted')
})

/** The rows of a map that a program uses. */
async function mapOf(program: number, wanted: string): Promise<readonly unknown[]> {
  const { map_ids: ids } = JSON.parse(await must('bpftool', ['-j', 'prog', 'show', 'id', `${program}`])) as {
    readonly map_ids: readonly number[]
  }
  for (const id of ids) {
    const { name } = JSON.parse(await must('bpftool', ['-j', 'map', 'show', 'id', `${id}`])) as {
      readonly name: string
    }
    if (name === wanted) return JSON.parse(await must('bpftool', ['-j', 'map', 'dump', 'id', `${id}`])) as unknown[]
  }
  throw new Error(`the program has no map ${wanted}`)
}
