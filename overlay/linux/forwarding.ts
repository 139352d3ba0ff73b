// Forwarding by kernel bridges and VXLAN devices.

import type { ExecuteResult, Forwarding, ForwardingLook } from '../driver.ts'
import { networkOpNote } from '../forwarding-part.ts'
import type { OpNote } from '../pass.ts'
import type { DesiredHost } from '../plan/network/desired.ts'
import type { Observed } from '../plan/network/observed.ts'
import type { BridgeOp } from '../plan/network/op.ts'
import { linkNetwork, plan, type Plan } from '../plan/network/plan-network.ts'
import type { DeviceHost } from './devices.ts'
import { execute } from './execute.ts'
import { observe } from './observe.ts'

/** After these a device has another index, or none. */
const RENEWS: readonly BridgeOp['kind'][] = ['bridge-create', 'vxlan-create', 'device-delete']

export class BridgeForwarding implements Forwarding<Observed, BridgeOp> {
  readonly #host: DeviceHost

  constructor(host: DeviceHost) {
    this.#host = host
  }

  async observe({ scope }: Pick<ForwardingLook, 'scope'> = { scope: null }): Promise<Observed> {
    await Promise.resolve()
    const { kernel, support, networks, indexes, sampling } = this.#host
    if (scope === null) sampling.next()
    const observed = observe(kernel, scope, { support: support(), sampling })
    // Observing the host forgets deleted devices; observing one network only adds.
    if (scope === null) {
      networks.clear()
      indexes.clear()
    }
    for (const link of observed.links.values()) {
      networks.set(link.ifindex, linkNetwork(link))
      indexes.set(link.name, link.ifindex)
    }
    return observed
  }

  plan(desired: DesiredHost, observed: Observed): Plan<BridgeOp> {
    return plan(desired, observed)
  }

  execute(ops: readonly BridgeOp[]): Promise<ExecuteResult<BridgeOp>> {
    for (const { kind, device } of ops) if (RENEWS.includes(kind)) this.#host.indexes.delete(device)
    return execute(this.#host, ops)
  }

  note(op: BridgeOp): OpNote {
    return networkOpNote(op)
  }
}
