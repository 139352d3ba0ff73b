// A rolling upgrade: hosts of a version that does not know the latest rules (docs/adr/0054) start again with one that does, one
// by one, while faults are injected; in some runs one goes back again just when all were new. Clients at the new hosts ask for
// IPv6 throughout. It has randomness of its own, so that runs without an upgrade are as they were.

import { whyNotYet } from '#allocator/admission.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { needsBothFamilies, RULES, rulesOfVersion, UNGATED_RULES, type Command, type Request } from '#model/command.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import type { Counters } from '../counters.ts'
import { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { SimHost } from './host.ts'
import type { HostileHost } from './hostile.ts'
import type { Oracle } from './oracle.ts'

export const [OLD, NEW] = ['0.1.0', '0.2.0']
/** Every sixth run: the seeds that kill the mutants of other parts need not be found anew. */
const [UPGRADES_OF, UPGRADES] = [6, 5]
const IFNAME = parseIfName('eth0')
const [FOUR, SIX, BOTH] = ['four', 'six', 'both'].map(name => parseNetworkName(name)) as [never, never, never]

export function isUpgraded(seed: number): boolean {
  return seed % UPGRADES_OF === UPGRADES
}

/** What a version that knows the ungated rules alone cannot read. */
export function isGated({ rules, command }: Pick<Request, 'rules' | 'command'>): boolean {
  return (rules ?? 0) > UNGATED_RULES || needsBothFamilies(command)
}

export function isOld({ version }: { readonly version: string }): boolean {
  return rulesOfVersion(version) < RULES
}

export class Upgrade {
  readonly #random: Random
  readonly #rollsBack: boolean
  readonly #hosts: readonly SimHost[]
  readonly #schedule: Schedule
  readonly #oracle: Oracle
  readonly #probes: Counters
  readonly #hostile: HostileHost
  #next = 1

  constructor(p: {
    readonly seed: number
    readonly hosts: readonly SimHost[]
    readonly schedule: Schedule
    readonly oracle: Oracle
    readonly probes: Counters
    readonly hostile: HostileHost
  }) {
    this.#random = new Random(p.seed + 0x60000)
    this.#rollsBack = this.#random.chance(0.5)
    this.#hosts = p.hosts
    this.#schedule = p.schedule
    this.#oracle = p.oracle
    this.#probes = p.probes
    this.#hostile = p.hostile
    for (const host of p.hosts) host.version = OLD
  }

  /** Upgrades and asks for IPv6 until a time. */
  start(untilMs: number): void {
    this.#upgradeNext(untilMs)
    this.#askNext(untilMs)
    if (this.#random.chance(0.5)) this.#disturb(untilMs)
  }

  /** All hosts get the new version at once. */
  finish(): void {
    for (const host of this.#hosts.filter(isOld)) this.#restart(host, NEW, 'kill')
  }

  /**
   * An old host has met what it cannot read. It never may while the cluster knows it as an old one; but it may if it is one again
   * without the cluster's knowing. Then it ends, and is upgraded.
   */
  met(host: SimHost, p: { readonly what: string; readonly state: ClusterState }): void {
    const row = p.state.host(host.peerId)
    if (!this.#rollsBack || row === undefined || isOld(row)) {
      this.#oracle.fail(`${host.name}, of an old version, meets ${p.what}`)
      return
    }
    this.#probes.add('old-host-ended-by-what-it-does-not-know')
    this.#schedule.after(0, () => {
      if (isOld(host)) this.#restart(host, NEW, 'kill')
    })
  }

  /** IPv6 at every host, which must be accepted by then. @param done called for each host that has it */
  askEverywhere(done: (host: SimHost) => void): void {
    if (this.#oracle.state.rules !== RULES) this.#oracle.fail('all hosts are new, and the rules are not raised')
    const facts = { egressRate: 0, mtu: 0, egress: false, hostAccess: false }
    const subnet = parseSubnet('fd00:f::/64')
    for (const host of this.#hosts) {
      const name = parseNetworkName(`end-${host.number}`)
      const network = { kind: 'network-create', name, subnet, requestId: host.name, ...facts } as const
      this.#propose(host, network)
        ?.then(() =>
          this.#propose(host, this.#attach(host, name, { address: parseIpv6(`fd00:f::1:0:0:1${host.number}`) }))
        )
        .then(
          () => done(host),
          (err: unknown) => this.#oracle.fail(`${host.name} is refused IPv6 after all: ${String(err)}`)
        )
    }
  }

  #upgradeNext(untilMs: number): void {
    this.#schedule.after(this.#random.between(300, 4_000), () => {
      const old = this.#hosts.filter(isOld)
      if (this.#schedule.nowMs >= untilMs || old.length === 0) return
      this.#restart(this.#random.pick(old), NEW, this.#random.pick(['kill', 'kill', 'power-cut']))
      this.#probes.add('host-upgraded')
      if (old.length === 1 && this.#rollsBack) this.#rollBack()
      this.#upgradeNext(untilMs)
    })
  }

  /** While the rules may just be raised. */
  #rollBack(): void {
    this.#schedule.after(this.#random.between(0, 1_500), () => {
      this.#restart(this.#random.pick(this.#hosts), OLD, 'kill')
      this.#probes.add('host-rolled-back')
    })
  }

  /** A member that is no server registers as an old host when the rules are raised. */
  #disturb(untilMs: number): void {
    this.#schedule.after(this.#random.between(500, 4_000), () => {
      if (this.#schedule.nowMs >= untilMs) return
      if (this.#oracle.state.rules === RULES)
        this.#hostile.propose({ kind: 'host-register', host: this.#hostile.row(OLD) })
      this.#disturb(untilMs)
    })
  }

  #restart(host: SimHost, version: string, kind: 'kill' | 'power-cut'): void {
    host.crash(kind)
    host.version = version
    host.startLater(this.#random.pick([5, 50, 300, 2_000]))
  }

  #askNext(untilMs: number): void {
    this.#schedule.after(this.#random.between(0, 400), () => {
      if (this.#schedule.nowMs >= untilMs) return
      const host = this.#random.pick(this.#hosts)
      const command = this.#command(host)
      const isIpv6 = needsBothFamilies(command)
      this.#propose(host, command)?.then(
        () => {
          if (isIpv6) this.#probes.add('ipv6-accepted')
        },
        () => undefined
      )
      this.#askNext(untilMs)
    })
  }

  /** As ControlPlane does; null where it is refused at once, or the host is down or too old to say it. */
  #propose(host: SimHost, command: Command): Promise<unknown> | null {
    const { process } = host
    if (process === null || (isOld(host) && isGated({ command }))) return null
    if (whyNotYet(process.state, command) === null) return process.replicator.log.propose(command)
    this.#probes.add('ipv6-refused-before-the-rules')
    return null
  }

  #command(host: SimHost): Command {
    const random = this.#random
    const facts = { egressRate: 0, mtu: 0, egress: false, hostAccess: false }
    const kind = 'network-create'
    const address6 = parseIpv6(`fd00:9::${random.below(40).toString(16)}`)
    const held = [...this.#oracle.state.endpointsOnHost(host.peerId)].filter(({ containerId }) =>
      containerId.startsWith('v')
    )
    return random.pick<Command>([
      { kind, name: FOUR, subnet: parseSubnet('10.8.0.0/24'), ...facts },
      { kind, name: SIX, subnet: parseSubnet('fd00:6::/64'), ...facts },
      { kind, name: BOTH, subnet: parseSubnet('10.9.0.0/24'), subnet6: parseSubnet('fd00:9::/64'), ...facts },
      { kind: 'network-update', name: FOUR, addSubnet: parseSubnet('fd00:8::/64') },
      this.#attach(host, FOUR, {}),
      this.#attach(host, SIX, {}),
      this.#attach(host, SIX, { address: parseIp(`fd00:6::1:0:0:${random.below(40).toString(16)}`) }),
      this.#attach(host, BOTH, {}),
      this.#attach(host, BOTH, { address6 }),
      ...held.slice(0, 2).map(({ containerId }) => ({ kind: 'endpoint-detach', containerId, ifname: IFNAME }) as const)
    ])
  }

  #attach(
    { peerId }: SimHost,
    network: Extract<Command, { kind: 'endpoint-attach' }>['network'],
    asked: Pick<Extract<Command, { kind: 'endpoint-attach' }>, 'address' | 'address6'>
  ): Command {
    const facts = { ifname: IFNAME, name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    const containerId = parseContainerId(`v${this.#next++}`)
    return { kind: 'endpoint-attach', network, host: peerId, containerId, ...facts, ...asked }
  }
}
