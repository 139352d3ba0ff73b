// Forwarding by bridges in a simulated kernel, with the real planner: what a driver does, without root.

import { asVxmeshError } from '#model/errors.ts'
import type { ExecuteResult, Forwarding, ForwardingLook } from '#overlay/driver.ts'
import { networkOpNote } from '#overlay/forwarding-part.ts'
import type { OpNote } from '#overlay/pass.ts'
import type { DesiredHost } from '#overlay/plan/network/desired.ts'
import type { Observed } from '#overlay/plan/network/observed.ts'
import type { BridgeOp } from '#overlay/plan/network/op.ts'
import { linkNetwork, plan, type Plan } from '#overlay/plan/network/plan-network.ts'
import { SimulatedKernel } from './simulated-kernel.ts'

export class SimulatedForwarding implements Forwarding<Observed, BridgeOp> {
  readonly kernel = new SimulatedKernel()
  readonly looks: ForwardingLook['scope'][] = []
  /** Throws for ops that the kernel is to refuse although they are possible. */
  refuse: (op: BridgeOp) => void = () => undefined
  observeError: Error | null = null

  async observe({ scope }: ForwardingLook): Promise<Observed> {
    this.looks.push(scope)
    if (this.observeError !== null) throw this.observeError
    const { links } = this.kernel.observe()
    if (scope === null) return { links, scope }
    return { links: new Map([...links].filter(([, link]) => linkNetwork(link) === scope)), scope }
  }

  plan(desired: DesiredHost, observed: Observed): Plan<BridgeOp> {
    return plan(desired, observed)
  }

  /** After a failed op the rest of its network is skipped. */
  async execute(ops: readonly BridgeOp[]): Promise<ExecuteResult<BridgeOp>> {
    const failures: ExecuteResult<BridgeOp>['failures'][number][] = []
    const broken = new Set<BridgeOp['vni']>()
    let [done, skipped] = [0, 0]
    for (const op of ops) {
      if (broken.has(op.vni)) {
        skipped++
        continue
      }
      try {
        this.refuse(op)
        this.kernel.run([op])
        done++
      } catch (err) {
        failures.push({ op, error: asVxmeshError(err) })
        broken.add(op.vni)
      }
    }
    return { done, skipped, failures }
  }

  note(op: BridgeOp): OpNote {
    return networkOpNote(op)
  }
}
