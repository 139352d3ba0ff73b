// The lab of the attack suite: three servers, two clients, a stranger without an agent on the same underlay, the world
// outside, and tenants red and blue with one subnet. All rows share it. With IPv6 there are tenants of both families and of
// IPv6 alone as well, and hosts and the outside have both.

import { parseIpv6, type Ipv6 } from '#model/ipv6.ts'
import type { EndpointView, StatusView } from '#model/views.ts'
import { bare, type LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { ip } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { addOutside, addOutsideV6, SERVER, SERVER_V6 } from '../lab/outside.ts'
import { waitFor } from '../lab/wait.ts'
import { startAttacker } from './python.ts'

/** A port on which the world outside and the tenants' servers answer. */
export const ECHO = 7_777

/** By container: network and host. */
const PLACES = {
  me: ['red', 1],
  near: ['red', 1],
  far: ['red', 2],
  tenant: ['blue', 1],
  'far-tenant': ['blue', 2],
  probed: ['open', 1],
  closed: ['inner', 1]
} as const
const NETWORKS = {
  red: [['10.1.0.0/24'], {}],
  blue: [['10.1.0.0/24'], {}],
  open: [['10.3.0.0/24'], { hostAccess: true }],
  inner: [['10.4.0.0/24'], { hostAccess: true, egress: false }]
} as const

/** Dual has both families, twin the same subnets; six has IPv6 alone. */
const PLACES6 = {
  me6: ['dual', 1],
  near6: ['dual', 1],
  far6: ['dual', 2],
  tenant6: ['twin', 1],
  'far-tenant6': ['twin', 2],
  six: ['six', 1],
  'near-six': ['six', 1],
  'far-six': ['six', 2],
  probed6: ['open6', 1],
  closed6: ['inner6', 1]
} as const
const NETWORKS6 = {
  dual: [['10.6.0.0/24', 'fd00:6::/64'], {}],
  twin: [['10.6.0.0/24', 'fd00:6::/64'], {}],
  six: [['fd00:66::/64'], {}],
  open6: [['10.63.0.0/24', 'fd00:63::/64'], { hostAccess: true }],
  inner6: [['fd00:64::/64'], { hostAccess: true, egress: false }]
} as const

export type Name = keyof typeof PLACES | keyof typeof PLACES6

export class World {
  readonly lab: Lab
  readonly stranger: LabHost
  readonly outside: LabContainer
  readonly #containers = new Map<Name, LabContainer>()
  readonly #endpoints = new Map<Name, EndpointView>()

  private constructor(lab: Lab, p: { readonly stranger: LabHost; readonly outside: LabContainer }) {
    this.lab = lab
    this.stranger = p.stranger
    this.outside = p.outside
  }

  /** @param options.ipv6 whether tenants, hosts and the outside have IPv6 as well */
  static async open(options: { readonly ipv6?: true } = {}): Promise<World> {
    const lab = await Lab.create()
    const join = [lab.addressOf(1)]
    for (let n = 0; n < 3; n++) await lab.addHost({ join, logLevel: 'info' })
    for (let n = 0; n < 2; n++) await lab.addHost({ role: 'client', join, logLevel: 'info' })
    const stranger = await lab.addHost()
    const outside = await addOutside(lab)
    // What is sent to addresses that nobody has ends there, unanswered.
    await ip(outside.namespace, 'route add blackhole 203.0.113.0/24')
    if (options.ipv6) {
      await addOutsideV6(lab, outside)
      await ip(outside.namespace, `-6 route add blackhole ${SERVER_V6}/64`)
    }
    const agents = lab.hosts.filter(host => host !== stranger)
    await Promise.all(agents.map(host => host.startAgent()))
    await Promise.all(agents.map(host => host.waitReady(40_000)))
    const world = new World(lab, { stranger, outside })
    await world.#fill(NETWORKS, PLACES)
    await startAttacker(outside, 'serve', SERVER, ECHO)
    if (options.ipv6) {
      await world.#fill(NETWORKS6, PLACES6)
      await startAttacker(outside, 'serve', SERVER_V6, ECHO)
    }
    for (const name of ['near', 'far', 'far-tenant', 'far-tenant6'] as const) {
      const container = world.#containers.get(name)
      if (container !== undefined) await startAttacker(container, 'serve', '', ECHO)
    }
    return world
  }

  async #fill(
    networks: Readonly<Record<string, readonly [readonly string[], Readonly<Record<string, boolean>>]>>,
    places: Readonly<Partial<Record<Name, readonly [network: string, host: number]>>>
  ): Promise<void> {
    for (const [name, [subnets, more]] of Object.entries(networks)) {
      // measure.ts asks older agents, too, which know one subnet alone.
      const given = subnets.length === 1 ? { subnet: subnets[0] } : { subnets }
      await this.host(1).api.call('POST', '/v1/networks', { name, ...given, ...more })
    }
    for (const [name, [network, host]] of Object.entries(places)) {
      const container = await this.lab.container(name)
      this.#containers.set(name as Name, container)
      this.#endpoints.set(name as Name, await this.host(host).attach(container, network))
    }
  }

  host(n: number): LabHost {
    return this.lab.host(n)
  }

  /** The hosts with agents. */
  get members(): readonly LabHost[] {
    return this.lab.hosts.filter(host => host !== this.stranger)
  }

  /** The client whose root is an attacker in some rows: its agent is down then. */
  get stolen(): LabHost {
    return this.host(5)
  }

  get servers(): readonly LabHost[] {
    return this.lab.hosts.slice(0, 3)
  }

  container(name: Name): LabContainer {
    return found(this.#containers.get(name), name)
  }

  endpoint(name: Name): EndpointView {
    return found(this.#endpoints.get(name), name)
  }

  /** The address without its prefix length. */
  address(name: Name): string {
    return bare(this.endpoint(name).address)
  }

  /** Its address and gateway of IPv6. */
  address6(name: Name): Ipv6 {
    return parseIpv6(bare(found(this.endpoint(name).addresses.find(isIpv6), `IPv6 address of ${name}`)))
  }

  gateway6(name: Name): Ipv6 {
    return parseIpv6(found(this.endpoint(name).gateways.find(isIpv6), `IPv6 gateway of ${name}`))
  }

  /** The server that leads, as it knows itself. */
  leader(): Promise<LabHost> {
    return waitFor('a server leads', async () => {
      for (const host of this.servers) if ((await host.status()).raft.role === 'leader') return host
      return null
    })
  }

  /** A status of each member whose agent runs, once all have applied the same index and know a leader. */
  settled(): Promise<readonly StatusView[]> {
    return waitFor(
      'all hosts have the same state',
      async () => {
        const running = this.members.filter(host => !host.agentIsGone)
        const all = await Promise.all(running.map(host => host.status()))
        const [first] = all
        const same = all.every(
          ({ digest, raft }) =>
            digest === first?.digest && raft.appliedIndex === first.raft.appliedIndex && raft.leader !== null
        )
        return same && all
      },
      { timeoutMs: 30_000 }
    )
  }

  /** Creates and deletes a network so many times; resolves with how many were acknowledged. */
  async commits(count: number, on: LabHost = this.host(1)): Promise<number> {
    let done = 0
    for (let n = 0; n < count; n++) {
      try {
        await on.api.call('POST', '/v1/networks', { name: `probe-${n}`, subnet: '10.9.0.0/24' })
        await on.api.call('DELETE', `/v1/networks/probe-${n}`)
        done += 1
      } catch {
        continue
      }
    }
    return done
  }

  close(): Promise<void> {
    return this.lab.destroy()
  }
}

const isIpv6 = (text: string): boolean => text.includes(':')

export function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`no ${what}`)
  return value
}
