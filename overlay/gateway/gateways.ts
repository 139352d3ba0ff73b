// The routers of this host: observe, plan, execute. What it remembers is only whose rules are known to be untouched; all
// else is in the kernel, so a restarted agent goes on where the last one was.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { namedNetns } from '#platform/named-netns.ts'
import { readSysctls, writeSysctls } from '#platform/netns.ts'
import type { Feature, GatewayOptions, GatewayReport } from '../driver.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { DesiredGateways, DesiredRouter } from '../plan/gateway/desired-gateway.ts'
import type { Carrier } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { changeHostRoutes, createRouter, removeRouter, repairRouter, type RouterWork } from './execute.ts'
import { desiredFacts, RULES } from '../plan/gateway/facts.ts'
import { listChains, runNft } from '../kernel/nft.ts'
import { readGeneration, readTable } from '../kernel/generation.ts'
import {
  findLeftovers,
  hostNetnsNumber,
  observeRouter,
  readHostRoutes,
  readUplinks,
  underlayPrefixes
} from './observe.ts'
import type { RouterLook } from './router-facts.ts'
import { readTables, readWays } from '../kernel/tables.ts'
import {
  describeGatewayOp,
  networkOf,
  planGateways,
  planHostRouteOps,
  removesGateway,
  type GatewayOp,
  type GatewayPlan,
  type ObservedGateways,
  type ObservedHost,
  type ObservedRouter
} from '../plan/gateway/plan-gateway.ts'
import { closedIn, foreignForwardDrops, HOST_TABLE, noHostRules, routerRules } from '../plan/gateway/rules.ts'

type GatewayProblem = GatewayReport['problems'][number]

/** Rules that we made, and the generation of the namespace's rule set since then. */
type Known = { readonly text: string; readonly generation: number | null; readonly listing: string | null }

export class Gateways {
  readonly #kernel: Kernel
  readonly #support: () => ShapingSupport
  readonly #carrier: Carrier
  #host: Known & { readonly closed: readonly string[] } = { text: '', generation: null, listing: null, closed: [] }
  /** By path of the namespace. */
  readonly #rules = new Map<string, Omit<Known, 'listing'>>()
  /** The networks that were right when last looked at, with what was desired then. */
  readonly #settled = new Map<Vni, { readonly router: string; readonly ways: string }>()

  /** @param carrier not the bridge: a router's port is on a switch, which is not for us to make */
  constructor(kernel: Kernel, p: { readonly support: () => ShapingSupport; readonly carrier: Carrier }) {
    this.#kernel = kernel
    this.#support = p.support
    this.#carrier = p.carrier
  }

  /**
   * Makes all routers right, or (`scope`) one network's. Never throws for one network's trouble. @throws ERR_KERNEL when
   * the host cannot be read
   */
  async settle(desired: DesiredGateways, p: GatewayOptions): Promise<GatewayReport> {
    const { scope } = p
    const wanted = scope === undefined ? desired : only(desired, scope)
    const trusted = p.trust === true && this.#isAsBefore(wanted, scope)
    if (
      trusted &&
      [...wanted.routers.values()].every(router => this.#settled.get(router.vni)?.ways === waysOf(router))
    ) {
      return { done: [], repaired: [], problems: [] }
    }
    const observed = trusted ? null : await this.#observe(wanted, scope)
    const { ops, conflicts, refused } =
      observed === null
        ? this.#planWaysIn(wanted, desired)
        : planGateways(wanted, observed, { all: desired, carrier: this.#carrier })
    const allowed = p.mayRemove ? ops : ops.filter(op => !removesGateway(op))
    const problems: GatewayProblem[] = [
      ...conflicts.map(({ vni, reason }) => ({ vni, message: reason })),
      ...refused.map(({ vni, reason }) => ({ vni, message: reason, hostAccess: true })),
      ...unshaped(wanted, this.#support)
    ]
    const { done, repaired } = await this.#execute(allowed, { wanted, problems })
    const troubled = new Set(problems.map(({ vni }) => vni))
    if (scope === undefined) this.#settled.clear()
    else if (wanted.routers.size === 0) this.#settled.delete(scope)
    for (const router of wanted.routers.values()) {
      const seen = observed === null || observed.routers.has(router.vni)
      const right = seen && !troubled.has(router.vni) && !troubled.has(null)
      if (right) this.#settled.set(router.vni, { router: this.#fingerprint(router), ways: waysOf(router) })
      else this.#settled.delete(router.vni)
    }
    return { done, repaired, problems }
  }

  /**
   * Somebody else of this agent has changed rules that are not a router's, and nobody else has in between: then the host's
   * need not be listed again, a process for each container that comes or goes.
   */
  follow(from: number, to: number): void {
    if (this.#host.generation === from) this.#host = { ...this.#host, generation: to }
  }

  /** For `doctor`: can rules be made, and do others let pass what we forward? An accept of ours cannot overrule a drop. */
  async features(): Promise<readonly Feature[]> {
    const name = 'egress'
    try {
      const drops = foreignForwardDrops(await listChains(this.#kernel.netns))
      const remedy = 'accept what comes in and goes out by devices named vo* there (Docker: chain DOCKER-USER)'
      const detail = drops.length === 0 ? 'works' : `${drops.join(', ')} drops what is forwarded: ${remedy}`
      return [{ name, present: drops.length === 0, required: false, detail }]
    } catch (err) {
      return [{ name, present: false, required: false, detail: asVxmeshError(err).message }]
    }
  }

  /** Are the routers, but for the ways in through them, what they were when they were right? */
  #isAsBefore(wanted: DesiredGateways, scope: Vni | undefined): boolean {
    const routers = [...wanted.routers.values()]
    // A router that was wanted and is not any more is still to be taken away.
    if (routers.length === 0) return scope !== undefined && !this.#settled.has(scope)
    return routers.every(router => this.#settled.get(router.vni)?.router === this.#fingerprint(router))
  }

  /** A container more or less behind a router that is right: what the host's own table says is all that matters. */
  #planWaysIn(wanted: DesiredGateways, all: DesiredGateways): GatewayPlan {
    const observed = readHostRoutes(readWays(this.#kernel.socket), all.transit)
    return { ...planHostRouteOps(all, { wanted: [...wanted.routers.values()], leaving: [], observed }), conflicts: [] }
  }

  async #observe(desired: DesiredGateways, scope: Vni | undefined): Promise<ObservedGateways> {
    const kernel = this.#kernel
    const tables = readTables(kernel.socket)
    const look: RouterLook = {
      kernel,
      tables,
      hostNetns: hostNetnsNumber(kernel),
      support: this.#support(),
      rulesRight: (router, { path, generation }) => {
        const known = this.#rules.get(path)
        return known?.text === routerRules(router) && known.generation === generation
      }
    }
    const host = await this.#observeHost()
    const routers = new Map<Vni, ObservedRouter>()
    for (const router of desired.routers.values()) {
      // The state is newer than the last pass over the networks; the next one makes the bridge, and then it is its turn.
      if (this.#carrier === 'bridge' && !tables.links.has(router.bridge)) continue
      routers.set(router.vni, observeRouter(look, router))
      // A router is a few reads in its namespace: a host with many must not stand still meanwhile.
      await nextTurn()
    }
    return {
      host: {
        ...host,
        uplinks: readUplinks(kernel, tables),
        underlay: underlayPrefixes(tables, desired.underlay),
        routes: readHostRoutes(tables, desired.transit)
      },
      routers,
      leftovers: findLeftovers(look, new Set(desired.routers.keys())).filter(({ vni }) => vni === (scope ?? vni))
    }
  }

  /** The rules are listed only after somebody, perhaps ourselves, changed any. */
  async #observeHost(): Promise<Pick<ObservedHost, 'ipForward' | 'closed' | 'rules' | 'table'>> {
    const { netns } = this.#kernel
    const generation = readGeneration(netns)
    if (generation === null || generation !== this.#host.generation) {
      const listing = await readTable(netns, HOST_TABLE)
      const text = listing !== null && listing === this.#host.listing ? this.#host.text : ''
      // Whoever took the table away took the note with it, and not what it is about.
      this.#host = { text, generation, listing, closed: listing === null ? this.#host.closed : closedIn(listing) }
    }
    const { text, listing, closed } = this.#host
    return {
      ipForward: readSysctls(netns, ['net/ipv4/ip_forward'])[0] === '1',
      closed,
      rules: text === '' ? null : text,
      table: listing !== null
    }
  }

  /** In order; when the rules of the host cannot be made, nothing is opened that they would guard. */
  async #execute(
    ops: readonly GatewayOp[],
    { wanted, problems }: { readonly wanted: DesiredGateways; readonly problems: GatewayProblem[] }
  ): Promise<Pick<GatewayReport, 'done' | 'repaired'>> {
    const done: string[] = []
    const repaired: { kind: string; what: string }[] = []
    for (const op of ops) {
      try {
        await this.#executeOp(op)
        const what = describeGatewayOp(op)
        done.push(what)
        if (this.#isDrift(op, wanted)) repaired.push({ kind: op.kind, what })
      } catch (thrown) {
        const err: VxmeshError = asVxmeshError(thrown)
        const hostAccess = op.kind === 'host-routes-add' || op.kind === 'host-routes-delete'
        problems.push({ vni: networkOf(op), message: `${describeGatewayOp(op)}: ${err.message}`, hostAccess })
        if (op.kind === 'rules-set') break
      }
    }
    return { done, repaired }
  }

  /** Was it right when last looked at, and is it to be the same still? Then somebody else has changed it. */
  #isDrift(op: GatewayOp, wanted: DesiredGateways): boolean {
    const vni = networkOf(op)
    const router = vni === null ? undefined : wanted.routers.get(vni)
    const before = vni === null ? undefined : this.#settled.get(vni)
    if (router === undefined || before?.router !== this.#fingerprint(router)) return false
    return op.kind === 'router-create' || op.kind === 'router-repair' || before.ways === waysOf(router)
  }

  async #executeOp(op: GatewayOp): Promise<void> {
    const kernel = this.#kernel
    const { netns } = kernel
    switch (op.kind) {
      case 'rules-set':
      case 'rules-delete': {
        await runNft(netns, op.kind === 'rules-set' ? op.text : noHostRules(), `write ${HOST_TABLE}`)
        const generation = readGeneration(netns)
        const listing = await readTable(netns, HOST_TABLE)
        const text = op.kind === 'rules-set' ? op.text : ''
        this.#host = { text, generation, listing, closed: closedIn(listing) }
        break
      }
      case 'forwarding-set':
        writeSysctls(netns, [{ key: `net/ipv4/conf/${op.device}/forwarding`, value: op.on ? '1' : '0' }])
        break
      case 'router-create': {
        const { router, name } = op
        await createRouter(this.#work(router), { name, hostNetns: hostNetnsNumber(kernel) })
        this.#remember(router, namedNetns(name))
        break
      }
      case 'router-repair': {
        const { router, name, differs } = op
        const path = namedNetns(name)
        const rules = differs.includes(RULES)
        await repairRouter(this.#work(router), { path, rules, devices: differs.some(fact => fact !== RULES) })
        if (rules) this.#remember(router, path)
        break
      }
      case 'router-delete':
        await removeRouter(kernel, op)
        for (const name of op.namespaces) this.#rules.delete(namedNetns(name))
        break
      case 'host-routes-add':
      case 'host-routes-delete':
        changeHostRoutes(kernel, op)
        break
    }
  }

  #work(router: DesiredRouter): RouterWork {
    return { kernel: this.#kernel, router, support: this.#support(), carrier: this.#carrier }
  }

  #fingerprint(router: DesiredRouter): string {
    return JSON.stringify([{ ...router, reached: [] }, ...desiredFacts(router, this.#carrier)])
  }

  #remember(router: DesiredRouter, path: string): void {
    this.#rules.set(path, { text: routerRules(router), generation: readGeneration(path) })
  }
}

function waysOf({ reached }: DesiredRouter): string {
  return reached.join()
}

function only(desired: DesiredGateways, vni: Vni): DesiredGateways {
  const router = desired.routers.get(vni)
  return { ...desired, routers: router === undefined ? new Map() : new Map([[vni, router]]) }
}

/** A limit that the kernel cannot hold is said, not dropped in silence. */
function unshaped(desired: DesiredGateways, support: () => ShapingSupport): readonly GatewayProblem[] {
  const limited = [...desired.routers.values()].filter(({ egressRate }) => egressRate > 0)
  if (limited.length === 0 || support().rate) return []
  return limited.map(({ vni }) => ({ vni, message: 'this kernel cannot shape: the egress rate is not held' }))
}
