// Compares the desired routers with those that were right last time: which of them must be observed, and which ops are
// repairs.

import { isDeepStrictEqual } from 'node:util'
import type { Vni } from '#model/ids.ts'
import type { DesiredGateways, DesiredRouter } from '../plan/gateway/desired-gateway.ts'
import { isHostRoute, networkOf, type GatewayOp } from '../plan/gateway/plan-gateway.ts'

/** The desired state of each router when it was last found right. */
export type RoutersBefore = ReadonlyMap<Vni, DesiredRouter>

/** How the desired state differs from that of the last pass after which the routers were right. */
export function changeSince(
  before: RoutersBefore,
  { routers }: Pick<DesiredGateways, 'routers'>,
  scope: Vni | null
): 'nothing' | 'host-routes' | 'routers' {
  // A router that was wanted and no longer is must be removed.
  if (routers.size === 0) return scope !== null && !before.has(scope) ? 'nothing' : 'routers'
  const known = [...routers.values()].map(router => [router, before.get(router.vni)] as const)
  if (known.every(([router, last]) => isSameRouter(router, last) && hasSameHostRoutes(router, last))) return 'nothing'
  return known.every(([router, last]) => isSameRouter(router, last)) ? 'host-routes' : 'routers'
}

/** Did another program cause the op? @param read the desired routers now, and when they were last right */
export function isRepair(
  op: GatewayOp,
  read: { readonly wanted: Pick<DesiredGateways, 'routers'>; readonly before: RoutersBefore }
): boolean {
  const vni = networkOf(op)
  const router = vni === null ? undefined : read.wanted.routers.get(vni)
  const last = vni === null ? undefined : read.before.get(vni)
  if (router === undefined || !isSameRouter(router, last)) return false
  return !isHostRoute(op) || hasSameHostRoutes(router, last)
}

/** Compares everything except `reached`. */
function isSameRouter(router: DesiredRouter, last: DesiredRouter | undefined): boolean {
  return last !== undefined && isDeepStrictEqual({ ...router, reached: [] }, { ...last, reached: [] })
}

function hasSameHostRoutes(router: DesiredRouter, last: DesiredRouter | undefined): boolean {
  return isDeepStrictEqual(router.reached, last?.reached)
}
