// The routers of this host as a part of a pass. Cached are only the rules known to be unchanged and the routers that
// were right. Everything else is read from the kernel, so a restarted agent resumes where the last one stopped.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Family } from '#model/ip.ts'
import { namedNetns } from '#platform/named-netns.ts'
import { writeSysctls } from '#platform/netns.ts'
import type { Feature } from '../driver.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { readGeneration } from '../kernel/generation.ts'
import { listChains } from '../kernel/nft.ts'
import { familiesWith, readRouteTables, readTables, type RouteTables } from '../kernel/tables.ts'
import type { Look, OpNote, Part, PartPlan, PartProblem, PartResult } from '../pass.ts'
import { routerSubnet, TRANSIT_V6, type DesiredGateways, type DesiredRouter } from '../plan/gateway/desired-gateway.ts'
import { RULES } from '../plan/gateway/facts.ts'
import type { ObservedHostRoutes } from '../plan/gateway/host-access.ts'
import {
  describeGatewayOp,
  isHostRoute,
  networkOf,
  NO_WAY_IN,
  NO_WAY_OUT,
  opensFamilies,
  planGateways,
  planHostRouteOps,
  removesGateway,
  type GatewayOp,
  type ObservedGateways,
  type ObservedRouter
} from '../plan/gateway/plan-gateway.ts'
import { FORWARD_REMEDY, foreignForwardDrops, routerRules } from '../plan/gateway/rules.ts'
import type { Carrier } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { changeHostRoutes, createRouter, removeRouter, repairRouter, type RouterWork } from './execute.ts'
import {
  findLeftovers,
  hostNetnsNumber,
  observeRouter,
  readBridges,
  readExits,
  readHostRoutes,
  readUplinks,
  underlayPrefixes
} from './observe.ts'
import { switchForwardingV6 } from './forwarding-v6.ts'
import { HostRules } from './host-rules.ts'
import { changeSince, isRepair, type RoutersBefore } from './router-change.ts'
import type { RouterLook } from './router-facts.ts'
import { RuleWriter } from './rule-writer.ts'

/** Rules that this agent wrote, and the generation of the namespace's rule set after the write. */
type WrittenRules = { readonly text: string; readonly generation: number | null }

/**
 * What was read: nothing if the last observation is trusted, the host's routes alone if only routes to containers may
 * have changed.
 */
type Reading =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'routes'; readonly routes: ObservedHostRoutes }
  | { readonly kind: 'routers'; readonly observed: ObservedGateways }

export type GatewayReading = {
  /** The routers in the scope of this pass. */
  readonly wanted: DesiredGateways
  readonly before: RoutersBefore
  readonly reading: Reading
  readonly support: ShapingSupport
}

/** `repairs`: the router was right and its desired state is unchanged, so another program changed it. */
export type GatewayStep = { readonly op: GatewayOp; readonly repairs: boolean }

export class Gateways implements Part<GatewayReading, GatewayStep> {
  readonly name = 'gateways'
  readonly concern = 'egress'
  readonly attempts = 1
  readonly #kernel: Kernel
  readonly #support: () => ShapingSupport
  readonly #carrier: Carrier
  readonly #writer = new RuleWriter()
  readonly #hostRules: HostRules
  /** By path of the namespace. */
  readonly #rules = new Map<string, WrittenRules>()
  /** The desired state of each router as of the last pass after which it was right. */
  readonly #right = new Map<Vni, DesiredRouter>()

  /** @param carrier unless it is the bridge, a router's port belongs to a switch, and another part connects it */
  constructor(kernel: Kernel, p: { readonly support: () => ShapingSupport; readonly carrier: Carrier }) {
    this.#kernel = kernel
    this.#support = p.support
    this.#carrier = p.carrier
    this.#hostRules = new HostRules(kernel, this.#writer)
  }

  /** See Guard.onWrite; for the rules of the host. */
  set onWrite(heard: (from: number, to: number) => void) {
    this.#hostRules.onWrite = heard
  }

  /** @throws ERR_KERNEL when the host cannot be read */
  async observe({ scope, trust, desired }: Look): Promise<GatewayReading> {
    const all = desired.gateways()
    const wanted = scopedTo(all, scope)
    const before = new Map(this.#right)
    const reading = await this.#read(wanted, { scope, trust, before, all })
    return { wanted, before, reading, support: this.#support() }
  }

  plan({ desired }: Look, read: GatewayReading): PartPlan<GatewayStep> {
    const { wanted, reading } = read
    const all = desired.gateways()
    if (reading.kind === 'nothing') return { ops: [], problems: [] }
    const { ops, conflicts, refused } =
      reading.kind === 'routes'
        ? {
            ...planHostRouteOps(all, { wanted: [...wanted.routers.values()], leaving: [], observed: reading.routes }),
            conflicts: []
          }
        : planGateways(wanted, reading.observed, { all, carrier: this.#carrier })
    const problems = [
      ...conflicts.map(({ vni, reason }) => problem(vni, NO_WAY_OUT, reason)),
      ...refused.map(({ vni, reason }) => problem(vni, NO_WAY_IN, reason)),
      ...unshaped(wanted, read.support)
    ]
    return { ops: ops.map(op => ({ op, repairs: isRepair(op, read) })), problems }
  }

  /**
   * Runs the ops in order. If the host's rules cannot be set, the remaining ops are skipped, or, if only those of IPv6
   * cannot, what opens IPv6: nothing may be opened that the rules would guard.
   */
  async execute(steps: readonly GatewayStep[]): Promise<PartResult<GatewayStep>> {
    const done: GatewayStep[] = []
    const failures: PartResult<GatewayStep>['failures'][number][] = []
    const unguarded = new Set<Family>()
    for (const step of steps) {
      const { op } = step
      if (opensFamilies(op).some(family => unguarded.has(family))) continue
      try {
        await this.#executeOp(op)
        done.push(step)
      } catch (err) {
        const effect = isHostRoute(op) ? NO_WAY_IN : NO_WAY_OUT
        const message = `${describeGatewayOp(op)}: ${asVxmeshError(err).message}`
        failures.push({ op: step, problem: problem(networkOf(op), effect, message) })
        if (op.kind !== 'rules-set') continue
        if (op.family === 'ipv4') break
        unguarded.add(op.family)
      }
    }
    return { done, failures, again: null }
  }

  note({ op, repairs }: GatewayStep): OpNote {
    const { kind } = op
    return { kind, vni: networkOf(op), removes: removesGateway(op), repairs, text: () => describeGatewayOp(op) }
  }

  settled({ scope }: Look, { wanted, reading }: GatewayReading, problems: readonly PartProblem[]): void {
    const failed = new Set(problems.map(({ vni }) => vni))
    if (scope === null) this.#right.clear()
    else if (wanted.routers.size === 0) this.#right.delete(scope)
    for (const router of wanted.routers.values()) {
      const seen = reading.kind !== 'routers' || reading.observed.routers.has(router.vni)
      if (seen && !failed.has(router.vni) && !failed.has(null)) this.#right.set(router.vni, router)
      else this.#right.delete(router.vni)
    }
  }

  /**
   * A filter moved the generation of the host's rule set. If nothing else did, the cache stays valid: nft need not list the
   * rules for each attach and detach.
   */
  follow(from: number, to: number): void {
    this.#hostRules.follow(from, to)
  }

  /** For `doctor`: can rules be set, and do others let pass what we forward? An accept of ours cannot overrule a drop. */
  async features(): Promise<readonly Feature[]> {
    return [await this.#egress(), await this.#writer.feature()]
  }

  async #egress(): Promise<Feature> {
    const name = 'egress'
    try {
      const chains = await listChains(this.#kernel.netns)
      const drops = foreignForwardDrops(chains, familiesWith(hasIpv6({ routers: this.#right })))
      const detail = drops.length === 0 ? 'works' : `${drops.join(', ')} drops what is forwarded: ${FORWARD_REMEDY}`
      return { name, present: drops.length === 0, required: false, detail }
    } catch (err) {
      return { name, present: false, required: false, detail: asVxmeshError(err).message }
    }
  }

  async #read(
    wanted: DesiredGateways,
    p: Pick<Look, 'scope' | 'trust'> & {
      readonly before: ReadonlyMap<Vni, DesiredRouter>
      readonly all: DesiredGateways
    }
  ): Promise<Reading> {
    const change = p.trust ? changeSince(p.before, wanted, p.scope) : 'routers'
    switch (change) {
      case 'nothing':
        return { kind: 'nothing' }
      case 'host-routes':
        return { kind: 'routes', routes: readHostRoutes(this.#readRoutes(p.all), wanted.transit) }
      case 'routers':
        return { kind: 'routers', observed: await this.#observe(wanted, p) }
    }
  }

  #readRoutes(all: DesiredGateways): RouteTables {
    return readRouteTables(this.#kernel.socket, familiesWith(hasIpv6(all)))
  }

  async #observe(
    desired: DesiredGateways,
    { scope, all }: Pick<Look, 'scope'> & { readonly all: DesiredGateways }
  ): Promise<ObservedGateways> {
    const kernel = this.#kernel
    const tables = readTables(kernel.socket, familiesWith(hasIpv6(all)))
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
    const host = await this.#hostRules.observe()
    const routers = new Map<Vni, ObservedRouter>()
    for (const router of desired.routers.values()) {
      // The state is newer than the last pass over the networks; the next one creates the bridge, and then the router.
      if (this.#carrier === 'bridge' && !tables.links.has(router.bridge)) continue
      routers.set(router.vni, observeRouter(look, router))
      // Reading many routers at once would block the event loop.
      await nextTurn()
    }
    return {
      host: {
        ...host,
        uplinks: readUplinks(kernel, tables),
        underlay: underlayPrefixes(tables, desired.underlay),
        exits: readExits(tables, desired.transit),
        routes: readHostRoutes(tables, desired.transit),
        v6: { ...host.v6, exits: readExits(tables, TRANSIT_V6), bridges: readBridges(tables) }
      },
      routers,
      leftovers: findLeftovers(look, new Set(desired.routers.keys())).filter(({ vni }) => vni === (scope ?? vni))
    }
  }

  async #executeOp(op: GatewayOp): Promise<void> {
    const kernel = this.#kernel
    const { netns } = kernel
    switch (op.kind) {
      case 'rules-set':
        await this.#hostRules.set(op.family, op.text)
        break
      case 'rules-delete':
        await this.#hostRules.delete(op.family)
        break
      case 'forwarding-set':
        if (op.device === null) switchForwardingV6(kernel, op.on)
        else writeSysctls(netns, [{ key: `net/ipv4/conf/${op.device}/forwarding`, value: op.on ? '1' : '0' }])
        break
      case 'router-create': {
        const { router } = op
        const name = await createRouter(this.#work(router), { hostNetns: hostNetnsNumber(kernel) })
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
    return { kernel: this.#kernel, router, support: this.#support(), carrier: this.#carrier, writer: this.#writer }
  }

  #remember(router: DesiredRouter, path: string): void {
    this.#rules.set(path, { text: routerRules(router), generation: readGeneration(path) })
  }
}

function hasIpv6({ routers }: Pick<DesiredGateways, 'routers'>): boolean {
  return [...routers.values()].some(router => routerSubnet(router, 'ipv6') !== undefined)
}

function scopedTo(desired: DesiredGateways, scope: Vni | null): DesiredGateways {
  if (scope === null) return desired
  const router = desired.routers.get(scope)
  return { ...desired, routers: router === undefined ? new Map() : new Map([[scope, router]]) }
}

function problem(vni: Vni | null, effect: string, message: string): PartProblem {
  return { vni, effect, error: new VxmeshError('ERR_KERNEL', message) }
}

/** A limit that the kernel cannot enforce is reported, not dropped in silence. */
function unshaped(desired: DesiredGateways, support: ShapingSupport): readonly PartProblem[] {
  if (support.rate) return []
  return [...desired.routers.values()]
    .filter(({ egressRate }) => egressRate > 0)
    .map(({ vni }) => problem(vni, NO_WAY_OUT, 'this kernel cannot shape: the egress rate is not held'))
}
