// The demo's checks of the mesh itself: membership, isolation, addresses and strangers.

import { generateClusterKey } from '#config/cluster-key.ts'
import type { EndpointView, NetworkView } from '#model/views.ts'
import { startDetached } from '#platform/process.ts'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { kill, readFdb } from '../lab/kernel.ts'
import type { Lab } from '../lab/lab.ts'
import { waitFor } from '../lab/wait.ts'
import { expect, ms, quantile, type Checks } from './checks.ts'

export type Tenants = {
  readonly red1: LabContainer
  readonly red2: LabContainer
  readonly blue1: LabContainer
  readonly blue2: LabContainer
  readonly redAddress: string
}

const SUBNET = '10.1.0.0/24'

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
export async function checkTenants(checks: Checks, lab: Lab): Promise<Tenants> {
  const [h1, h2] = [lab.host(1), lab.host(2)]
  const [red1, red2, blue1, blue2] = (await lab.containers(['red1', 'red2', 'blue1', 'blue2'])) as [
    LabContainer,
    LabContainer,
    LabContainer,
    LabContainer
  ]
  await checks.check('two tenant networks with the same subnet', async () => {
    const red = await h1.cliJson<NetworkView>('network', 'create', 'red', '--subnet', SUBNET)
    const blue = await h2.cliJson<NetworkView>('network', 'create', 'blue', '--subnet', SUBNET)
    expect(red.vni !== blue.vni, `both have VNI ${red.vni}`)
    return `red ${red.subnet} VNI ${red.vni}, blue ${blue.subnet} VNI ${blue.vni}`
  })
  const attached = new Map<string, EndpointView>()
  for (const [host, container, network] of [
    [h1, red1, 'red'],
    [h2, red2, 'red'],
    [h1, blue1, 'blue'],
    [h2, blue2, 'blue']
  ] as const) {
    await checks.check(
      `${container.name} on ${host.name}: the container has the address that attach returns, with MTU and route`,
      async () => {
        const since = performance.now()
        const view = await host.cliJson<EndpointView>(
          ...['endpoint', 'attach', '--network', network, '--netns', container.netns, '--container-id', container.name]
        )
        const took = performance.now() - since
        const link = await container.link()
        if (link === null) throw new Error('the container has no eth0')
        expect(link.addresses.includes(view.address), `it has ${link.addresses.join()}, not ${view.address}`)
        expect(link.mtu === view.mtu && view.mtu === 1450, `MTU ${link.mtu} and ${view.mtu}`)
        expect(link.mac === view.mac, `MAC ${link.mac}, not ${view.mac}`)
        const gateway = await container.defaultGateway()
        expect(gateway === view.gateway, `default route via ${gateway}, not ${view.gateway}`)
        attached.set(container.name, view)
        return `${view.address} via ${view.gateway}, MTU ${view.mtu}, ${ms(took)} including the start of the command`
      }
    )
  }
  const address = (name: string): string => attached.get(name)?.address ?? '10.1.0.99/24'
  await checks.check('containers of two tenants hold the same addresses', async () => {
    expect(address('red1') === address('blue1') && address('red2') === address('blue2'), 'they differ')
    return Promise.resolve(`${address('red1')} and ${address('red2')} twice`)
  })
  for (const [from, to] of [
    [red1, 'red2'],
    [blue1, 'blue2']
  ] as const) {
    await checks.check(`${from.name} reaches ${to} over the mesh from the first packet`, async () => {
      const { sent, received, averageMs } = await from.ping(address(to), { count: 20, intervalMs: 50 })
      expect(sent === received, `${received} of ${sent} replies`)
      return `${received} of ${sent}, average ${ms(averageMs ?? NaN)}`
    })
  }
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
  await checkIsolation(checks, { lab, red1 })
  return { red1, red2, blue1, blue2, redAddress: address('red2') }
}

/** A container of blue, at an address that red does not use, pinged from both tenants. */
async function checkIsolation(checks: Checks, p: { lab: Lab; red1: LabContainer }): Promise<void> {
  const { lab, red1 } = p
  const only = await lab.container('blueonly')
  const control = await lab.container('bluectl')
  await checks.check('a container is reached by its own tenant and not by another', async () => {
    const view = await lab.host(3).attach(only, 'blue', { address: '10.1.0.77' })
    await lab.host(1).attach(control, 'blue')
    const own = await control.ping(view.address, { count: 20, intervalMs: 50 })
    const other = await red1.ping(view.address, { count: 20, intervalMs: 50, waitMs: 300 })
    expect(own.received === own.sent, `the positive control got ${own.received} of ${own.sent}`)
    expect(other.received === 0, `the other tenant got ${other.received} replies`)
    return `other tenant 0 of ${other.sent} replies, own tenant ${own.received} of ${own.sent}`
  })
}

/** 200 attaches at once, to all hosts. */
export async function checkConcurrentAttach(checks: Checks, lab: Lab): Promise<void> {
  const names = Array.from({ length: 200 }, (_, n) => `many${n}`)
  await checks.check('no duplicate address over 200 concurrent attach requests to all hosts', async () => {
    await lab.host(1).api.call('POST', '/v1/networks', { name: 'many', subnet: '10.9.0.0/22' })
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
    const distinct = new Set(views.map(v => v.address))
    expect(distinct.size === 200, `${distinct.size} distinct addresses of 200`)
    await Promise.all(
      containers.map(async (container, n) => {
        const link = await container.link()
        expect(link?.addresses[0] === views[n]?.address, `${container.name} has ${link?.addresses.join()}`)
      })
    )
    const last = containers.at(-1)
    const reply = await last?.ping(views[0]?.address ?? '', { count: 5, intervalMs: 50 })
    expect(reply?.received === 5, `the last reaches the first with ${reply?.received} of 5`)
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
    const join = await client.exec('serf', 'join', lab.host(1).address)
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
    const reply = async (): Promise<boolean> => (await container.ping(tenants.redAddress, first)).received === 1
    await waitFor('the first reply', reply, { everyMs: 1 })
    const firstMs = performance.now() - since
    const { sent, received } = await container.ping(tenants.redAddress, { count: 20, intervalMs: 50 })
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
    const args = ['agent', '-node=stranger', `-bind=${stranger.address}:9946`, '-rpc-addr=127.0.0.1:9373']
    const log = { logFile: join(lab.dir, 'stranger.log') }
    const serf = await startDetached('ip', ['netns', 'exec', stranger.namespace, 'serf', ...args], log)
    await waitFor(
      'the stranger’s serf answers',
      async () => (await stranger.exec('serf', 'members', '-rpc-addr=127.0.0.1:9373')).exitCode === 0
    )
    const join1 = await stranger.exec('serf', 'join', '-rpc-addr=127.0.0.1:9373', lab.host(1).address)
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
