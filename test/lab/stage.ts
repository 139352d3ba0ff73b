// A stage for scenarios that must hold for every driver: hosts on one underlay, each with a driver, tenants red and blue
// with the same subnet, and containers. The planes differ, the scenarios do not.

import type { Endpoint, Shaping } from '#model/endpoint.ts'
import { addressesOf } from '#model/addresses.ts'
import { familyOf, formatIp, isIpv4, parseIp, type Family } from '#model/ip.ts'
import type { MemberStatus } from '#model/member.ts'
import type { Network } from '#model/network.ts'
import type { PeerId, Vni } from '#model/ids.ts'
import { attachRequest, detachRequest, shapeRequest, type AttachResult, type OverlayDriver } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { openDatapath } from '#overlay/bpf/open.ts'
import { OvsDriver } from '#overlay/ovs/driver.ts'
import { desired, type DesiredHost, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { desiredGateways, type DesiredGateways } from '#overlay/plan/gateway/desired-gateway.ts'
import { runPass } from '#overlay/pass.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { parseTransitRange } from '#model/ipv4.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../overlay/fixtures.ts'
import { addressesAt, addressIn, SUBNETS } from './families.ts'
import { ip } from './kernel.ts'
import { countReplies, type ReplyOptions } from './ping.ts'
import { Lab } from './lab.ts'
import type { LabContainer } from './container.ts'
import { UNDERLAY_PREFIX } from './family.ts'
import { addOutside } from './outside.ts'
import { passDone } from './pass-done.ts'
import { OpenVSwitch, UNDERLAY_BRIDGE } from './open-vswitch.ts'
import { run } from './run.ts'

/** How a host carries packets. `ovs-system` needs a kernel with the openvswitch module. */
export type Plane = 'bpf' | 'linux' | 'ovs-netdev' | 'ovs-system'

export const PORT = 4789

/** Why there are neither a guard of the underlay nor routers on this kernel, or false. */
export const noFilters: string | false = await cannotFilter()

/** Without routers where the kernel cannot have them. */
export const red = makeNetwork('red', 0xabc, { ...SUBNETS, egress: noFilters === false })
export const blue = makeNetwork('blue', 0xdef, { ...SUBNETS, egress: noFilters === false })

/** By container: its network, its host (from 1 on) and its place (families.ts). */
export type Places = Readonly<Record<string, readonly [Network, number, string]>>

/** Who ends the stage: a test, or a benchmark. */
export type Teardown = { teardown(close: () => Promise<void>): unknown }

export class Stage {
  readonly plane: Plane
  readonly lab: Lab
  readonly containers = new Map<string, LabContainer>()
  readonly switches: OpenVSwitch[] = []
  readonly #drivers: OverlayDriver[] = []
  readonly #linux = new Set<number>()
  /** Hosts that are dead: no agent, no switch, no link. */
  readonly #down = new Set<number>()
  endpoints: Endpoint[] = []
  statuses: ReadonlyMap<PeerId, MemberStatus> | null = null
  /** The hosts of the replicated state: all, unless a scenario takes one out. */
  members: number[]
  networks: Network[] = [red, blue]
  services: DesiredInput['services'] = new Map()
  /** Do the programs guard, whatever forwards? */
  #programs = false

  private constructor(plane: Plane, lab: Lab) {
    this.plane = plane
    this.lab = lab
    this.members = lab.hosts.map((_, i) => i + 1)
  }

  /** Hosts with their drivers, all containers attached, all settled. @param p.linux hosts of a `bpf` plane with driver linux */
  static async open(
    t: Teardown,
    plane: Plane,
    p: {
      hosts: number
      places: Places
      members?: number[]
      networks?: readonly Network[]
      outside?: true
      linux?: readonly number[]
      /** Programs guard, where otherwise nftables would. */
      programs?: true
      family?: Family
    }
  ): Promise<Stage> {
    const lab = await Lab.create({ hosts: p.hosts, ...(p.family === undefined ? {} : { family: p.family }) })
    const stage = new Stage(plane, lab)
    stage.#programs = p.programs ?? false
    for (const host of p.linux ?? []) stage.#linux.add(host)
    if (p.members !== undefined) stage.members = p.members
    if (p.networks !== undefined) stage.networks = [...p.networks]
    t.teardown(() => stage.#close())
    if (p.outside === true) await addOutside(lab)
    for (const host of lab.hosts) {
      if (stage.#switched) {
        const ovs = await OpenVSwitch.start(host.namespace)
        stage.switches.push(ovs)
        if (plane === 'ovs-netdev')
          await ovs.takeUnderlay('eth0', `${host.address}/${UNDERLAY_PREFIX[familyOf(host.vtep)]}`)
      }
      stage.#drivers.push(await stage.open(stage.#drivers.length + 1))
    }
    for (const host of stage.members) await stage.pass(host)
    for (const [name, [network, host, place]] of Object.entries(p.places)) await stage.add(name, network, host, place)
    for (const host of stage.members) await stage.pass(host)
    return stage
  }

  /** A driver for a host, as an agent that starts there opens one. */
  async open(host: number): Promise<OverlayDriver> {
    const { vtep, netns: hostNetns } = this.lab.host(host)
    const programs = this.#programs ? { programs: openDatapath(hostNetns) } : {}
    const options = { underlay: vxlanUnderlay(vtep), hostNetns, clock: systemClock, ...programs }
    const driver = !this.#switched
      ? this.plane === 'bpf' && !this.#linux.has(host)
        ? LinuxDriver.openFast({ ...options, programs: openDatapath(hostNetns) })
        : LinuxDriver.open(options)
      : await OvsDriver.open({
          ...options,
          port: PORT,
          socket: this.ovs(host).socket,
          datapath: this.plane === 'ovs-netdev' ? 'netdev' : 'system'
        })
    if (noFilters === false || this.plane === 'bpf') await driver.setGuard(PORT)
    return driver
  }

  get #switched(): boolean {
    return this.plane === 'ovs-netdev' || this.plane === 'ovs-system'
  }

  /** The device that has the tunnel address. */
  get underlay(): string {
    return this.plane === 'ovs-netdev' ? UNDERLAY_BRIDGE : 'eth0'
  }

  driver(host: number): OverlayDriver {
    return found(this.#drivers[host - 1], `host ${host}`)
  }

  ovs(host: number): OpenVSwitch {
    return found(this.switches[host - 1], `Open vSwitch of host ${host}`)
  }

  container(name: string): LabContainer {
    return found(this.containers.get(name), name)
  }

  endpoint(container: string): Endpoint {
    return found(
      this.endpoints.find(endpoint => endpoint.containerId === container),
      container
    )
  }

  /** The address that its network allocated. */
  address(container: string): string {
    return formatIp(this.endpoint(container).address)
  }

  /** One for each family. */
  addresses(container: string): readonly string[] {
    const endpoint = this.endpoint(container)
    return addressesOf(this.#networkOf(endpoint), endpoint).map(formatIp)
  }

  /** How many of `count` pings to a place are answered; in each family, or else it throws. */
  replies(from: string, place: string, options: ReplyOptions = {}): Promise<number> {
    return this.repliesOf(from, addressesAt(place), options)
  }

  /** The same for these addresses. @param options.size of the payload in IPv4; in IPv6 the packet is as large */
  async repliesOf(from: string, addresses: readonly string[], options: ReplyOptions = {}): Promise<number> {
    const count = async (): Promise<readonly number[]> => {
      const counts: number[] = []
      for (const address of addresses) {
        const { size } = options
        const sized = size === undefined || isIpv4(parseIp(address)) ? options : { ...options, size: size - 20 }
        counts.push(await countReplies(this.container(from), address, sized))
      }
      return counts
    }
    const agree = (counts: readonly number[]): boolean => new Set(counts).size <= 1
    let counts = await count()
    // The userspace datapath may lose packets while it takes new interfaces in (docs/openvswitch.md).
    if (!agree(counts) && this.plane === 'ovs-netdev') counts = await count()
    if (agree(counts)) return counts[0] ?? 0
    throw new Error(
      `of the pings from ${from} to ${addresses.join(' and ')}, ${counts.join(' and ')} are answered\n` +
        (await this.#countersBetween(from, addresses))
    )
  }

  /** Neighbours and counters of both ends of these containers, which tell how far the packets came. */
  async #countersBetween(from: string, addresses: readonly string[]): Promise<string> {
    const asked = this.endpoints.filter(
      ({ containerId }) => containerId === from || this.addresses(containerId).some(one => addresses.includes(one))
    )
    const texts: string[] = []
    for (const endpoint of asked) {
      const { containerId, ifname } = endpoint
      const inside = this.container(containerId).namespace
      const outside = this.lab.host(this.hostOf(endpoint)).namespace
      for (const [namespace, what] of [
        [inside, 'neigh'],
        [inside, `link show ${ifname}`],
        [outside, `link show ${vethName(containerId, ifname)}`]
      ] as const) {
        const { stdout } = await run('ip', ['-n', namespace, '-s', ...what.split(' ')])
        texts.push(`${containerId}: ${what}\n${stdout}`)
      }
    }
    return texts.join('\n')
  }

  /** Of its network's IPv6 subnet. */
  address6(container: string): string {
    return found(
      this.addresses(container).find(text => text.includes(':')),
      `IPv6 address of ${container}`
    )
  }

  /** The agent of a host is killed, and another one starts. */
  async restart(host: number): Promise<void> {
    await this.driver(host).close()
    this.#drivers[host - 1] = await this.open(host)
  }

  async add(
    name: string,
    network: Network,
    host: number,
    place: string,
    change: Partial<Endpoint> & { portNumber?: number } = {}
  ): Promise<AttachResult> {
    const { portNumber, ...facts } = change
    if (!this.containers.has(name)) this.containers.set(name, await this.lab.container(name))
    const endpoint = {
      ...makeEndpoint(network, { container: name, host, address: formatIp(addressIn(network, place)) }),
      ...facts
    }
    this.endpoints.push(endpoint)
    await this.pass(host, network.vni)
    const request = this.#attachRequest(endpoint)
    const asked = { ...request, ...(portNumber === undefined ? {} : { portNumber }) }
    const result = await this.driver(host).devices.attach(asked, () => this.#want(host, network.vni))
    for (const other of this.#alive) if (other !== host) await this.pass(other, network.vni)
    return result
  }

  async remove(name: string): Promise<void> {
    const endpoint = this.endpoint(name)
    const host = this.hostOf(endpoint)
    if (!this.#down.has(host)) await this.driver(host).devices.detach(detachRequest(endpoint))
    this.endpoints = this.endpoints.filter(other => other !== endpoint)
    for (const other of this.#alive) await this.pass(other, endpoint.vni)
  }

  /** A hot change, as `endpoint update` makes it. */
  async shape(name: string, shaping: Shaping): Promise<void> {
    const before = this.endpoint(name)
    const endpoint = { ...before, ...shaping }
    this.endpoints = this.endpoints.map(other => (other === before ? endpoint : other))
    await this.driver(this.hostOf(endpoint)).devices.shape(this.#shapeRequest(endpoint))
  }

  /** What the kernel enforces of an endpoint's shaping. */
  installed(name: string): Promise<Shaping | null> {
    const endpoint = this.endpoint(name)
    return this.driver(this.hostOf(endpoint)).devices.installedShaping(this.#shapeRequest(endpoint))
  }

  /** As CNI's CHECK has it. @throws ERR_CHECK_FAILED */
  check(name: string): Promise<void> {
    const endpoint = this.endpoint(name)
    return this.driver(this.hostOf(endpoint)).devices.check(this.#attachRequest(endpoint))
  }

  #attachRequest(endpoint: Endpoint): ReturnType<typeof attachRequest> {
    const { netns } = this.container(endpoint.containerId)
    const network = this.#networkOf(endpoint)
    return attachRequest({ endpoint, network, overlayMtu: this.lab.overlayMtu, netns, withRoute: true })
  }

  #networkOf(endpoint: Endpoint): Network {
    return found(
      this.networks.find(({ name }) => name === endpoint.network),
      endpoint.network
    )
  }

  #shapeRequest(endpoint: Endpoint): ReturnType<typeof shapeRequest> {
    return shapeRequest({ endpoint, network: this.#networkOf(endpoint), overlayMtu: this.lab.overlayMtu })
  }

  /** A host's power is cut; the others learn that it failed. */
  async killHost(host: number): Promise<void> {
    await this.driver(host).close()
    await ip(this.lab.host(host).namespace, 'link set eth0 down')
    if (this.#switched) {
      await this.ovs(host).kill('ovs-vswitchd')
      await this.ovs(host).kill('ovsdb-server')
    }
    this.#down.add(host)
    await this.#learn()
  }

  /** The host returns with an agent that knows the current state; its kernel objects are as it left them. */
  async returnHost(host: number): Promise<void> {
    await ip(this.lab.host(host).namespace, 'link set eth0 up')
    if (this.#switched) {
      await this.ovs(host).startDaemon('ovsdb-server')
      await this.ovs(host).startDaemon('ovs-vswitchd')
    }
    this.#down.delete(host)
    this.#drivers[host - 1] = await this.open(host)
    await this.#learn()
  }

  async #learn(): Promise<void> {
    this.statuses = new Map(this.members.map(host => [peer(host), this.#down.has(host) ? 'failed' : 'alive']))
    for (const host of this.#alive) await this.pass(host)
  }

  get #alive(): readonly number[] {
    return this.members.filter(host => !this.#down.has(host))
  }

  /**
   * The userspace datapath resolves the MAC of the tunnel's next hop when the first packet is sent, and drops that
   * packet. A ping between the hosts resolves it in advance.
   */
  async warm(from: string, to: string): Promise<void> {
    if (this.plane !== 'ovs-netdev') return
    const [a, b] = [this.hostOf(this.endpoint(from)), this.hostOf(this.endpoint(to))]
    for (const [here, there] of [
      [a, b],
      [b, a]
    ] as const) {
      if (here === there) continue
      await countReplies(this.lab.host(here), this.lab.host(there).address, { count: 1 })
    }
  }

  hostOf(endpoint: Endpoint): number {
    return this.lab.hosts.findIndex((_, i) => peer(i + 1) === endpoint.host) + 1
  }

  input(host: number): DesiredInput {
    return {
      self: peer(host),
      selfVtep: this.lab.host(host).vtep,
      networks: this.networks,
      endpoints: byNetwork(this.endpoints),
      hosts: this.members.map(index => makeHost(index, this.lab.host(index).vtep)),
      memberStatus: this.statuses,
      overlayMtu: this.lab.overlayMtu,
      vxlanPort: PORT,
      ...(this.services === undefined ? {} : { services: this.services })
    }
  }

  want(host: number): DesiredHost {
    return desired(this.input(host))
  }

  /** One pass as the reconciler runs it; returns what there was to do. @throws what failed first */
  async pass(host: number, scope?: Vni): Promise<readonly string[]> {
    if (scope === undefined && this.plane === 'bpf') await this.driver(host).devices.underlay()
    return passDone(
      await runPass(this.driver(host).parts, {
        scope: scope ?? null,
        trust: false,
        mayRemove: true,
        desired: { host: () => this.#want(host, scope), gateways: () => this.#gateways(host) }
      })
    )
  }

  #want(host: number, scope?: Vni): DesiredHost {
    const networks = scope === undefined ? this.networks : this.networks.filter(({ vni }) => vni === scope)
    return desired({ ...this.input(host), networks })
  }

  #gateways(host: number): DesiredGateways {
    const input = this.input(host)
    const transit = parseTransitRange('240.0.0.0/8')
    return desiredGateways({ ...input, transit, bind: input.selfVtep, memberAddresses: [] })
  }

  async #close(): Promise<void> {
    await Promise.all(this.#drivers.map(driver => driver.close()))
    await Promise.all(this.switches.map(ovs => ovs.stop()))
    await this.lab.destroy()
  }
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`no ${what}`)
  return value
}

async function cannotFilter(): Promise<string | false> {
  const input = 'add table inet vxtry\nadd table ip vxtry\n'
  const { exitCode } = await run('unshare', ['--net', 'nft', '-f', '-'], { input })
  return exitCode === 0 || process.getuid?.() !== 0 ? false : 'nftables without the inet and ip families'
}
