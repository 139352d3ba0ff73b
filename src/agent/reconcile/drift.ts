// What was right when last looked at. By it repairs of what somebody else has changed are told from what the state has
// brought, and a network that nobody has touched since need not be looked at again.

import { isDeepStrictEqual } from 'node:util'
import type { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import type { DesiredHost, DesiredNetwork } from '#overlay/plan/network/desired.ts'
import { describe, type Op } from '#overlay/plan/network/op.ts'
import type { Logger } from '#platform/log.ts'
import type { Scope } from './retry-state.ts'

const LOGGED_OPS = 20

/** What a pass wanted, and what it did. */
export type Looked = {
  readonly want: DesiredHost
  /** The networks that are wanted, as the state had them. */
  readonly of: ReadonlyMap<Vni, Network | undefined>
  readonly ops: readonly Op[]
  readonly problems: ReadonlyMap<Scope, VxmeshError[]>
}

export class Drift {
  readonly #logger: Logger
  readonly #repaired = new Map<string, number>()
  /** What each network was like when a pass last left nothing: ops for one that is the same repair drift. */
  readonly #settled = new Map<Vni, { readonly want: DesiredNetwork; readonly of: Network | undefined }>()
  /** Has everything been looked at once? */
  #complete = false

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** See OverlayStatus.repaired. */
  get repaired(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#repaired)
  }

  /** Did the last look at it leave nothing, and is it still that network? */
  isSettled(network: Network): boolean {
    return this.#settled.get(network.vni)?.of === network
  }

  /** A full pass came to its end; these are the places that it could not put right. */
  settleAll(look: Looked, problems: ReadonlyMap<Scope, unknown>): void {
    this.#settled.clear()
    for (const vni of look.want.networks.keys()) if (!problems.has(vni)) this.settle(vni, look)
    this.#complete = true
  }

  /** Nothing is left to do in this network, or it is here no more. */
  settle(vni: Vni, { want, of }: Looked): void {
    const network = want.networks.get(vni)
    if (network === undefined) this.#settled.delete(vni)
    else this.#settled.set(vni, { want: network, of: of.get(vni) })
  }

  /** Counts what a pass has done in networks that were to be the same before; to be called before they are settled anew. */
  account(look: Looked): void {
    const { ops, problems } = look
    const same = new Map<Vni | null, boolean>()
    for (const op of ops) {
      if (problems.has(op.vni ?? 'host')) continue
      const drifted = same.get(op.vni) ?? this.#isAsSettled(look, op.vni)
      same.set(op.vni, drifted)
      if (drifted) this.count(op.kind, describe(op))
    }
    if (ops.length > 0) this.#logger.debug({ ops: ops.length, failed: problems.size }, 'reconciled')
  }

  count(kind: string, what: string): void {
    const count = (this.#repaired.get(kind) ?? 0) + 1
    this.#repaired.set(kind, count)
    // A flood of repairs is told by its first and by round numbers: the counters have the rest.
    if (count <= LOGGED_OPS || count % 1_000 === 0) this.#logger.info({ what, kind, count }, 'drift repaired')
  }

  #isAsSettled({ want }: Looked, vni: Vni | null): boolean {
    const network = vni === null ? undefined : want.networks.get(vni)
    const before = vni === null ? undefined : this.#settled.get(vni)?.want
    if (network === undefined) return before === undefined && this.#complete
    return before !== undefined && isDeepStrictEqual(network, before)
  }
}
