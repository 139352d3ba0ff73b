// The attack matrix over IPv6 with driver linux and guard nft: every kind, counted by packet sockets where it would arrive. Three
// runs in the same lab: without the guard (a kind that arrives nowhere even then proves nothing), with it, and with it behind
// foreign rules that accept everything. Legitimate traffic must arrive in each of them.

import { existsSync } from 'node:fs'
import t from 'tap'
import { addressesOf } from '#model/addresses.ts'
import { formatIp } from '#model/ip.ts'
import { ip, ipJson, json, must } from '../lab/kernel.ts'
import { JUMBO_MTU } from '../lab/packets/attacks.ts'
import { attempt } from '../lab/packets/stand.ts'
import { NETWORKS6 } from '../lab/packets/stand6.ts'
import { cannotRun } from '../lab/requirements.ts'
import { stage6 } from '../lab/scenarios/attacks.ts'
import { ping6 } from '../lab/scenarios/plane.ts'
import { PORT, type Stage } from '../lab/stage.ts'
import { ACCEPT_ALL, nft } from './guard-lab.ts'

const PACKETS = 200
/** Kinds that arrive without a guard: fewer would mean that the test's own packets are wrong. */
const EFFECTIVE_MIN = 100

t.test('no forged IPv6 packet of a container arrives anywhere', { skip: cannotRun() }, async t => {
  const { s, stand, listeners } = await stage6(t, 'linux')
  for (const { namespace } of s.lab.hosts) await noBridgeNetfilter(namespace)
  let first = 1
  const run = async (): Promise<ReadonlyMap<string, number>> => {
    const { arrived, next } = await attempt(stand, listeners, { packets: PACKETS, first })
    first = next
    return arrived
  }
  const guard = async (port: number | null): Promise<void> => {
    for (const host of [1, 2]) {
      await s.driver(host).setGuard(port)
      await s.pass(host)
    }
  }
  t.equal(await ping6(s, 'me', 'far', { count: 3 }), 3)
  await ip(s.container('me').namespace, `link set eth0 mtu ${JUMBO_MTU}`)
  await guard(null)
  const open = await run()
  t.not((await wrongNeighbours(s)).length, 0, 'without a guard caches are poisoned')
  t.not((await loweredPaths(s)).length, 0, 'and paths are lowered')
  for (const { namespace } of s.containers.values()) {
    await ip(namespace, '-6 neigh flush all')
    await ip(namespace, '-6 route flush cache')
  }
  await guard(PORT)
  const guarded = await run()
  t.strictSame(await wrongNeighbours(s), [], 'no container has learned a wrong MAC')
  t.strictSame(await loweredPaths(s), [], 'nor a smaller path MTU')
  t.strictSame(await strangeRoutes(s), [], 'nor an address or a route')
  await guard(null)
  for (const host of [1, 2]) await nft(s.lab.host(host), ACCEPT_ALL)
  await guard(PORT)
  const behind = await run()
  t.equal(await ping6(s, 'me', 'near', { count: 3 }), 3)

  t.comment(`${PACKETS} attempts each; arrived without the guard, with it, with it behind rules that accept all:`)
  for (const [kind, count] of open) {
    t.comment(`${kind.padEnd(66)} ${String(count).padStart(6)} ${guarded.get(kind)} ${behind.get(kind)}`)
  }
  const effective = [...open.values()].filter(count => count > 0).length
  t.ok(effective >= EFFECTIVE_MIN, `${effective} of ${open.size} kinds arrive without a guard`)
  for (const [name, arrived] of Object.entries({ guarded, behind })) {
    const leaked = [...arrived].filter(([, count]) => count > 0)
    t.strictSame(leaked, [], `${name}: 0 packets of ${arrived.size} kinds arrive`)
  }
})

/** It drops some malformed packets by itself, where the kernel has it. */
async function noBridgeNetfilter(namespace: string): Promise<void> {
  if (!existsSync('/proc/sys/net/bridge')) return
  await must('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', 'net.bridge.bridge-nf-call-ip6tables=0'])
}

/** Neighbour entries of containers with a wrong MAC. */
async function wrongNeighbours(s: Stage): Promise<readonly string[]> {
  const right = new Map<string, Set<string>>()
  for (const endpoint of s.endpoints) {
    const network = NETWORKS6.find(({ name }) => name === endpoint.network)
    if (network === undefined) continue
    for (const address of addressesOf(network, endpoint).map(formatIp)) {
      right.set(address, (right.get(address) ?? new Set()).add(endpoint.mac))
    }
  }
  const found: string[] = []
  for (const { name, namespace } of s.containers.values()) {
    for (const { dst, lladdr } of await json<{ dst: string; lladdr?: string }>('ip', namespace, '-6 neigh show')) {
      if (lladdr !== undefined && right.get(dst)?.has(lladdr) !== true) found.push(`${name}: ${dst} is at ${lladdr}`)
    }
  }
  return found
}

/** Destinations for which a container has learned a smaller MTU. */
async function loweredPaths(s: Stage): Promise<readonly string[]> {
  const found: string[] = []
  for (const from of ['near', 'far'] as const) {
    for (const to of ['me', 'near', 'far'] as const) {
      const route = await ip(s.container(from).namespace, `-6 route get ${s.address6(to)}`)
      if (route.includes(' mtu ')) found.push(`${from} to ${to}: ${route.trim()}`)
    }
  }
  return found
}

/** Addresses and routes that the cluster has not given. */
async function strangeRoutes(s: Stage): Promise<readonly string[]> {
  const found: string[] = []
  for (const { name, namespace } of s.containers.values()) {
    for (const { dst, protocol } of await ipJson(namespace, '-6', 'route', 'show')) {
      if (protocol !== 'kernel') found.push(`${name}: ${String(dst)} by ${String(protocol)}`)
    }
    const addresses = (await ip(namespace, '-6 -o addr show dev eth0 scope global')).trim().split('\n').filter(Boolean)
    if (addresses.length > 1) found.push(...addresses.map(line => `${name}: ${line}`))
  }
  return found
}
