// What a container may try against its host, other tenants and the paths between hosts, with root and raw sockets of its own.

import { existsSync } from 'node:fs'
import { run } from '#platform/process.ts'
import type { LabHost } from '../lab/host.ts'
import { ip, ipBatch, must } from '../lab/kernel.ts'
import { SERVER } from '../lab/outside.ts'
import { mark } from '../lab/packets/frames.ts'
import { Listener } from '../lab/packets/raw-socket.ts'
import { countReplies } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'
import { gatewayMac, halfOpen, killedAttaches, tracked } from './floods.ts'
import { attacker, scene } from './python.ts'
import { describe, lost, probe, PROBES } from './probes.ts'
import type { Outcome, Row } from './row.ts'
import { linkOf } from './senders.ts'
import { ECHO, type Name, type World } from './world.ts'

const RANDOM_SHAPES = 300
const KILLED = 60
/** A busy machine may delay an answer that was right when it was made. */
const MAX_UNNOTICED = KILLED / 10
const DOCKER = { bridge: 'docker0', gateway: '172.17.0.1', address: '172.17.0.2' }
const SWITCH = 'net.bridge.bridge-nf-call-iptables'

export const TENANTS: readonly Row<World>[] = [
  { name: '5 container with egress: ICMP fragmentation needed', run: world => pathMtu(world, 'me') },
  { name: '5 container with egress and hostAccess: ICMP fragmentation needed', run: world => pathMtu(world, 'probed') },
  { name: '5 container with hostAccess alone: ICMP fragmentation needed', run: world => pathMtu(world, 'closed') },
  { name: '7 container: the host’s other local networks', run: localNetworks },
  { name: '8 containers that die while they are attached', run: dying },
  { name: '9 container: other IP protocols, to another tenant', run: otherProtocols },
  { name: 'F1 two networks with hostAccess and one subnet', run: overlap },
  { name: 'F2 bridge-nf-call-iptables and another program’s NAT', run: bridgeNetfilter },
  { name: '6 container: half-open connections', run: connections }
]

async function pathMtu(world: World, name: Name): Promise<Outcome> {
  const [h1, h2] = [world.host(1), world.host(2)]
  const learned = async (): Promise<string | null> =>
    /mtu (\d+)/.exec(await ip(h1.namespace, `route get ${h2.address}`))?.[1] ?? null
  const container = world.container(name)
  const gateway = await gatewayMac(container, world.endpoint(name).gateway)
  const sent = await scene(
    container,
    'fragmentation_needed',
    ...[gateway, world.address(name), h1.address, h2.address, RANDOM_SHAPES]
  )
  // Answered after everything before it.
  await countReplies(container, world.endpoint(name).gateway, { count: 3 })
  const poisoned = await learned()
  await ip(h1.namespace, 'route flush cache')
  const { mac } = await linkOf(h1)
  await scene(h2, 'fragmentation_needed', mac, h2.address, h1.address, h2.address, 0)
  const believed = await waitFor('the host believes its peer', learned).catch(() => null)
  await ip(h1.namespace, 'route flush cache')
  return {
    control: { ok: believed !== null, figure: `the same of the peer host: MTU ${believed ?? 'not learned'}` },
    attack: { ok: poisoned === null, figure: `${sent} packets: MTU ${poisoned ?? 'not learned'}` }
  }
}

async function connections(world: World): Promise<Outcome> {
  const calm = lost(await probe(world))
  const own = await attacker<number>(world.container('me'), 'connect', SERVER, ECHO, PROBES)
  const packets = await halfOpen(world)
  const after = lost(await probe(world))
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
async function addDocker(world: World, host: LabHost): Promise<string> {
  const { namespace } = await world.lab.container('docker')
  await ipBatch(
    [`link add ${DOCKER.bridge} type bridge`, `link add veth-d type veth peer name eth0 netns ${namespace}`],
    host.namespace
  )
  await ipBatch(
    [
      `link set veth-d master ${DOCKER.bridge} up`,
      `addr add ${DOCKER.gateway}/16 dev ${DOCKER.bridge}`,
      `link set ${DOCKER.bridge} up`
    ],
    host.namespace
  )
  // As Docker does, for all devices at once: without it the answers would be dropped, whatever the rules say.
  await must('ip', ['netns', 'exec', host.namespace, 'sysctl', '-qw', `net.ipv4.conf.${DOCKER.bridge}.forwarding=1`])
  await ipBatch(
    [
      'link set lo up',
      `addr add ${DOCKER.address}/16 dev eth0`,
      'link set eth0 up',
      `route add default via ${DOCKER.gateway}`
    ],
    namespace
  )
  return namespace
}

async function localNetworks(world: World): Promise<Outcome> {
  const h1 = world.host(1)
  const namespace = await addDocker(world, h1)
  try {
    const host = await countReplies(h1, DOCKER.address)
    const outside = await countReplies(world.container('me'), SERVER)
    const reached = []
    for (const name of ['me', 'probed'] as const) {
      // The host's agent is told of the new device by the kernel.
      await waitFor(
        `${name} does not reach it`,
        async () => (await countReplies(world.container(name), DOCKER.address, { count: 1, waitMs: 300 })) === 0
      ).catch(() => undefined)
      reached.push(await countReplies(world.container(name), DOCKER.address, { waitMs: 300 }))
    }
    return {
      control: { ok: host === 3 && outside === 3, figure: `${host} of 3 of the host, ${outside} of 3 to the outside` },
      attack: {
        ok: reached.every(count => count === 0),
        figure: `${reached.join(' and ')} of 3 pings reach ${DOCKER.address}`
      }
    }
  } finally {
    await ip(h1.namespace, `link del ${DOCKER.bridge}`)
    await must('ip', ['netns', 'del', namespace])
  }
}

async function dying(world: World): Promise<Outcome> {
  const r = await killedAttaches(world.lab, world.host(4), { network: 'red', count: KILLED, prefix: 'dying' })
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

async function otherProtocols(world: World): Promise<Outcome> {
  const me = world.container('me')
  const [near, tenant] = await Promise.all([linkOf(world.container('near')), linkOf(world.container('tenant'))])
  const listeners = [
    Listener.frames(world.container('near').netns, near.ifindex),
    Listener.frames(world.container('tenant').netns, tenant.ifindex)
  ] as const
  try {
    // Not the tenant's own, which is the sender's, too: such a packet reaches nobody, not even over one bridge.
    const target = world.address('near')
    const counts = async (mac: string, id: number): Promise<readonly [number, number]> => {
      await scene(me, 'other_protocols', mac, world.address('me'), target, mark(id).toString('hex'))
      await countReplies(me, world.address('near'), { count: 1 })
      return [listeners[0].count(id), listeners[1].count(id)]
    }
    const [own] = await counts(near.mac, 1)
    const [, other] = await counts(tenant.mac, 2)
    return {
      control: { ok: own > 0, figure: `${own} reach a container of its own network, by design` },
      attack: { ok: other === 0, figure: `${other} of 8 kinds reach another tenant` }
    }
  } finally {
    for (const listener of listeners) listener.close()
  }
}

async function overlap(world: World): Promise<Outcome> {
  const { api } = world.host(1)
  const create = (name: string, subnet: string): Promise<string> =>
    api.call('POST', '/v1/networks', { name, subnet, hostAccess: true }).then(
      () => 'created',
      (err: unknown) => String((err as { code?: unknown }).code ?? err)
    )
  const [apart, same, inside] = [
    await create('apart', '10.33.0.0/24'),
    await create('same', '10.3.0.0/24'),
    await create('inside', '10.3.0.128/25')
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

/** As kube-proxy does for a ClusterIP, but for an address that containers and docker have. */
const NAT = `table ip attack_others {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    icmp type echo-request ip daddr { ADDRESSES } dnat to 10.1.0.77
  }
}`

async function bridgeNetfilter(world: World): Promise<Outcome> {
  if (!existsSync('/proc/sys/net/bridge')) {
    const figure = 'the kernel has no br_netfilter'
    return { control: { ok: true, figure }, attack: { ok: true, figure } }
  }
  const h1 = world.host(1)
  const namespace = await addDocker(world, h1)
  const second = await world.lab.container('docker2')
  try {
    await ipBatch(
      [
        `link add veth-e type veth peer name eth0 netns ${second.namespace}`,
        `link set veth-e master ${DOCKER.bridge} up`
      ],
      h1.namespace
    )
    await ipBatch(['addr add 172.17.0.3/16 dev eth0', 'link set eth0 up'], second.namespace)
    await must('ip', ['netns', 'exec', h1.namespace, 'sysctl', '-qw', `${SWITCH}=1`])
    const before = await countReplies(second, DOCKER.address)
    const all = [world.address('near'), world.address('far'), DOCKER.address].join(', ')
    await h1.nft([NAT.replace('ADDRESSES', all)])
    const docker = await countReplies(second, DOCKER.address, { waitMs: 300 })
    const [near, far] = [
      await countReplies(world.container('me'), world.address('near')),
      await countReplies(world.container('me'), world.address('far'))
    ]
    return {
      control: {
        ok: before === 3 && docker === 0,
        figure: `on another bridge ${before} of 3 before the rule, ${docker} of 3 with it`
      },
      attack: { ok: near === 3 && far === 3, figure: `on ours ${near} of 3 on one host, ${far} of 3 across hosts` }
    }
  } finally {
    await run('ip', ['netns', 'exec', h1.namespace, 'nft', 'delete table ip attack_others'])
    await must('ip', ['netns', 'exec', h1.namespace, 'sysctl', '-qw', `${SWITCH}=0`])
    await ip(h1.namespace, `link del ${DOCKER.bridge}`)
    for (const name of [namespace, second.namespace]) await must('ip', ['netns', 'del', name])
  }
}
