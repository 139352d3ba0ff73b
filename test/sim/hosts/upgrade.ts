// A rolling upgrade: hosts of versions that do not know the latest rules (docs/adr/0054) start again with newer ones, one by one
// and some in two steps, while faults are injected; in some runs one goes back again just when all were new. Clients at the hosts
// ask for IPv6, labels, services and policies throughout. It has randomness of its own, so that runs without an upgrade are as they were.

import { whyNotYet } from '#allocator/admission.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import {
  LABELS,
  POLICIES,
  RULES,
  SERVICES,
  rulesNeeded,
  rulesOfVersion,
  UNGATED_RULES,
  type Command,
  type CommandOf,
  type Request
} from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { parseContainerId, parseIfName, parseNetworkName, parsePolicyName, parseServiceName } from '#model/ids.ts'
import { parseIp, parseSubnet, type Ip } from '#model/ip.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import type { LabelChanges } from '#model/labels.ts'
import type { Counters } from '../counters.ts'
import { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { SimHost } from './host.ts'
import type { HostileHost } from './hostile.ts'
import type { Oracle } from './oracle.ts'

/** Those before the new one: without IPv6, without labels, and without services and policies. */
const OLD = ['0.1.0', '0.2.0', '0.3.0']
export const NEW = '0.4.0'
/** Every sixth run: the seeds that kill the mutants of other parts need not be found anew. */
const [UPGRADES_OF, UPGRADES] = [6, 5]
const IFNAME = parseIfName('eth0')
type Attach = CommandOf<'endpoint-attach'>

const [FOUR, SIX, BOTH] = ['four', 'six', 'both'].map(name => parseNetworkName(name)) as [never, never, never]

export function isUpgraded(seed: number): boolean {
  return seed % UPGRADES_OF === UPGRADES
}

/** The rules that a version must know to read this request. */
export function rulesToRead({ rules, command }: Request): number {
  return Math.max(rules ?? 0, rulesNeeded(command))
}

export function isOld({ version }: { readonly version: string }): boolean {
  return rulesOfVersion(version) < RULES
}

export class Upgrade {
  readonly #random: Random
  readonly #rollsBack: boolean
  /** The version of all hosts at the start. */
  readonly #first: string
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
    this.#first = this.#random.pick(OLD)
    this.#hosts = p.hosts
    this.#schedule = p.schedule
    this.#oracle = p.oracle
    this.#probes = p.probes
    this.#hostile = p.hostile
    for (const host of p.hosts) host.version = this.#first
  }

  /** Upgrades, and asks for what is new, until a time. */
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
   * An old host has met what it cannot read. It never may while the cluster knows it as so old; but it may if it is so again
   * without the cluster's knowing. Then it ends, and is upgraded.
   * @param p.rules those that it would have to know
   */
  met(host: SimHost, p: { readonly what: string; readonly rules: number; readonly state: ClusterState }): void {
    const row = p.state.host(host.peerId)
    if (!this.#rollsBack || row === undefined || rulesOfVersion(row.version) < p.rules) {
      this.#oracle.fail(`${host.name}, of an old version, meets ${p.what}`)
      return
    }
    this.#probes.add('old-host-ended-by-what-it-does-not-know')
    this.#schedule.after(0, () => {
      if (isOld(host)) this.#restart(host, NEW, 'kill')
    })
  }

  /** IPv6 and labels at every host, and services and policies at servers, which must be accepted by then. @param done called for each host that has them */
  askEverywhere(done: (host: SimHost) => void): void {
    if (this.#oracle.state.rules !== RULES) this.#oracle.fail('all hosts are new, and the rules are not raised')
    const facts = { egressRate: 0, mtu: 0, egress: false, hostAccess: false }
    const subnet = parseSubnet('fd00:f::/64')
    for (const host of this.#hosts) {
      const name = parseNetworkName(`end-${host.number}`)
      const network = { kind: 'network-create', name, subnet, requestId: host.name, ...facts } as const
      const address = parseIpv6(`fd00:f::1:0:0:1${host.number}`)
      const attach = this.#attach(host, name, { address, labels: { end: host.name, odd: '' } })
      const { containerId, ifname } = attach
      const update = { kind: 'endpoint-update', containerId, ifname, labels: { odd: null, even: 'x' } } as const
      this.#propose(host, network)
        ?.then(() => this.#propose(host, attach))
        .then(() => this.#propose(host, update))
        .then(() => (host.isVoter ? this.#propose(host, this.#serve(name, 'end')) : null))
        .then(() => (host.isVoter ? this.#propose(host, this.#police(name, 'end')) : null))
        .then(
          () => done(host),
          (err: unknown) =>
            this.#oracle.fail(`${host.name} is refused IPv6, labels, services or policies after all: ${String(err)}`)
        )
    }
  }

  #upgradeNext(untilMs: number): void {
    this.#schedule.after(this.#random.between(300, 4_000), () => {
      const old = this.#hosts.filter(isOld)
      if (this.#schedule.nowMs >= untilMs || old.length === 0) return
      const host = this.#random.pick(old)
      const newer = [...OLD, NEW].filter(version => rulesOfVersion(version) > rulesOfVersion(host.version))
      this.#restart(host, this.#random.pick(newer), this.#random.pick(['kill', 'kill', 'power-cut']))
      this.#probes.add('host-upgraded')
      if (!this.#hosts.some(isOld) && this.#rollsBack) this.#rollBack()
      this.#upgradeNext(untilMs)
    })
  }

  /** While the rules may just be raised. */
  #rollBack(): void {
    this.#schedule.after(this.#random.between(0, 1_500), () => {
      this.#restart(this.#random.pick(this.#hosts), this.#first, 'kill')
      this.#probes.add('host-rolled-back')
    })
  }

  /** A member that is no server registers as an old host when the rules are raised. */
  #disturb(untilMs: number): void {
    this.#schedule.after(this.#random.between(500, 4_000), () => {
      if (this.#schedule.nowMs >= untilMs) return
      if (this.#oracle.state.rules === RULES)
        this.#hostile.propose({ kind: 'host-register', host: this.#hostile.row(this.#random.pick(OLD)) })
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
      const needed = rulesNeeded(command)
      this.#propose(host, command)?.then(
        () => {
          if (needed > UNGATED_RULES) this.#probes.add(`${nameOf(needed)}-accepted`)
        },
        () => undefined
      )
      this.#askNext(untilMs)
    })
  }

  /** As ControlPlane does; null where it is refused at once, or the host is down or too old to say it. */
  #propose(host: SimHost, command: Command): Promise<unknown> | null {
    const { process } = host
    const needed = rulesNeeded(command)
    if (process === null || needed > rulesOfVersion(host.version)) return null
    if (whyNotYet(process.state, command) === null) {
      return process.replicator.log.propose(command).then(({ result }) => {
        if (result.kind === 'endpoint') this.#checkLabels(command, result.endpoint)
      })
    }
    this.#probes.add(`${nameOf(needed)}-refused-before-the-rules`)
    return null
  }

  /** What was accepted with labels has them. */
  #checkLabels(command: Command, { containerId, labels = {} }: Endpoint): void {
    if (command.kind !== 'endpoint-attach' && command.kind !== 'endpoint-update') return
    for (const [key, value] of Object.entries<string | null>(command.labels ?? {}))
      if ((labels[key] ?? null) !== value)
        this.#oracle.fail(`${containerId} has not got the label ${key}=${value ?? ''}`)
  }

  #command(host: SimHost): Command {
    const random = this.#random
    const facts = { egressRate: 0, mtu: 0, egress: false, hostAccess: false }
    const kind = 'network-create'
    const address6 = parseIpv6(`fd00:9::${random.below(40).toString(16)}`)
    const held = [...this.#oracle.state.endpointsOnHost(host.peerId)].filter(({ containerId }) =>
      containerId.startsWith('v')
    )
    const tier = random.pick(['web', 'db', ''])
    const labels = random.pick<LabelChanges>([
      { tier },
      { tier: null },
      { tier: null, 'example.com/n': `${this.#next}` }
    ])
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
      this.#attach(host, FOUR, { labels: { tier, app: 'a' } }),
      this.#attach(host, BOTH, { address6, labels: { tier } }),
      this.#serve(FOUR, random.pick(['s1', 's2'])),
      this.#serve(BOTH, 's3'),
      this.#serve(SIX, 's4', [parseIp(`fd00:6::1:0:0:${random.below(40).toString(16)}`)]),
      { kind: 'service-update', network: FOUR, name: parseServiceName('s1'), affinitySeconds: random.below(9) },
      { kind: 'service-delete', network: random.pick([FOUR, BOTH]), name: parseServiceName(random.pick(['s1', 's3'])) },
      this.#police(FOUR, random.pick(['p1', 'p2'])),
      { kind: 'policy-update', network: FOUR, name: parsePolicyName('p1'), closes: random.pick([[], ['egress']]) },
      { kind: 'policy-delete', network: FOUR, name: parsePolicyName('p1') },
      ...held.slice(0, 2).map(({ containerId }) => {
        return { kind: 'endpoint-update', containerId, ifname: IFNAME, labels } as const
      }),
      ...held.slice(0, 2).map(({ containerId }) => ({ kind: 'endpoint-detach', containerId, ifname: IFNAME }) as const)
    ])
  }

  #serve(network: CommandOf<'service-create'>['network'], name: string, addresses?: readonly Ip[]): Command {
    const ports = [{ protocol: 'tcp', port: 80, targetPort: 8080 }] as const
    const facts = { headless: false, ports, affinitySeconds: 0, select: [{ key: 'tier', value: 'web' }] }
    const asked = addresses === undefined ? {} : { addresses }
    return { kind: 'service-create', network, name: parseServiceName(name), ...facts, ...asked }
  }

  #police(network: CommandOf<'policy-create'>['network'], name: string): Command {
    const select = [{ key: 'tier', value: 'web' }]
    return { kind: 'policy-create', network, name: parsePolicyName(name), select, closes: ['ingress'], rules: [] }
  }

  #attach(
    { peerId }: SimHost,
    network: Attach['network'],
    asked: Pick<Attach, 'address' | 'address6' | 'labels'>
  ): Attach {
    const facts = { ifname: IFNAME, name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    const containerId = parseContainerId(`v${this.#next++}`)
    return { kind: 'endpoint-attach', network, host: peerId, containerId, ...facts, ...asked }
  }
}

/** Of what the first of these rules allow. */
function nameOf(rules: number): 'ipv6' | 'labels' | 'services' | 'policies' {
  if (rules >= POLICIES) return 'policies'
  if (rules >= SERVICES) return 'services'
  return rules < LABELS ? 'ipv6' : 'labels'
}
