// What a container may try against its host, other tenants and the paths between hosts, with root and raw sockets of its own.

import { existsSync } from 'node:fs'
import type { LabHost } from '../lab/host.ts'
import { ip, ipBatch, must } from '../lab/kernel.ts'
import { mark } from '../lab/packets/frames.ts'
import { Listener } from '../lab/packets/raw-socket.ts'
import { countReplies } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'
import { gatewayMac, halfOpen, killedAttaches, tracked } from './floods.ts'
import { attacker, scene } from './python.ts'
import { describe, lost, probe, PROBES } from './probes.ts'
import type { Outcome, Row } from './row.ts'
import { linkOf } from './senders.ts'
import { IPV4, IPV6, type Side } from './side.ts'
import { ECHO, type Name, type World } from './world.ts'
import { run } from '../lab/run.ts'

const RANDOM_SHAPES = 300
const KILLED = 60
/** A busy machine may delay an answer that was right when it was made. */
const MAX_UNNOTICED = KILLED / 10
const BRIDGE = 'docker0'
/** An agent of an idle host takes 300 ms. */
const TOLD_MS = 5_000

/** They need hosts with addresses of IPv4 on the underlay. */
export const PATHS: readonly Row<World>[] = [
  { name: '5 container with egress: ICMP fragmentation needed', run: world => pathMtu(world, IPV4, 'me') },
  {
    name: '5 container with egress and hostAccess: ICMP fragmentation needed',
    run: world => pathMtu(world, IPV4, 'probed')
  },
  {
    name: '5 container with hostAccess alone: ICMP fragmentation needed',
    run: world => pathMtu(world, IPV4, 'closed')
  }
]

export const TENANTS: readonly Row<World>[] = rowsOf(IPV4)

export const TENANTS6: readonly Row<World>[] = [
  { name: '5 container with egress: ICMPv6 packet too big', run: world => pathMtu(world, IPV6, 'me6') },
  { name: '5 container with egress, IPv6 alone: ICMPv6 packet too big', run: world => pathMtu(world, IPV6, 'six') },
  {
    name: '5 container with egress and hostAccess: ICMPv6 packet too big',
    run: world => pathMtu(world, IPV6, 'probed6')
  },
  { name: '5 container with hostAccess alone: ICMPv6 packet too big', run: world => pathMtu(world, IPV6, 'closed6') },
  ...rowsOf(IPV6)
]

function rowsOf(side: Side): readonly Row<World>[] {
  const { label } = side
  return [
    { name: `7 container: the host’s other local networks${label}`, run: world => localNetworks(world, side) },
    { name: `8 containers that die while they are attached${label}`, run: world => dying(world, side) },
    { name: `9 container: other IP protocols, to another tenant${label}`, run: world => otherProtocols(world, side) },
    { name: `F1 two networks with hostAccess and one subnet${label}`, run: world => overlap(world, side) },
    {
      name: `F2 ${side.bridgeSwitch.replace('net.bridge.', '')} and another program’s NAT`,
      run: world => bridgeNetfilter(world, side)
    },
    { name: `6 container: half-open connections${label}`, run: world => connections(world, side) }
  ]
}

async function pathMtu(world: World, side: Side, name: Name): Promise<Outcome> {
  const [h1, h2] = [world.host(1), world.host(2)]
  const [host, peer] = [side.host(world, 1), side.host(world, 2)]
  const learned = async (): Promise<string | null> =>
    /mtu (\d+)/.exec(await ip(h1.namespace, `route get ${peer}`))?.[1] ?? null
  const flush = (): Promise<unknown> => ip(h1.namespace, `-${side === IPV4 ? 4 : 6} route flush cache`)
  const container = world.container(name)
  const gateway = side.gateway(world, name)
  const more = [side.server, gateway].join(',')
  const sent = await scene(
    container,
    'too_big',
    ...[await gatewayMac(container, gateway), side.address(world, name), host, peer, more, side.smallMtu, RANDOM_SHAPES]
  )
  // Answered after everything before it.
  await countReplies(container, gateway, { count: 3 })
  const poisoned = await learned()
  await flush()
  const { mac } = await linkOf(h1)
  await scene(h2, 'too_big', mac, peer, host, peer, more, side.smallMtu, 0)
  const believed = await waitFor('the host believes its peer', learned).catch(() => null)
  await flush()
  return {
    control: { ok: believed !== null, figure: `the same of the peer host: MTU ${believed ?? 'not learned'}` },
    attack: { ok: poisoned === null, figure: `${sent} packets: MTU ${poisoned ?? 'not learned'}` }
  }
}

async function connections(world: World, side: Side): Promise<Outcome> {
  const calm = lost(await probe(world, side))
  const own = await attacker<number>(world.container(side.me), 'connect', side.server, ECHO, PROBES)
  const packets = await halfOpen(world, side)
  const after = lost(await probe(world, side))
  const entries = await tracked(world.host(1).namespace)
  const most = Number(await must('sysctl', ['-n', 'net.netfilter.nf_conntrack_max']))
  return {
    control: {
      ok: calm.length === 0 && own === PROBES,
      figure: `${describe(calm)} before it, its own ${own} of ${PROBES}`
    },
    attack: {
      ok: after.length === 0 && entries <= most / 2,
      figure: `${packets} packets, ${entries} of ${most} connections tracked: ${describe(after)}`
    }
  }
}

/** A bridge of another program on the host, with a container. */
async function addDocker(world: World, host: LabHost, { docker, forward }: Side): Promise<string> {
  const { namespace } = await world.lab.container('docker')
  await ipBatch(
    [`link add ${BRIDGE} type bridge`, `link add veth-d type veth peer name eth0 netns ${namespace}`],
    host.namespace
  )
  await ipBatch(
    [
      `link set veth-d master ${BRIDGE} up`,
      `addr add ${docker.gateway}/${docker.prefix} dev ${BRIDGE} nodad`,
      `link set ${BRIDGE} up`
    ],
    host.namespace
  )
  await forward(host.namespace, BRIDGE)
  await ipBatch(
    [
      'link set lo up',
      `addr add ${docker.address}/${docker.prefix} dev eth0 nodad`,
      'link set eth0 up',
      `route add default via ${docker.gateway}`
    ],
    namespace
  )
  return namespace
}

async function localNetworks(world: World, side: Side): Promise<Outcome> {
  const h1 = world.host(1)
  const { address } = side.docker
  const namespace = await addDocker(world, h1, side)
  try {
    const host = await countReplies(h1, address)
    const outside = await countReplies(world.container(side.me), side.server)
    const reached = []
    for (const name of [side.me, side.probed]) {
      // The host's agent is told of the new device by the kernel.
      await waitFor(
        `${name} does not reach it`,
        async () => (await countReplies(world.container(name), address, { count: 1, waitMs: 300 })) === 0
      ).catch(() => undefined)
      reached.push(await countReplies(world.container(name), address, { waitMs: 300 }))
    }
    return {
      control: { ok: host === 3 && outside === 3, figure: `${host} of 3 of the host, ${outside} of 3 to the outside` },
      attack: {
        ok: reached.every(count => count === 0),
        figure: `${reached.join(' and ')} of 3 pings reach ${address}`
      }
    }
  } finally {
    await ip(h1.namespace, `link del ${BRIDGE}`)
    await must('ip', ['netns', 'del', namespace])
  }
}

async function dying(world: World, side: Side): Promise<Outcome> {
  const { network } = world.endpoint(side.me)
  const r = await killedAttaches(world.lab, world.host(4), { network, count: KILLED, prefix: `${network}-dying` })
  return {
    control: {
      ok: r.refused > 0,
      figure: `one that lives is attached; of these ${r.attached} were attached, ${r.refused} refused`
    },
    attack: {
      ok: r.left === 0 && r.drift === 0 && r.degraded === 0 && r.unnoticed <= MAX_UNNOTICED,
      figure: `${KILLED} die, ${r.unnoticed} early and unnoticed: ${r.left} endpoints left, drift ${r.drift}, ${r.degraded} networks degraded`
    }
  }
}

async function otherProtocols(world: World, side: Side): Promise<Outcome> {
  const me = world.container(side.me)
  const [one, other] = [world.container(side.near), world.container(side.tenant)]
  const [near, tenant] = await Promise.all([linkOf(one), linkOf(other)])
  const listeners = [Listener.frames(one.netns, near.ifindex), Listener.frames(other.netns, tenant.ifindex)] as const
  try {
    // Not the tenant's own, which is the sender's, too: such a packet reaches nobody, not even over one bridge.
    const target = side.address(world, side.near)
    const counts = async (mac: string, id: number): Promise<readonly [number, number, sent: number]> => {
      const sent = await scene(
        me,
        'other_protocols',
        mac,
        side.address(world, side.me),
        target,
        mark(id).toString('hex')
      )
      await countReplies(me, target, { count: 1 })
      return [listeners[0].count(id), listeners[1].count(id), sent]
    }
    const [own] = await counts(near.mac, 1)
    const [, foreign, sent] = await counts(tenant.mac, 2)
    return {
      control: { ok: own > 0, figure: `${own} reach a container of its own network, by design` },
      attack: { ok: foreign === 0, figure: `${foreign} of ${sent} kinds reach another tenant` }
    }
  } finally {
    for (const listener of listeners) listener.close()
  }
}

async function overlap(world: World, { subnets }: Side): Promise<Outcome> {
  const { api } = world.host(1)
  const create = (name: string, subnet: string): Promise<string> =>
    api.call('POST', '/v1/networks', { name, subnet, hostAccess: true }).then(
      () => 'created',
      (err: unknown) => String((err as { code?: unknown }).code ?? err)
    )
  const [apart, same, inside] = [
    await create('apart', subnets.apart),
    await create('same', subnets.same),
    await create('inside', subnets.inside)
  ]
  for (const name of ['apart', 'same', 'inside'])
    await api.call('DELETE', `/v1/networks/${name}`).catch(() => undefined)
  return {
    control: { ok: apart === 'created', figure: `another subnet: ${apart}` },
    attack: {
      ok: same === 'ERR_ADDRESS_IN_USE' && inside === same,
      figure: `the same subnet: ${same}, part of it: ${inside}`
    }
  }
}

const NAT = `table inet attack_others {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    RULE
  }
}`

async function bridgeNetfilter(world: World, side: Side): Promise<Outcome> {
  if (!existsSync('/proc/sys/net/bridge')) {
    const figure = 'the kernel has no br_netfilter'
    return { control: { ok: true, figure }, attack: { ok: true, figure } }
  }
  const h1 = world.host(1)
  const {
    docker: { address, second: secondAddress, prefix },
    bridgeSwitch
  } = side
  const namespace = await addDocker(world, h1, side)
  const second = await world.lab.container('docker2')
  try {
    await ipBatch(
      [`link add veth-e type veth peer name eth0 netns ${second.namespace}`, `link set veth-e master ${BRIDGE} up`],
      h1.namespace
    )
    await ipBatch([`addr add ${secondAddress}/${prefix} dev eth0 nodad`, 'link set eth0 up'], second.namespace)
    await must('ip', ['netns', 'exec', h1.namespace, 'sysctl', '-qw', `${bridgeSwitch}=1`])
    // The host's agent is told of the new bridge by the kernel, long before its next full pass.
    await waitFor(
      'what others bridge passes',
      async () => (await countReplies(second, address, { count: 1, waitMs: 500 })) === 1,
      {
        timeoutMs: TOLD_MS
      }
    ).catch(() => undefined)
    const before = await countReplies(second, address)
    const ours = [side.address(world, side.near), side.address(world, side.far)] as const
    await h1.nft([NAT.replace('RULE', side.translated([...ours, address]))])
    const docker = await countReplies(second, address, { waitMs: 300 })
    const me = world.container(side.me)
    const [near, far] = [await countReplies(me, ours[0]), await countReplies(me, ours[1])]
    return {
      control: {
        ok: before === 3 && docker === 0,
        figure: `on another bridge ${before} of 3 before the rule, ${docker} of 3 with it`
      },
      attack: { ok: near === 3 && far === 3, figure: `on ours ${near} of 3 on one host, ${far} of 3 across hosts` }
    }
  } finally {
    await run('ip', ['netns', 'exec', h1.namespace, 'nft', 'delete table inet attack_others'])
    await must('ip', ['netns', 'exec', h1.namespace, 'sysctl', '-qw', `${bridgeSwitch}=0`])
    await ip(h1.namespace, `link del ${BRIDGE}`)
    for (const name of [namespace, second.namespace]) await must('ip', ['netns', 'del', name])
  }
}
