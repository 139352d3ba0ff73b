// Connects a new container or router to the switch without waiting for the next pass.

import { VxmeshError } from '#model/errors.ts'
import type { AttachRequest } from '../driver.ts'
import { executeForwarding, forwardingLook } from '../forwarding-part.ts'
import type { Connector } from '../linux/devices.ts'
import type { Look, OpNote, Part, PartPlan, PartResult } from '../pass.ts'
import { NO_WAY_OUT } from '../plan/gateway/plan-gateway.ts'
import type { DesiredHost } from '../plan/network/desired.ts'
import type { Observed } from '../plan/network/observed.ts'
import { OP_TRAITS, type SwitchOp } from '../plan/network/op.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { observedPort, type Bridge, type Datapath } from './bridge.ts'
import type { SwitchForwarding } from './forwarding.ts'

/** Removals wait for a pass that knows whether anything may be removed. */
const isAddition = (op: SwitchOp): boolean => !OP_TRAITS[op.kind].removes

export class SwitchConnector implements Connector {
  readonly #bridge: Pick<Bridge, 'read'>
  readonly #datapath: Datapath
  readonly #forwarding: SwitchForwarding

  constructor(p: {
    readonly bridge: Pick<Bridge, 'read'>
    readonly datapath: Datapath
    readonly forwarding: SwitchForwarding
  }) {
    this.#bridge = p.bridge
    this.#datapath = p.datapath
    this.#forwarding = p.forwarding
  }

  /** Its port and flows first; then its end is set up. */
  async connect(request: AttachRequest, desired: DesiredHost): Promise<void> {
    const { vni, hostInterface, portNumber } = request
    const network = desired.networks.get(vni)
    if (network === undefined) {
      throw new VxmeshError('ERR_KERNEL', `attach ${hostInterface}: network ${vni} is not made here`)
    }
    const only = { networks: new Map([[vni, network]]), peers: desired.peers }
    const requested = new Map<string, number>(portNumber === undefined ? [] : [[hostInterface, portNumber]])
    const observed = await this.#forwarding.observe({ scope: vni, desired: () => only })
    const { ops } = this.#forwarding.planPorts(only, observed, requested)
    const { failures } = await this.#forwarding.execute(ops.filter(isAddition))
    if (failures[0] !== undefined) throw failures[0].error
    if (this.portNumber(hostInterface) === 0) {
      throw new VxmeshError('ERR_KERNEL', `attach ${hostInterface}: it has vanished meanwhile, with its container`)
    }
  }

  async check({ hostInterface }: AttachRequest): Promise<void> {
    const { interfaces } = await this.#bridge.read()
    const row = interfaces.get(hostInterface)
    if (row === undefined || observedPort(row).number === 0) {
      throw new VxmeshError('ERR_CHECK_FAILED', `${hostInterface} is no port of the switch`)
    }
  }

  portNumber(hostInterface: string): number {
    return this.#forwarding.portNumber(hostInterface)
  }

  /** The userspace datapath takes a container's packets before a queue sees them: it could hold a rate in one direction only. */
  limit(support: ShapingSupport): ShapingSupport {
    return this.#datapath === 'netdev' ? { ...support, rate: false, delay: false } : support
  }
}

/** Runs after the part that makes routers: those that are new become ports of the switch. */
export class RouterPorts implements Part<Observed | null, SwitchOp> {
  readonly name = 'router-ports'
  readonly concern = 'egress'
  readonly attempts = 1
  readonly #forwarding: SwitchForwarding

  constructor(forwarding: SwitchForwarding) {
    this.#forwarding = forwarding
  }

  /** Null: every router has its port. */
  async observe(look: Look): Promise<Observed | null> {
    const { scope, desired } = look
    const routers = [...desired.gateways().routers.values()].filter(({ vni }) => scope === null || scope === vni)
    const unconnected = routers.filter(({ port }) => this.#forwarding.portNumber(port) === 0)
    if (unconnected.length === 0) return null
    const here = unconnected.filter(({ vni }) => desired.host().networks.has(vni))
    const [first] = here
    if (first === undefined) return null
    return this.#forwarding.observe({ ...forwardingLook(look), scope: here.length === 1 ? first.vni : scope })
  }

  plan({ desired }: Look, observed: Observed | null): PartPlan<SwitchOp> {
    if (observed === null) return { ops: [], problems: [] }
    const { ops } = this.#forwarding.plan(desired.host(), observed)
    return { ops: ops.filter(isAddition), problems: [] }
  }

  async execute(ops: readonly SwitchOp[]): Promise<PartResult<SwitchOp>> {
    const { done, failures } = await executeForwarding(this.#forwarding, ops)
    return {
      done,
      failures: failures.map(({ op, problem }) => ({ op, problem: { ...problem, effect: NO_WAY_OUT } })),
      again: null
    }
  }

  note(op: SwitchOp): OpNote {
    return this.#forwarding.note(op)
  }
}
