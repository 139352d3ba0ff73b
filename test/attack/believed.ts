// What containers and routers of a network believe after all that a neighbour told them over IPv6: MACs, paths, routes, addresses.

import { parseVni } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { macOf } from '#model/mac.ts'
import { parseRouterName } from '#overlay/plan/gateway/desired-gateway.ts'
import { ip, ipJson, json } from '../lab/kernel.ts'
import { countReplies } from '../lab/ping.ts'
import { routers } from './floods.ts'
import type { Outcome, Row } from './row.ts'
import type { Name, World } from './world.ts'

const NETWORKS = { dual: ['near6', 'far6', 'me6'], six: ['near-six', 'far-six', 'six'] } as const

export const BELIEVED: readonly Row<World>[] = (['dual', 'six'] as const).map(network => ({
  name: `${network}: 6: what others and the router believe after all of it`,
  run: world => believed(world, NETWORKS[network])
}))

type Neighbour = { readonly dst: string; readonly lladdr?: string }

/** @param names the last one is the attacker */
async function believed(world: World, names: readonly Name[]): Promise<Outcome> {
  const me = names.at(-1) ?? 'me6'
  const vni = parseVni(world.endpoint(me).vni)
  const gateway = world.gateway6(me)
  const right = new Map<string, string>(names.map(name => [world.address6(name), world.endpoint(name).mac]))
  right.set(gateway, macOf(vni, parseIp(world.endpoint(me).gateway)))
  const router = (await routers(world.host(1))).find(name => parseRouterName(name) === vni) ?? ''
  const places = [...names.slice(0, -1).map(name => world.container(name).namespace), router]
  for (const namespace of places) for (const to of right.keys()) await countReplies({ namespace }, to, { count: 1 })
  const wrong: string[] = []
  let known = 0
  for (const namespace of places) {
    for (const { dst, lladdr } of await json<Neighbour>('ip', namespace, '-6 neigh show')) {
      if (lladdr === undefined || !right.has(dst)) continue
      if (right.get(dst) === lladdr) known += 1
      else wrong.push(`${dst} at ${lladdr}`)
    }
    for (const { dst, protocol } of await ipJson(namespace, '-6', 'route', 'show'))
      if (protocol === 'ra' || protocol === 'redirect') wrong.push(`a route to ${String(dst)}`)
    for (const to of right.keys()) {
      const path = await ip(namespace, `-6 route get ${to}`)
      if (path.includes(' mtu ')) wrong.push(`a path to ${to}`)
    }
    const addresses = (await ip(namespace, '-6 -o addr show dynamic')).trim()
    if (addresses !== '') wrong.push(addresses)
  }
  return {
    control: { ok: known >= places.length, figure: `${known} neighbours known to ${places.length}` },
    attack: { ok: wrong.length === 0, figure: wrong.length === 0 ? '0 of it is wrong' : wrong.join('; ') }
  }
}
