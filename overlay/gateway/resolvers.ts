// The resolvers of this host's routers as a part of a pass: a listener stands in each router's namespace that is to have one, and is
// opened again when the namespace is another one. What it answers is not this room's business.

import { statSync } from 'node:fs'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Look, OpNote, Part, PartPlan, PartResult } from '../pass.ts'
import type { DesiredRouter } from '../plan/gateway/desired-gateway.ts'
import { findRouter, ownNetnsNumber } from './observe.ts'

export type RunningListener = { close(): void }

/** Starts to answer at the gateway addresses. @param netns path of the router's namespace @throws ERR_NETNS, ERR_KERNEL */
export type Listen = (netns: string, router: DesiredRouter) => RunningListener

type Open = {
  readonly listener: RunningListener
  /** What it was opened for: see `signOf`. */
  readonly sign: string
  readonly netns: string
  /** An open socket keeps its namespace, so no other one can have this number meanwhile. */
  readonly inode: number
}

/** `repairs`: the namespace was replaced. */
export type ResolverOp =
  | {
      readonly kind: 'resolver-open'
      readonly router: DesiredRouter
      readonly netns: string
      readonly repairs: boolean
    }
  | { readonly kind: 'resolver-close'; readonly vni: Vni }

type Wanted = { readonly router: DesiredRouter; readonly netns: string; readonly repairs: boolean }

export type ResolverReading = {
  /** Routers whose listener is missing or not the right one. */
  readonly open: readonly Wanted[]
  readonly close: readonly Vni[]
}

export class Resolvers implements Part<ResolverReading, ResolverOp> {
  readonly name = 'resolvers'
  readonly concern = 'egress'
  readonly attempts = 1
  readonly #listen: Listen
  readonly #open = new Map<Vni, Open>()

  constructor(listen: Listen) {
    this.#listen = listen
  }

  get size(): number {
    return this.#open.size
  }

  /** A router without a namespace is the business of the part before this one. */
  observe({ scope, trust, desired }: Look): Promise<ResolverReading> {
    const inScope = (vni: Vni): boolean => scope === null || scope === vni
    const { routers } = desired.gateways()
    const wanted = [...routers.values()].filter(({ vni, queryRate }) => inScope(vni) && queryRate !== null)
    const close = [...this.#open.keys()].filter(vni => inScope(vni) && (routers.get(vni)?.queryRate ?? null) === null)
    const open = wanted.flatMap(router => {
      const has = this.#open.get(router.vni)
      const isSame = has?.sign === signOf(router)
      if (isSame && (trust || isThere(has))) return []
      const netns = findRouter(router.vni, ownNetnsNumber())
      return netns === null ? [] : [{ router, netns, repairs: isSame }]
    })
    return Promise.resolve({ open, close })
  }

  plan(_look: Look, { open, close }: ResolverReading): PartPlan<ResolverOp> {
    const opening = open.map(one => ({ kind: 'resolver-open', ...one }) as const)
    return { ops: [...close.map(vni => ({ kind: 'resolver-close', vni }) as const), ...opening], problems: [] }
  }

  execute(ops: readonly ResolverOp[]): Promise<PartResult<ResolverOp>> {
    const done: ResolverOp[] = []
    const failures: PartResult<ResolverOp>['failures'][number][] = []
    for (const op of ops) {
      try {
        if (op.kind === 'resolver-close') this.#close(op.vni)
        else this.#reopen(op)
        done.push(op)
      } catch (err) {
        const { message } = asVxmeshError(err)
        const problem = { vni: vniOf(op), effect: 'no names', error: new VxmeshError('ERR_KERNEL', message) }
        failures.push({ op, problem })
      }
    }
    return Promise.resolve({ done, failures, again: null })
  }

  note(op: ResolverOp): OpNote {
    const { kind } = op
    const text = (): string => `${kind === 'resolver-open' ? 'open' : 'close'} the resolver (vni ${vniOf(op)})`
    const repairs = op.kind === 'resolver-open' && op.repairs
    return { kind, vni: vniOf(op), removes: kind === 'resolver-close', repairs, text }
  }

  /** Names are not answered any more; the routers stay. */
  stop(): void {
    for (const vni of [...this.#open.keys()]) this.#close(vni)
  }

  #reopen({ router, netns }: Wanted): void {
    this.#close(router.vni)
    const { ino } = statSync(netns)
    this.#open.set(router.vni, { listener: this.#listen(netns, router), sign: signOf(router), netns, inode: ino })
  }

  #close(vni: Vni): void {
    this.#open.get(vni)?.listener.close()
    this.#open.delete(vni)
  }
}

/** What of a router its listener depends on. */
function signOf({ name, subnets, queryRate }: DesiredRouter): string {
  return `${name} ${queryRate} ${subnets.map(({ gateway }) => gateway).join(' ')}`
}

function isThere({ netns, inode }: Open): boolean {
  return statSync(netns, { throwIfNoEntry: false })?.ino === inode
}

function vniOf(op: ResolverOp): Vni {
  return op.kind === 'resolver-open' ? op.router.vni : op.vni
}
