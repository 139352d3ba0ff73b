// The routers of this host as a part of a pass. Cached are only the rules known to be unchanged and the routers that
// were right. Everything else is read from the kernel, so a restarted agent resumes where the last one stopped.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { namedNetns } from '#platform/named-netns.ts'
import { readSysctls, writeSysctls } from '#platform/netns.ts'
import type { Feature } from '../driver.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { readGeneration, readTable } from '../kernel/generation.ts'
import { listChains } from '../kernel/nft.ts'
import { readTables, readRouteTables } from '../kernel/tables.ts'
import { nextGeneration } from '../netlink/nftables.ts'
import type { Look, OpNote, Part, PartPlan, PartProblem, PartResult } from '../pass.ts'
import type { DesiredGateways, DesiredRouter } from '../plan/gateway/desired-gateway.ts'
import { RULES } from '../plan/gateway/facts.ts'
import type { ObservedHostRoutes } from '../plan/gateway/host-access.ts'
import {
  describeGatewayOp,
  isHostRoute,
  networkOf,
  NO_WAY_IN,
  NO_WAY_OUT,
  planGateways,
  planHostRouteOps,
  removesGateway,
  type GatewayOp,
  type ObservedGateways,
  type ObservedHost,
  type ObservedRouter
} from '../plan/gateway/plan-gateway.ts'
import {
  closedIn,
  FORWARD_REMEDY,
  foreignForwardDrops,
  HOST_TABLE,
  noHostRules,
  routerRules
} from '../plan/gateway/rules.ts'
import type { Carrier } from '../plan/network/switch.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { changeHostRoutes, createRouter, removeRouter, repairRouter, type RouterWork } from './execute.ts'
import {
  findLeftovers,
  hostNetnsNumber,
  observeRouter,
  readExits,
  readHostRoutes,
  readUplinks,
  underlayPrefixes
} from './observe.ts'
import { changeSince, isRepair, type RoutersBefore } from './router-change.ts'
import type { RouterLook } from './router-facts.ts'
import { RuleWriter } from './rule-writer.ts'

/** Of the kernel's table of connections, where it is not loaded yet: our rules load it. */
const DEFAULT_TABLE_SIZE = 262_144

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
  #host: WrittenRules & { readonly listing: string | null; readonly closed: readonly string[] } = {
    text: '',
    generation: null,
    listing: null,
    closed: []
  }
  /** See Guard.onWrite; for the rules of the host. */
  onWrite: (from: number, to: number) => void = () => undefined
  /** By path of the namespace. */
  readonly #rules = new Map<string, WrittenRules>()
  /** The desired state of each router as of the last pass after which it was right. */
  readonly #right = new Map<Vni, DesiredRouter>()

  /** @param carrier unless it is the bridge, a router's port belongs to a switch, and another part connects it */
  constructor(kernel: Kernel, p: { readonly support: () => ShapingSupport; readonly carrier: Carrier }) {
    this.#kernel = kernel
    this.#support = p.support
    this.#carrier = p.carrier
  }

  /** @throws ERR_KERNEL when the host cannot be read */
  async observe({ scope, trust, desired }: Look): Promise<GatewayReading> {
    const wanted = scopedTo(desired.gateways(), scope)
    const before = new Map(this.#right)
    const reading = await this.#read(wanted, { scope, trust, before })
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
   * Runs the ops in order. If the host's rules cannot be set, the remaining ops are skipped: nothing may be opened that
   * the rules would guard.
   */
  async execute(steps: readonly GatewayStep[]): Promise<PartResult<GatewayStep>> {
    const done: GatewayStep[] = []
    const failures: PartResult<GatewayStep>['failures'][number][] = []
    for (const step of steps) {
      const { op } = step
      try {
        await this.#executeOp(op)
        done.push(step)
      } catch (err) {
        const effect = isHostRoute(op) ? NO_WAY_IN : NO_WAY_OUT
        const message = `${describeGatewayOp(op)}: ${asVxmeshError(err).message}`
        failures.push({ op: step, problem: problem(networkOf(op), effect, message) })
        if (op.kind === 'rules-set') break
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
    if (this.#host.generation === from) this.#host = { ...this.#host, generation: to }
  }

  /** For `doctor`: can rules be set, and do others let pass what we forward? An accept of ours cannot overrule a drop. */
  async features(): Promise<readonly Feature[]> {
    return [await this.#egress(), await this.#writer.feature()]
  }

  async #egress(): Promise<Feature> {
    const name = 'egress'
    try {
      const drops = foreignForwardDrops(await listChains(this.#kernel.netns))
      const detail = drops.length === 0 ? 'works' : `${drops.join(', ')} drops what is forwarded: ${FORWARD_REMEDY}`
      return { name, present: drops.length === 0, required: false, detail }
    } catch (err) {
      return { name, present: false, required: false, detail: asVxmeshError(err).message }
    }
  }

  async #read(
    wanted: DesiredGateways,
    p: Pick<Look, 'scope' | 'trust'> & { readonly before: ReadonlyMap<Vni, DesiredRouter> }
  ): Promise<Reading> {
    const change = p.trust ? changeSince(p.before, wanted, p.scope) : 'routers'
    switch (change) {
      case 'nothing':
        return { kind: 'nothing' }
      case 'host-routes':
        return { kind: 'routes', routes: readHostRoutes(readRouteTables(this.#kernel.socket), wanted.transit) }
      case 'routers':
        return { kind: 'routers', observed: await this.#observe(wanted, p.scope) }
    }
  }

  async #observe(desired: DesiredGateways, scope: Vni | null): Promise<ObservedGateways> {
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
        routes: readHostRoutes(tables, desired.transit)
      },
      routers,
      leftovers: findLeftovers(look, new Set(desired.routers.keys())).filter(({ vni }) => vni === (scope ?? vni))
    }
  }

  /** Lists the rules only if any program, this agent included, has changed some since the last listing. */
  async #observeHost(): Promise<Pick<ObservedHost, 'ipForward' | 'closed' | 'rules' | 'table' | 'tableSize'>> {
    const { netns } = this.#kernel
    const generation = readGeneration(netns)
    if (generation === null || generation !== this.#host.generation) {
      const listing = await readTable(netns, HOST_TABLE)
      const text = listing !== null && listing === this.#host.listing ? this.#host.text : ''
      // The table records the closed devices. If another program deleted it, they are still closed.
      this.#host = { text, generation, listing, closed: listing === null ? this.#host.closed : closedIn(listing) }
    }
    const { text, listing, closed } = this.#host
    const [forward, most] = readSysctls(netns, ['net/ipv4/ip_forward', 'net/netfilter/nf_conntrack_max'])
    return {
      ipForward: forward === '1',
      tableSize: Number(most ?? DEFAULT_TABLE_SIZE),
      closed,
      rules: text === '' ? null : text,
      table: listing !== null
    }
  }

  async #executeOp(op: GatewayOp): Promise<void> {
    const kernel = this.#kernel
    const { netns } = kernel
    switch (op.kind) {
      case 'rules-set':
        await this.#writeHostRules(op.text, op.text)
        break
      case 'rules-delete':
        await this.#writeHostRules(noHostRules(), '')
        break
      case 'forwarding-set':
        writeSysctls(netns, [{ key: `net/ipv4/conf/${op.device}/forwarding`, value: op.on ? '1' : '0' }])
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

  async #writeHostRules(script: string, text: string): Promise<void> {
    const { netns } = this.#kernel
    const before = readGeneration(netns)
    await this.#writer.write(netns, script, `write ${HOST_TABLE}`)
    const generation = readGeneration(netns)
    if (before !== null && generation === nextGeneration(before)) this.onWrite(before, generation)
    const listing = await readTable(netns, HOST_TABLE)
    this.#host = { text, generation, listing, closed: closedIn(listing) }
  }

  #work(router: DesiredRouter): RouterWork {
    return { kernel: this.#kernel, router, support: this.#support(), carrier: this.#carrier, writer: this.#writer }
  }

  #remember(router: DesiredRouter, path: string): void {
    this.#rules.set(path, { text: routerRules(router), generation: readGeneration(path) })
  }
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
