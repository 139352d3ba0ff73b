import t from 'tap'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { changeSince, isRepair } from '#overlay/gateway/router-change.ts'
import type { DesiredGateways, DesiredRouter } from '#overlay/plan/gateway/desired-gateway.ts'
import type { GatewayOp } from '#overlay/plan/gateway/plan-gateway.ts'
import { gatewaysOf, open, plain, routerOf } from './desired.ts'

t.test(
  'routers that are desired as before are not observed; an added container needs the host’s routes only',
  async t => {
    const [one, two] = [gatewaysOf(['10.1.0.2']), gatewaysOf(['10.1.0.2', '10.1.0.3'])]
    const other = gatewaysOf(['10.1.0.2'], [{ ...open, egressRate: 1_000_000 }, plain])
    const cases = [
      ['nothing is known', new Map<Vni, DesiredRouter>(), one, null, 'routers'],
      ['all is the same', one.routers, one, null, 'nothing'],
      ['a container more', one.routers, two, null, 'host-routes'],
      ['a container less', two.routers, one, null, 'host-routes'],
      ['another rate', one.routers, other, null, 'routers'],
      ['one of two is unknown', new Map([[open.vni, routerOf(one, open.vni)]]), one, null, 'routers'],
      [
        'no router is wanted or known here',
        new Map<Vni, DesiredRouter>(),
        { routers: new Map() },
        parseVni(9),
        'nothing'
      ],
      ['a router is left', one.routers, { routers: new Map() }, open.vni, 'routers'],
      ['no router at all, of the whole host', new Map<Vni, DesiredRouter>(), { routers: new Map() }, null, 'routers']
    ] as const
    for (const [title, before, wanted, scope, expected] of cases) {
      t.equal(changeSince(before, wanted, scope), expected, title)
    }
  }
)

t.test('an op is a repair when its router was right and is desired the same', async t => {
  const [one, two] = [gatewaysOf(['10.1.0.2']), gatewaysOf(['10.1.0.2', '10.1.0.3'])]
  const router = routerOf(one, open.vni)
  const repair: GatewayOp = { kind: 'router-repair', router, name: 'vxr', differs: ['port up'], shrinks: false }
  const create: GatewayOp = { kind: 'router-create', router }
  const { vni, outside } = router
  const transit = parseIpv4('240.0.0.1')
  const routes: GatewayOp = { kind: 'host-routes-add', vni, outside, transit, addresses: router.reached }
  const remove: GatewayOp = { kind: 'router-delete', vni: parseVni(9), namespaces: ['vxr'], devices: [] }
  const rules: GatewayOp = { kind: 'rules-set', family: 'ipv4', text: '' }
  const cases: readonly (readonly [string, GatewayOp, DesiredGateways, ReadonlyMap<Vni, DesiredRouter>, boolean])[] = [
    ['a broken router', repair, one, one.routers, true],
    ['a router that vanished', create, one, one.routers, true],
    ['a route that vanished', routes, one, one.routers, true],
    ['the first router', create, one, new Map(), false],
    ['a broken router, while a container comes', repair, two, one.routers, true],
    ['the route of a container that comes', routes, two, one.routers, false],
    ['a router that is left over', remove, one, one.routers, false],
    ['the host’s rules', rules, one, one.routers, false]
  ]
  for (const [title, op, wanted, before, expected] of cases) t.equal(isRepair(op, { wanted, before }), expected, title)
})
