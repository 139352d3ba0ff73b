// Hosts with routers: each has a second uplink to the outside, where a server runs.

import { desiredGateways, parseRouterName, type DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Ip, Subnet } from '#model/ip.ts'
import type { Network } from '#model/network.ts'
import { attachRequest, detachRequest } from '#overlay/driver.ts'
import { runPass, type Look, type PartReport } from '#overlay/pass.ts'
import { NO_WAY_IN } from '#overlay/plan/gateway/plan-gateway.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import type { Vni } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import type { Test } from 'tap'
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../overlay/fixtures.ts'
import { addOutside, SERVER } from '../lab/outside.ts'
import { routersOf } from '../lab/routers.ts'
import { waitFor } from '../lab/wait.ts'
import { ip } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import type { LabContainer } from '../lab/container.ts'
import { run } from '../lab/run.ts'

export const MTU = 1450

export const red = makeNetwork('red', 0xabc)
export const blue = makeNetwork('blue', 0xdef)
export const shut = makeNetwork('shut', 0x123, { egress: false })

/** What a pass did about routers. */
export type GatewayReport = {
  readonly done: readonly string[]
  /** Those of them that repaired another program's changes. */
  readonly repaired: readonly { readonly kind: string; readonly what: string }[]
  readonly problems: readonly { readonly vni: Vni | null; readonly message: string; readonly hostAccess?: true }[]
}

export const SETTLED: GatewayReport = { done: [], repaired: [], problems: [] }

/** Longer than the kernel delays a link's state (1 s) or duplicate address detection (2 s). */
const QUIET_MS = 2_500

export type Attached = { readonly endpoint: Endpoint; readonly container: LabContainer }

export class GatewayLab {
  readonly lab: Lab
  readonly outside: LabContainer
  readonly drivers: LinuxDriver[]
  networks: Network[] = [red, blue, shut]
  endpoints: Endpoint[] = []
  /** Local networks that containers may reach (egress.local). */
  opened: Subnet[] = []

  private constructor(lab: Lab, outside: LabContainer) {
    this.lab = lab
    this.outside = outside
    this.drivers = lab.hosts.map(host => this.open(host.netns, host.vtep))
  }

  static async open(hosts: number): Promise<GatewayLab> {
    const lab = await Lab.create({ hosts })
    try {
      const outside = await addOutside(lab)
      return new GatewayLab(lab, outside)
    } catch (err) {
      await lab.destroy()
      throw err
    }
  }

  open(hostNetns: string, vtep: Ip): LinuxDriver {
    return LinuxDriver.open({ underlay: vxlanUnderlay(vtep), hostNetns, clock: systemClock })
  }

  async close(): Promise<void> {
    for (const driver of this.drivers) await driver.close()
    await this.lab.destroy()
  }

  driver(host: number): LinuxDriver {
    const driver = this.drivers[host - 1]
    if (driver === undefined) throw new Error(`no host ${host}`)
    return driver
  }

  hostName(host: number): string {
    return this.lab.host(host).namespace
  }

  /** The host's router namespaces. */
  routers(host: number): Promise<string[]> {
    return routersOf([this.hostName(host)])
  }

  /** A container with an endpoint, set up in an agent's order: the network first, then the veth. */
  async attach(network: Network, p: { container: string; host: number; address: string }): Promise<Attached> {
    const container = await this.lab.container(p.container)
    const endpoint = makeEndpoint(network, p)
    this.endpoints.push(endpoint)
    for (const i of this.lab.hosts.keys()) await this.pass(i + 1)
    const request = attachRequest({ endpoint, network, overlayMtu: MTU, netns: container.netns, withRoute: true })
    await this.driver(p.host).devices.attach(request)
    return { endpoint, container }
  }

  async detach({ endpoint }: Attached): Promise<void> {
    const host = this.lab.hosts.findIndex((_, i) => peer(i + 1) === endpoint.host) + 1
    await this.driver(host).devices.detach(detachRequest(endpoint))
    this.endpoints = this.endpoints.filter(e => e !== endpoint)
    for (const i of this.lab.hosts.keys()) await this.pass(i + 1)
  }

  /** A full pass, as the reconciler runs it. */
  async pass(host: number): Promise<GatewayReport> {
    const reports = await runPass(this.driver(host).parts, this.#look(host, { mayRemove: true }))
    for (const { failures, concern } of reports) {
      if (concern !== 'egress' && failures[0] !== undefined) throw failures[0].error
    }
    return gatewayReport(reports)
  }

  /** The routers alone. */
  async settle(
    driver: LinuxDriver,
    p: { host: number; mayRemove: boolean; scope?: Vni; trust?: true }
  ): Promise<GatewayReport> {
    const parts = driver.parts.filter(({ concern }) => concern === 'egress')
    return gatewayReport(await runPass(parts, this.#look(p.host, p)))
  }

  #look(host: number, p: { mayRemove: boolean; scope?: Vni; trust?: true }): Look {
    const { mayRemove, scope = null, trust = false } = p
    const state = { host: () => desired(this.#input(host)), gateways: () => this.wanted(host) }
    return { scope, trust, mayRemove, desired: state }
  }

  wanted(host: number): DesiredGateways {
    const transit = { base: 0xf0000000 as Ipv4, prefixLength: 8 }
    const { vtep: bind } = this.lab.host(host)
    return desiredGateways({ ...this.#input(host), transit, bind, memberAddresses: [], opened: this.opened })
  }

  async exec(netns: string, ...args: readonly string[]): Promise<string> {
    const { stdout, stderr, exitCode } = await run('ip', ['netns', 'exec', netns, ...args], { timeoutMs: 60_000 })
    if (exitCode !== 0) throw new Error(`${args.join(' ')} in ${netns}: ${stderr}`)
    return stdout
  }

  /** The router of a network on the first host. */
  async router(network: Network): Promise<string> {
    const name = (await this.routers(1)).find(router => parseRouterName(router) === network.vni)
    if (name === undefined) throw new Error(`no router of ${network.name}`)
    return name
  }

  /** The kernel's notifications from a namespace during `work`: changed links, addresses and routes, and deleted neighbours. */
  async changesDuring(netns: string, work: () => Promise<unknown>): Promise<string[]> {
    const monitor = startMonitor(netns)
    let text = ''
    monitor.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    // Neighbours of a device that has none delimit the work. An entry that is there already would not be notified again.
    const mark = (mac: string): Promise<unknown> =>
      waitFor(`the notification of ${mac}`, async () => {
        await ip(netns, 'neigh flush dev lo nud permanent')
        await ip(netns, `neigh replace 127.0.0.2 lladdr ${mac} dev lo nud permanent`)
        return text.includes(mac)
      })
    try {
      await mark('02:00:00:00:00:01')
      await work()
      await mark('02:00:00:00:00:02')
      await ip(netns, 'neigh flush dev lo nud permanent')
      const lines = text.split('\n').filter(line => line !== '' && !line.includes(' dev lo '))
      return lines.filter(line => !line.includes('[NEIGH]') || line.includes('Deleted'))
    } finally {
      monitor.kill()
      await once(monitor, 'close')
    }
  }

  /** Waits until the kernel sends no more notifications: a new link's state and IPv6 address follow seconds later. */
  async quiet(...namespaces: readonly string[]): Promise<void> {
    const monitors = namespaces.map(startMonitor)
    let last = performance.now()
    for (const { stdout } of monitors) stdout.on('data', () => (last = performance.now()))
    try {
      await waitFor('the kernel is quiet', () => performance.now() - last > QUIET_MS)
    } finally {
      for (const monitor of monitors) monitor.kill()
      await Promise.all(monitors.map(monitor => once(monitor, 'close')))
    }
  }

  /** The source addresses of pings that reach the outside during `work`. */
  async sourcesSeen(work: () => Promise<unknown>): Promise<string[]> {
    const rule = 'type filter hook input priority 0; icmp type echo-request add @from { ip saddr }'
    const table = `table ip seen { set from { type ipv4_addr; flags dynamic; }; chain c { ${rule}; }; }`
    await this.exec(this.outside.namespace, 'nft', table)
    await work()
    const listing = await this.exec(this.outside.namespace, 'nft', '-j', 'list', 'set', 'ip', 'seen', 'from')
    const { nftables } = JSON.parse(listing) as { nftables: { set?: { elem?: string[] } }[] }
    return nftables.flatMap(object => object.set?.elem ?? [])
  }

  /** Everything on a host that egress could leave behind. */
  async footprint(host: number): Promise<string> {
    const name = this.hostName(host)
    const links = await this.exec(name, 'ls', '/sys/class/net')
    const rules = await this.exec(name, 'nft', 'list', 'ruleset')
    const routes = await ip(name, 'route show')
    const forwarding = await this.exec(name, 'sysctl', '-a', '-r', String.raw`net\.ipv4\.conf\..*\.forwarding`)
    return [links, rules, routes, forwarding].join('\n')
  }

  /** An iperf3 server outside. */
  startServer(): { readonly stop: () => void } {
    const args = ['netns', 'exec', this.outside.namespace, 'iperf3', '-s', '-B', SERVER]
    const child = spawn('ip', args, { stdio: 'ignore' })
    return { stop: () => void child.kill('SIGKILL') }
  }

  /** Egress of TCP streams from a container, bits/s of IP packets. */
  async measure({ container }: Attached, seconds: number): Promise<number> {
    const ask = (): Promise<string> =>
      this.exec(container.namespace, 'iperf3', '-J', '-c', SERVER, '-P', '4', '-O', '1', '-t', String(seconds))
    const measured = async (): Promise<number | undefined> => {
      const { end } = JSON.parse(await ask()) as { end: { sum_received?: { bits_per_second: number } } }
      return end.sum_received?.bits_per_second // missing while the server is not up yet or still busy
    }
    const rate = await waitFor('iperf3 has measured', measured, { timeoutMs: 30_000 })
    // A full packet carries its size less 20 bytes of IP and 32 of TCP with time stamps.
    return (rate * MTU) / (MTU - 52)
  }

  #input(host: number): DesiredInput {
    return {
      self: peer(host),
      selfVtep: this.lab.host(host).vtep,
      networks: this.networks,
      endpoints: byNetwork(this.endpoints),
      hosts: this.lab.hosts.map(({ vtep }, i) => makeHost(i + 1, vtep)),
      memberStatus: null,
      overlayMtu: MTU,
      vxlanPort: 4789
    }
  }
}

/** All routers of the host are right: a pass has nothing to do. */
export async function settled(t: Test, g: GatewayLab, host = 1): Promise<void> {
  t.strictSame(await g.pass(host), SETTLED, `host ${host} is settled`)
}

function startMonitor(netns: string): ChildProcessByStdio<null, Readable, null> {
  const args = ['-n', netns, '-o', 'monitor', 'link', 'address', 'route', 'neigh', 'label']
  return spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
}

function gatewayReport(reports: readonly PartReport[]): GatewayReport {
  const routers = reports.filter(({ concern }) => concern === 'egress')
  const done = routers.flatMap(report => report.done)
  return {
    done: done.map(op => op.text()),
    repaired: done.filter(op => op.repairs).map(({ kind, text }) => ({ kind, what: text() })),
    problems: routers
      .flatMap(report => report.problems)
      .map(({ vni, error, effect }) => ({
        vni,
        message: error.message,
        ...(effect === NO_WAY_IN ? { hostAccess: true } : {})
      }))
  }
}
