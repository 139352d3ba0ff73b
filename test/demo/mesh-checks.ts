// The demo's checks of the mesh itself: membership, isolation, addresses and strangers.

import { generateClusterKey } from '#config/cluster-key.ts'
import type { EndpointView, NetworkView } from '#model/views.ts'
import { bracketed, formatSocketAddress } from '#model/socket-address.ts'
import { startDetached } from '#platform/process.ts'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bare, type LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { kill, readFdb } from '../lab/kernel.ts'
import type { Lab } from '../lab/lab.ts'
import type { PingOptions, PingResult } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'
import { expect, ms, quantile, type Checks } from './checks.ts'

export type Tenants = {
  readonly red1: LabContainer
  readonly red2: LabContainer
  readonly blue1: LabContainer
  readonly blue2: LabContainer
  /** Of red2, one for each family. */
  readonly redAddresses: readonly string[]
}

/** The address families of the demo's networks. */
export const FAMILIES = ['ipv4', 'ipv6', 'both'] as const
export type Families = (typeof FAMILIES)[number]

const SUBNETS: Readonly<Record<Families, readonly string[]>> = {
  ipv4: ['10.1.0.0/24'],
  ipv6: ['fd00:1::/64'],
  both: ['10.1.0.0/24', 'fd00:1::/64']
}
/** An address that only blue uses. */
const ONLY_BLUE: Readonly<Record<Families, string>> = { ipv4: '10.1.0.77', ipv6: 'fd00:1::77', both: '10.1.0.77' }
const LARGE: Readonly<Record<Families, readonly string[]>> = {
  ipv4: ['10.9.0.0/22'],
  ipv6: ['fd00:9::/64'],
  both: ['10.9.0.0/22', 'fd00:9::/64']
}

export async function checkMembers(checks: Checks, lab: Lab): Promise<void> {
  for (const host of lab.hosts) {
    await checks.check(`${host.name} lists ${lab.hosts.length} alive members`, async () => {
      const members = await host.members()
      const alive = members.filter(m => m.status === 'alive')
      expect(alive.length === lab.hosts.length, `${alive.length} of ${members.length} are alive`)
      return alive.map(m => `${m.name} ${m.address}`).join(', ')
    })
  }
}

/** Two tenants with the same subnet and the same addresses: a container of each on h1 and on h2. */
export async function checkTenants(checks: Checks, lab: Lab, families: Families): Promise<Tenants> {
  const [h1, h2] = [lab.host(1), lab.host(2)]
  const [red1, red2, blue1, blue2] = (await lab.containers(['red1', 'red2', 'blue1', 'blue2'])) as [
    LabContainer,
    LabContainer,
    LabContainer,
    LabContainer
  ]
  await checks.check('two tenant networks with the same subnets', async () => {
    const subnets = SUBNETS[families].flatMap(subnet => ['--subnet', subnet])
    const red = await h1.cliJson<NetworkView>('network', 'create', 'red', ...subnets)
    const blue = await h2.cliJson<NetworkView>('network', 'create', 'blue', ...subnets)
    expect(red.vni !== blue.vni, `both have VNI ${red.vni}`)
    return `red ${listed(red.subnets)} VNI ${red.vni}, blue ${listed(blue.subnets)} VNI ${blue.vni}`
  })
  const attached = new Map<string, EndpointView>()
  for (const [host, container, network] of [
    [h1, red1, 'red'],
    [h2, red2, 'red'],
    [h1, blue1, 'blue'],
    [h2, blue2, 'blue']
  ] as const) {
    await checks.check(
      `${container.name} on ${host.name}: the container has the addresses that attach returns, with MTU and routes`,
      async () => {
        const since = performance.now()
        const view = await host.cliJson<EndpointView>(
          ...['endpoint', 'attach', '--network', network, '--netns', container.netns, '--container-id', container.name]
        )
        const took = performance.now() - since
        const link = await container.link()
        if (link === null) throw new Error('the container has no eth0')
        const wanted = listed(view.addresses)
        expect(view.addresses.length === SUBNETS[families].length, `attach returns ${wanted}`)
        expect(listed(link.addresses) === wanted, `it has ${listed(link.addresses)}, not ${wanted}`)
        expect(link.mtu === view.mtu && view.mtu === lab.overlayMtu, `MTU ${link.mtu} and ${view.mtu}`)
        expect(link.mac === view.mac, `MAC ${link.mac}, not ${view.mac}`)
        const gateways = listed(await container.defaultGateways())
        expect(gateways === listed(view.gateways), `default routes via ${gateways}, not ${listed(view.gateways)}`)
        attached.set(container.name, view)
        return `${wanted} via ${gateways}, MTU ${view.mtu}, ${ms(took)} including the start of the command`
      }
    )
  }
  const addresses = (name: string): readonly string[] => attached.get(name)?.addresses ?? []
  await checks.check('containers of two tenants hold the same addresses', async () => {
    const [one, two] = [listed(addresses('red1')), listed(addresses('red2'))]
    expect(one === listed(addresses('blue1')) && two === listed(addresses('blue2')), 'they differ')
    return Promise.resolve(`${one} and ${two} twice`)
  })
  for (const [from, to] of [
    [red1, 'red2'],
    [blue1, 'blue2']
  ] as const) {
    await checks.check(`${from.name} reaches ${to} over the mesh from the first packet`, async () => {
      const { sent, received, averageMs } = await pingAll(from, addresses(to), { count: 20, intervalMs: 50 })
      expect(sent === received, `${received} of ${sent} replies`)
      return `${received} of ${sent}, average ${ms(averageMs ?? NaN)}`
    })
  }
  await checks.check('red1 finds red2 by its name, and blue’s containers by none', async () => {
    const server = attached.get('red1')?.dns?.nameservers[0] ?? 'nobody'
    const found = await resolve(red1, server, 'red2.red.vxmesh')
    const wanted = addresses('red2').map(bare)
    expect(listed(found.toSorted()) === listed(wanted.toSorted()), `it finds ${listed(found)}`)
    expect((await resolve(red1, server, 'blue2.blue.vxmesh')).length === 0, 'it finds blue2')
    return `red2.red.vxmesh is ${listed(found)}, asked at ${server}`
  })
  for (const host of [h1, h2]) {
    await checks.check(
      `${host.name}’s kernel floods to the VTEPs of the hosts with containers, and to no others`,
      async () => {
        const wanted = [h1, h2].filter(other => other !== host).map(other => other.address)
        const dsts = (await readFdb(host.namespace)).flatMap(e => (e.mac === '00:00:00:00:00:00' ? [e.dst ?? ''] : []))
        expect(dsts.length === 2 && dsts.every(dst => wanted.includes(dst)), `flood entries ${dsts.join(', ')}`)
        return `${dsts.length} flood entries (2 networks) to ${wanted.join(', ')}`
      }
    )
  }
  await checkIsolation(checks, { lab, red1, address: ONLY_BLUE[families] })
  return { red1, red2, blue1, blue2, redAddresses: addresses('red2') }
}

/** The addresses of a name, of both families. */
export async function resolve(container: LabContainer, server: string, name: string): Promise<readonly string[]> {
  const dig = await container.exec('dig', '+short', `@${server}`, name, 'A', name, 'AAAA')
  return dig.stdout.split('\n').filter(line => line !== '')
}

/** A container of blue, at an address that red does not use, pinged from both tenants. */
async function checkIsolation(checks: Checks, p: { lab: Lab; red1: LabContainer; address: string }): Promise<void> {
  const { lab, red1, address } = p
  const only = await lab.container('blueonly')
  const control = await lab.container('bluectl')
  await checks.check('a container is reached by its own tenant and not by another', async () => {
    const view = await lab.host(3).attach(only, 'blue', { address })
    await lab.host(1).attach(control, 'blue')
    const own = await pingAll(control, view.addresses, { count: 20, intervalMs: 50 })
    const other = await pingAll(red1, view.addresses, { count: 20, intervalMs: 50, waitMs: 300 })
    expect(own.received === own.sent, `the positive control got ${own.received} of ${own.sent}`)
    expect(other.received === 0, `the other tenant got ${other.received} replies`)
    return `other tenant 0 of ${other.sent} replies, own tenant ${own.received} of ${own.sent}`
  })
}

/** 200 attaches at once, to all hosts. */
export async function checkConcurrentAttach(checks: Checks, lab: Lab, families: Families): Promise<void> {
  const names = Array.from({ length: 200 }, (_, n) => `many${n}`)
  await checks.check('no duplicate address over 200 concurrent attach requests to all hosts', async () => {
    await lab.host(1).api.call('POST', '/v1/networks', { name: 'many', subnets: LARGE[families] })
    const containers = await lab.containers(names)
    const since = performance.now()
    const times: number[] = []
    const views = await Promise.all(
      containers.map(async (container, n) => {
        const view = await lab.host((n % lab.hosts.length) + 1).attach(container, 'many')
        times.push(performance.now() - since)
        return view
      })
    )
    const took = performance.now() - since
    const distinct = new Set(views.flatMap(v => v.addresses))
    const wanted = 200 * LARGE[families].length
    expect(distinct.size === wanted, `${distinct.size} distinct addresses of ${wanted}`)
    await Promise.all(
      containers.map(async (container, n) => {
        const link = await container.link()
        const has = listed(link?.addresses ?? [])
        expect(has === listed(views[n]?.addresses ?? []), `${container.name} has ${has}`)
      })
    )
    const last = containers.at(-1)
    if (last === undefined) throw new Error('there is no container')
    const { sent, received } = await pingAll(last, views[0]?.addresses ?? [], { count: 5, intervalMs: 50 })
    expect(sent > 0 && received === sent, `the last reaches the first with ${received} of ${sent}`)
    return `200 in ${ms(took)}, median ${ms(quantile(times, 0.5))}, all distinct and in their containers`
  })
  await checks.check('all of them are detached again at once', async () => {
    const since = performance.now()
    await Promise.all(
      names.map((name, n) => lab.host((n % lab.hosts.length) + 1).api.call('DELETE', `/v1/endpoints/${name}`))
    )
    // Each was acknowledged on its own host; the other hosts apply it a moment later.
    for (const { api, name } of lab.hosts) {
      const left = async (): Promise<number> =>
        ((await api.call('GET', '/v1/endpoints?network=many')) as EndpointView[]).length
      await waitFor(`${name} lists none of them`, async () => (await left()) === 0, { timeoutMs: 2_000 })
    }
    return `200 in ${ms(performance.now() - since)}`
  })
}

/** A fourth host joins as a client with the plain serf command. */
export async function checkClientJoin(checks: Checks, lab: Lab, tenants: Tenants): Promise<void> {
  const client = await lab.addHost({ role: 'client' })
  const container = await lab.container('red4')
  await checks.check('a fourth host joins as a client with the plain `serf join`: all list it', async () => {
    await client.startAgent()
    await waitFor('its API answers', async () => (await client.status()).host === client.name)
    const before = (await client.members()).length
    const since = performance.now()
    const join = await client.exec('serf', 'join', bracketed(lab.host(1).vtep))
    expect(join.exitCode === 0, `serf join: ${join.stderr}`)
    for (const host of lab.hosts) {
      await waitFor(
        `${host.name} lists all`,
        async () => (await host.members()).filter(m => m.status === 'alive').length === lab.hosts.length
      )
    }
    const listed = performance.now() - since
    await client.waitReady()
    return `${before} member before; listed by all after ${ms(listed)}, ready after ${ms(performance.now() - since)}`
  })
  await checks.check('a container on it reaches the others of its tenant', async () => {
    await client.attach(container, 'red')
    const since = performance.now()
    const first = { count: 1, waitMs: 100 }
    const reply = async (): Promise<boolean> => (await pingAll(container, tenants.redAddresses, first)).received > 0
    await waitFor('the first reply', reply, { everyMs: 1 })
    const firstMs = performance.now() - since
    const { sent, received } = await pingAll(container, tenants.redAddresses, { count: 20, intervalMs: 50 })
    expect(sent === received, `${received} of ${sent} replies`)
    return `first reply after ${ms(firstMs)}, then ${received} of ${sent} replies`
  })
}

/** A Serf without the key and an agent with another key become members nowhere. */
export async function checkStrangers(checks: Checks, lab: Lab): Promise<void> {
  const ours = [...lab.hosts]
  const otherKey = join(lab.dir, 'other.key')
  await writeFile(otherKey, `${generateClusterKey()}\n`, { mode: 0o600 })
  const stranger = await lab.addHost({ role: 'client', join: [lab.host(1).address], clusterKeyFile: otherKey })
  lab.hosts.pop()
  await checks.check('a stranger without the cluster key becomes no member', async () => {
    const args = [
      'agent',
      '-node=stranger',
      `-bind=${formatSocketAddress({ address: stranger.vtep, port: 9946 })}`,
      '-rpc-addr=127.0.0.1:9373'
    ]
    const log = { logFile: join(lab.dir, 'stranger.log') }
    const serf = await startDetached('ip', ['netns', 'exec', stranger.namespace, 'serf', ...args], log)
    await waitFor(
      'the stranger’s serf answers',
      async () => (await stranger.exec('serf', 'members', '-rpc-addr=127.0.0.1:9373')).exitCode === 0
    )
    const join1 = await stranger.exec('serf', 'join', '-rpc-addr=127.0.0.1:9373', bracketed(lab.host(1).vtep))
    const inside = await seesOnlyOurs(ours)
    kill(serf.pid)
    expect(join1.exitCode !== 0, 'serf join without the key was accepted')
    return `join without the key refused, ${inside}`
  })
  await checks.check('an agent with another cluster key becomes no member', async () => {
    await stranger.startAgent()
    await waitFor('its API answers', async () => (await stranger.status()).host === stranger.name)
    const { exitCode, stderr } = await stranger.cli('join', lab.host(1).address)
    expect(exitCode === 1, `vxmesh join exits with ${exitCode}: ${stderr}`)
    const alone = (await stranger.members()).length
    const inside = await seesOnlyOurs(ours)
    await stranger.stopAgent()
    expect(alone === 1, `the stranger sees ${alone} members`)
    return `join refused, it sees only itself, ${inside}`
  })
}

async function seesOnlyOurs(hosts: readonly LabHost[]): Promise<string> {
  for (const host of hosts) {
    const { stdout } = await host.exec('serf', 'members')
    const lines = stdout.split('\n').filter(line => line !== '')
    const names = lines.map(line => line.split(/\s+/)[0])
    expect(lines.length === hosts.length, `serf on ${host.name} lists ${names.join(', ')}`)
  }
  return `${hosts.length} hosts list ${hosts.length} members each`
}

function listed(texts: readonly string[]): string {
  return texts.join(' and ')
}

/** Pings all addresses at the same time. @returns their sums, and the mean of the averages */
export async function pingAll(
  from: LabContainer,
  addresses: readonly string[],
  options: PingOptions
): Promise<Pick<PingResult, 'sent' | 'received' | 'averageMs'>> {
  const results = await Promise.all(addresses.map(address => from.ping(address, options)))
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
  return {
    sent: sum(results.map(({ sent }) => sent)),
    received: sum(results.map(({ received }) => received)),
    averageMs: sum(results.map(({ averageMs }) => averageMs ?? NaN)) / results.length
  }
}
