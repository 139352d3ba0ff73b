// Remembers the desired state of each network as of the last pass after which it was right. An op for a network whose
// desired state is the same repairs drift. A network that has not changed since need not be observed again.

import { isDeepStrictEqual } from 'node:util'
import type { Vni } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import type { OpNote, PartReport } from '#overlay/pass.ts'
import type { DesiredHost, DesiredNetwork } from '#overlay/plan/network/desired.ts'
import type { Logger } from '#platform/log.ts'
import { isEgress, problemsOf, scopeOf } from './pass-problems.ts'
import type { Scope } from './retry-state.ts'

const LOGGED_REPAIRS = 20

/** What a pass read from the state, and what its parts did. */
export type PassRecord = {
  readonly desired: DesiredHost
  /**
   * The desired networks. A network's object is replaced whenever anything of it changes, so identity means unchanged.
   */
  readonly networks: ReadonlyMap<Vni, Network | undefined>
  readonly reports: readonly PartReport[]
}

export class Drift {
  readonly #logger: Logger
  readonly #repaired = new Map<string, number>()
  /** By VNI, as of the last pass after which the network was right. */
  readonly #settled = new Map<Vni, { readonly desired: DesiredNetwork; readonly network: Network | undefined }>()
  /** Has a full pass completed? */
  #complete = false

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** See OverlayStatus.repaired. */
  get repaired(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#repaired)
  }

  /** Was the network right after its last pass, and is its state unchanged since then? */
  isSettled(network: Network): boolean {
    return this.#settled.get(network.vni)?.network === network
  }

  /** After a full pass; the networks with problems are not settled. */
  settleAll(pass: PassRecord, problems: ReadonlyMap<Scope, unknown>): void {
    this.#settled.clear()
    for (const vni of pass.desired.networks.keys()) if (!problems.has(vni)) this.settle(vni, pass)
    this.#complete = true
  }

  /** Records that this network is right, or is no longer on this host. */
  settle(vni: Vni, { desired, networks }: PassRecord): void {
    const network = desired.networks.get(vni)
    if (network === undefined) this.#settled.delete(vni)
    else this.#settled.set(vni, { desired: network, network: networks.get(vni) })
  }

  /** Counts the repairs of a pass. Call it before its networks are settled again. */
  account({ desired, reports }: PassRecord): void {
    const others = reports.filter(report => !isEgress(report))
    const problems = problemsOf(others)
    const ops = others.filter(({ concern }) => concern !== 'filter').flatMap(({ done }) => done)
    const same = new Map<Vni | null, boolean>()
    for (const op of ops) {
      if (problems.has(scopeOf(op))) continue
      const repairs = same.get(op.vni) ?? this.#isAsSettled(desired, op.vni)
      same.set(op.vni, repairs)
      if (repairs) this.count(op.kind, op.text())
    }
    this.countRepairs(reports)
    if (ops.length > 0) this.#logger.debug({ ops: ops.length, failed: problems.size }, 'reconciled')
  }

  /** Counts the ops that their own part knows to be repairs. */
  countRepairs(reports: readonly PartReport[]): void {
    const repairs = reports.flatMap(({ done }): readonly OpNote[] => done.filter(op => op.repairs))
    for (const { kind, text } of repairs) this.count(kind, text())
  }

  count(kind: string, what: string): void {
    const count = (this.#repaired.get(kind) ?? 0) + 1
    this.#repaired.set(kind, count)
    // Only the first LOGGED_REPAIRS and every thousandth are logged; the counters include all of them.
    if (count <= LOGGED_REPAIRS || count % 1_000 === 0) this.#logger.info({ what, kind, count }, 'drift repaired')
  }

  /** Ops for no network, or for one that is not desired here, repair drift once a full pass has succeeded. */
  #isAsSettled({ networks }: DesiredHost, vni: Vni | null): boolean {
    const network = vni === null ? undefined : networks.get(vni)
    const before = vni === null ? undefined : this.#settled.get(vni)?.desired
    if (network === undefined) return before === undefined && this.#complete
    return before !== undefined && isDeepStrictEqual(network, before)
  }
}
